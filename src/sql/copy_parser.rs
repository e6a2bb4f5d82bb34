//! `COPY … TO STDOUT`.

use sqlparser::ast::{self, CopyLegacyCsvOption, CopyLegacyOption, CopyOption};
use sqlparser::tokenizer::Token;

use super::parser::{Parsed, StatementParser, parse};
use super::statement::{Copy, CopyFormat, StatementKind};
use super::syntax;
use crate::error::Error;

impl StatementParser<'_> {
    pub(super) fn copy(&mut self) -> Parsed<StatementKind> {
        let position = self.position();
        if self.copies_in() {
            let error = Error::unsupported("COPY FROM is not supported").at(position);
            return Err(error
                .with_hint(
                    "use INSERT, or a table WITH (connector = 'files', path = '...') over a file \
                     of JSON lines",
                )
                .into());
        }
        let ast::Statement::Copy { source, to: _, target, options, legacy_options, values: _ } =
            syntax::parse_statement(&mut self.inner)?
        else {
            return Err(self.unsupported_statement().into());
        };
        if target != ast::CopyTarget::Stdout {
            let error = Error::unsupported("COPY to a file or program is not supported");
            let hint = "use COPY ... TO STDOUT, or \\copy in psql";
            return Err(error.at(position).with_hint(hint).into());
        }
        let format = format(&options, &legacy_options).map_err(|error| error.at(position))?;
        let text = match source {
            ast::CopySource::Query(query) => query.to_string(),
            ast::CopySource::Table { table_name, columns } if columns.is_empty() => {
                format!("SELECT * FROM {table_name}")
            }
            ast::CopySource::Table { table_name, columns } => {
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

    /// Whether FROM comes before TO, outside of parentheses.
    fn copies_in(&self) -> bool {
        let mut depth = 0;
        for n in 0.. {
            match &self.inner.peek_nth_token_ref(n).token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::EOF => return false,
                _ if depth > 0 => {}
                _ => match self.word(n).as_deref() {
                    Some("FROM") => return true,
                    Some("TO") => return false,
                    _ => {}
                },
            }
        }
        false
    }
}

/// The format that the options tell, with PostgreSQL's defaults.
fn format(
    options: &[CopyOption],
    legacy: &[CopyLegacyOption],
) -> std::result::Result<CopyFormat, Error> {
    let refused =
        |option: String| Error::unsupported(format!("COPY with {option} is not supported"));
    let (mut csv, mut header) = (false, false);
    let (mut delimiter, mut null, mut quote, mut escape) = (None, None, None, None);
    for option in options {
        match option {
            CopyOption::Format(name) => match name.value.to_lowercase().as_str() {
                "csv" => csv = true,
                "text" => csv = false,
                _ => return Err(refused(option.to_string())),
            },
            CopyOption::Header(yes) => header = *yes,
            CopyOption::Delimiter(letter) => delimiter = Some(*letter),
            CopyOption::Null(text) => null = Some(text.clone()),
            CopyOption::Quote(letter) => quote = Some(*letter),
            CopyOption::Escape(letter) => escape = Some(*letter),
            CopyOption::Encoding(name) if name.to_lowercase().replace('-', "") == "utf8" => {}
            _ => return Err(refused(option.to_string())),
        }
    }
    for option in legacy {
        match option {
            CopyLegacyOption::Csv(options) => {
                csv = true;
                for option in options {
                    match option {
                        CopyLegacyCsvOption::Header => header = true,
                        CopyLegacyCsvOption::Quote(letter) => quote = Some(*letter),
                        CopyLegacyCsvOption::Escape(letter) => escape = Some(*letter),
                        _ => return Err(refused(option.to_string())),
                    }
                }
            }
            CopyLegacyOption::Delimiter(letter) => delimiter = Some(*letter),
            CopyLegacyOption::Null(text) => null = Some(text.clone()),
            _ => return Err(refused(option.to_string())),
        }
    }
    let quote = quote.unwrap_or('"');
    Ok(CopyFormat {
        csv,
        header,
        delimiter: delimiter.unwrap_or(if csv { ',' } else { '\t' }),
        null: null.unwrap_or_else(|| if csv { String::new() } else { "\\N".to_string() }),
        quote,
        escape: escape.unwrap_or(quote),
    })
}
