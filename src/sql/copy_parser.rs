//! `COPY … TO STDOUT`, `COPY … FROM STDIN`.

use sqlparser::ast::{
    self, CopyLegacyCsvOption, CopyLegacyOption, CopyOption, CopySource, CopyTarget,
};

use super::parser::{Parsed, StatementParser, parse};
use super::statement::{Copy, CopyFormat, CopyIn, CopyKind, StatementKind};
use super::syntax;
use crate::error::{Error, ErrorKind, Result};

impl StatementParser<'_> {
    pub(super) fn copy(&mut self) -> Parsed<StatementKind> {
        let position = self.position();
        let ast::Statement::Copy { source, to, target, options, legacy_options, values: _ } =
            syntax::parse_statement(&mut self.inner)?
        else {
            return Err(self.unsupported_statement().into());
        };
        let is_wire = target == if to { CopyTarget::Stdout } else { CopyTarget::Stdin };
        if !is_wire {
            let (word, end) = if to { ("to", "TO STDOUT") } else { ("from", "FROM STDIN") };
            let message = format!("COPY {word} a file or program is not supported");
            let hint = format!("use COPY ... {end}, or \\copy in psql");
            return Err(Error::unsupported(message).at(position).with_hint(hint).into());
        }
        let mut asked = Asked::default();
        asked.read(&options, &legacy_options).map_err(|error| error.at(position))?;
        let format = asked.format().map_err(|error| error.at(position))?;
        let text = match source {
            CopySource::Table { table_name: table, columns } if !to => {
                let name = |column| ast::ObjectName::from(vec![column]);
                let columns = columns.into_iter().map(name).collect();
                return Ok(StatementKind::CopyIn(Box::new(CopyIn { table, columns, format })));
            }
            CopySource::Query(query) => query.to_string(),
            CopySource::Table { table_name, columns } if columns.is_empty() => {
                format!("SELECT * FROM {table_name}")
            }
            CopySource::Table { table_name, columns } => {
                let columns = columns.iter().map(ToString::to_string).collect::<Vec<_>>();
                format!("SELECT {} FROM {table_name}", columns.join(", "))
            }
        };
        let query = parse(&text)?.pop();
        match query.filter(|query| matches!(query.kind, StatementKind::Query(_))) {
            Some(query) => Ok(StatementKind::Copy(Box::new(Copy { query, format }))),
            None => Err(Error::unsupported("COPY of anything but a query is not supported")
                .at(position)
                .into()),
        }
    }
}

/// The options of a COPY, as far as they are given.
#[derive(Default)]
struct Asked {
    kind: Option<CopyKind>,
    header: bool,
    delimiter: Option<char>,
    null: Option<String>,
    quote: Option<char>,
    escape: Option<char>,
}

impl Asked {
    fn read(&mut self, options: &[CopyOption], legacy: &[CopyLegacyOption]) -> Result<()> {
        for option in options {
            match option {
                CopyOption::Format(name) => {
                    self.kind = Some(match name.value.to_lowercase().as_str() {
                        "text" => CopyKind::Text,
                        "csv" => CopyKind::Csv,
                        "binary" => CopyKind::Binary,
                        other => {
                            let message = format!("COPY format \"{other}\" not recognized");
                            return Err(Error::new(ErrorKind::InvalidParameter, message));
                        }
                    });
                }
                CopyOption::Header(yes) => self.header = *yes,
                CopyOption::Delimiter(letter) => self.delimiter = Some(*letter),
                CopyOption::Null(text) => self.null = Some(text.clone()),
                CopyOption::Quote(letter) => self.quote = Some(*letter),
                CopyOption::Escape(letter) => self.escape = Some(*letter),
                // All rows of a COPY are written at once anyway.
                CopyOption::Freeze(_) => {}
                CopyOption::Encoding(name) if is_utf8(name) => {}
                other => return Err(refused(other)),
            }
        }
        for option in legacy {
            match option {
                CopyLegacyOption::Binary => self.kind = Some(CopyKind::Binary),
                CopyLegacyOption::Csv(options) => {
                    self.kind = Some(CopyKind::Csv);
                    self.read_csv(options)?;
                }
                CopyLegacyOption::Delimiter(letter) => self.delimiter = Some(*letter),
                CopyLegacyOption::Null(text) => self.null = Some(text.clone()),
                CopyLegacyOption::Header => self.header = true,
                other => return Err(refused(other)),
            }
        }
        Ok(())
    }

    fn read_csv(&mut self, options: &[CopyLegacyCsvOption]) -> Result<()> {
        for option in options {
            match option {
                CopyLegacyCsvOption::Header => self.header = true,
                CopyLegacyCsvOption::Quote(letter) => self.quote = Some(*letter),
                CopyLegacyCsvOption::Escape(letter) => self.escape = Some(*letter),
                other => return Err(refused(other)),
            }
        }
        Ok(())
    }

    /// The format, with PostgreSQL's defaults and rules.
    fn format(self) -> Result<CopyFormat> {
        let kind = self.kind.unwrap_or(CopyKind::Text);
        let is_csv = kind == CopyKind::Csv;
        if kind == CopyKind::Binary {
            let found = [
                (self.delimiter.is_some(), "DELIMITER"),
                (self.null.is_some(), "NULL"),
                (self.header, "HEADER"),
            ];
            if let Some((_, what)) = found.into_iter().find(|(is_there, _)| *is_there) {
                let message = format!("cannot specify {what} in BINARY mode");
                return Err(Error::new(ErrorKind::Syntax, message));
            }
        }
        for (letter, what) in [(self.quote, "quote"), (self.escape, "escape")] {
            if letter.is_some() && !is_csv {
                let message = format!("COPY {what} available only in CSV mode");
                return Err(Error::unsupported(message));
            }
        }
        let quote = self.quote.unwrap_or('"');
        let format = CopyFormat {
            kind,
            header: self.header,
            delimiter: self.delimiter.unwrap_or(if is_csv { ',' } else { '\t' }),
            null: self.null.unwrap_or_else(|| if is_csv { "" } else { "\\N" }.to_string()),
            quote,
            escape: self.escape.unwrap_or(quote),
        };
        check(&format)?;
        Ok(format)
    }
}

/// What lines could not be read back of.
fn check(format: &CopyFormat) -> Result<()> {
    let CopyFormat { kind, delimiter, null, quote, escape, .. } = format;
    let wrong = |message: String| Err(Error::new(ErrorKind::InvalidParameter, message));
    for (letter, what) in [(delimiter, "delimiter"), (quote, "quote"), (escape, "escape")] {
        if !letter.is_ascii() {
            let message = format!("COPY {what} must be a single one-byte character");
            return Err(Error::unsupported(message));
        }
    }
    if ['\n', '\r'].contains(delimiter) {
        return wrong("COPY delimiter cannot be newline or carriage return".to_string());
    }
    if null.contains(['\n', '\r']) {
        return wrong("COPY null representation cannot use newline or carriage return".to_string());
    }
    let is_in_values = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    match kind {
        CopyKind::Text if is_in_values(*delimiter) || ['\\', '.'].contains(delimiter) => {
            return wrong(format!("COPY delimiter cannot be \"{delimiter}\""));
        }
        CopyKind::Csv if delimiter == quote => {
            return wrong("COPY delimiter and quote must be different".to_string());
        }
        CopyKind::Csv if null.contains(*quote) => {
            let message = "CSV quote character must not appear in the NULL specification";
            return Err(Error::unsupported(message));
        }
        _ => {}
    }
    if *kind != CopyKind::Binary && null.contains(*delimiter) {
        let message = "COPY delimiter must not appear in the NULL specification";
        return Err(Error::unsupported(message));
    }
    Ok(())
}

fn is_utf8(name: &str) -> bool {
    ["utf8", "unicode"].contains(&name.to_lowercase().replace('-', "").as_str())
}

fn refused(option: impl std::fmt::Display) -> Error {
    Error::unsupported(format!("COPY with {option} is not supported"))
}
