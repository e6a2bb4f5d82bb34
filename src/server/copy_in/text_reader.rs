//! [`TextReader`]: rows of COPY's text and CSV formats.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::FieldRef;
use memchr::{memchr, memchr2, memchr3};

use super::line_end::LineEnd;
use crate::error::{Error, ErrorKind, Result};
use crate::server::utf8::text;
use crate::session::{LoadedRows, shown};
use crate::sql::{CopyFormat, CopyKind};

/// What alone on a line ends the data.
const END: &[u8] = b"\\.";
/// The largest row.
pub(super) const ROW_BYTES_MAX: usize = 256 << 20;

/// Reads lines that come in pieces into columns of text.
#[derive(Debug)]
pub(super) struct TextReader {
    format: CopyFormat,
    table: String,
    columns: Vec<FieldRef>,
    ends: LineEnd,
    /// The line that has begun.
    pending: Vec<u8>,
    /// Whether lines end with a carriage return, too; the first one tells.
    has_returns: Option<bool>,
    line: u64,
    is_done: bool,
    rows: Rows,
}

/// Rows that are read.
#[derive(Debug)]
struct Rows {
    values: Vec<StringBuilder>,
    lines: Vec<u64>,
    bytes: usize,
    scratch: Vec<u8>,
}

impl TextReader {
    pub(super) fn new(format: CopyFormat, table: &str, columns: Vec<FieldRef>) -> Self {
        let table = table.to_string();
        let values = columns.iter().map(|_| StringBuilder::new()).collect();
        let rows = Rows { values, lines: Vec::new(), bytes: 0, scratch: Vec::new() };
        let ends = LineEnd::new(&format);
        let pending = Vec::new();
        let (has_returns, line, is_done) = (None, 0, false);
        Self { format, table, columns, ends, pending, has_returns, line, is_done, rows }
    }

    /// Bytes that are read but not taken.
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes + self.pending.len()
    }

    /// Reads more bytes.
    ///
    /// # Errors
    /// `BadCopyFormat`, `InvalidEncoding` with the line; `ValueTooLarge`.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.is_done {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut start = 0;
        while let Some((end, inner)) = self.ends.find(&pending[start..]) {
            let line = &pending[start..start + end];
            self.line += inner + 1;
            start += end + 1;
            self.read_line(line).map_err(|error| self.placed(error, line))?;
            if self.is_done {
                return Ok(());
            }
        }
        self.pending = behind(pending, start)?;
        Ok(())
    }

    /// Reads the last line, which needs no end.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.is_done || self.pending.is_empty() {
            return Ok(());
        }
        self.line += 1;
        if self.ends.is_quoted() {
            let error = bad("unterminated CSV quoted field");
            return Err(self.placed(error, &self.pending));
        }
        let mut line = std::mem::take(&mut self.pending);
        if self.has_returns == Some(true) {
            line.push(b'\r');
        }
        self.read_line(&line).map_err(|error| self.placed(error, &line))
    }

    /// An error with its line, as PostgreSQL shows it.
    fn placed(&self, error: Error, line: &[u8]) -> Error {
        let (table, number) = (&self.table, self.line);
        let place = format!("COPY {table}, line {number}");
        match std::str::from_utf8(line) {
            Ok(line) => error.within(format!("{place}: {}", shown(line.trim_end_matches('\r')))),
            Err(_) => error.within(place),
        }
    }

    /// The rows that were read since the last call.
    pub(super) fn take(&mut self) -> LoadedRows {
        let columns = self.rows.values.iter_mut().map(|it| Arc::new(it.finish()) as ArrayRef);
        self.rows.bytes = 0;
        LoadedRows { columns: columns.collect(), lines: std::mem::take(&mut self.rows.lines) }
    }

    fn read_line(&mut self, line: &[u8]) -> Result<()> {
        let is_first = self.has_returns.is_none();
        let ends_with_return = line.last() == Some(&b'\r');
        let line = match self.has_returns.get_or_insert(ends_with_return) {
            true if ends_with_return => &line[..line.len() - 1],
            true => return Err(self.stray("newline")),
            false => line,
        };
        if is_first && self.format.header {
            return Ok(());
        }
        if line == END {
            self.is_done = true;
            return Ok(());
        }
        let read = match self.format.kind {
            CopyKind::Csv => self.rows.read_csv(&self.format, &self.columns, line),
            _ => self.rows.read_text(&self.format, &self.columns, line),
        };
        match read? {
            Read::Row => self.rows.lines.push(self.line),
            Read::StrayReturn => return Err(self.stray("carriage return")),
        }
        Ok(())
    }

    fn stray(&self, what: &str) -> Error {
        let code = if what == "newline" { "\\n" } else { "\\r" };
        match self.format.kind {
            CopyKind::Csv => bad(format!("unquoted {what} found in data"))
                .with_hint(format!("Use quoted CSV field to represent {what}.")),
            _ => bad(format!("literal {what} found in data"))
                .with_hint(format!("Use \"{code}\" to represent {what}.")),
        }
    }
}

/// How a line was read.
enum Read {
    Row,
    /// It has a carriage return where none may be.
    StrayReturn,
}

impl Rows {
    fn read_text(
        &mut self,
        format: &CopyFormat,
        columns: &[FieldRef],
        line: &[u8],
    ) -> Result<Read> {
        let delimiter = format.delimiter as u8;
        let (mut column, mut start) = (0, 0);
        loop {
            let (mut end, mut is_escaped) = (start, false);
            loop {
                match memchr3(delimiter, b'\\', b'\r', &line[end..]) {
                    None => end = line.len(),
                    Some(at) if line[end + at] == delimiter => end += at,
                    Some(at) if line[end + at] == b'\r' => return Ok(Read::StrayReturn),
                    Some(at) => {
                        is_escaped = true;
                        end = (end + at + 2).min(line.len());
                        continue;
                    }
                }
                break;
            }
            let raw = &line[start..end];
            if raw == format.null.as_bytes() {
                self.append(column, None)?;
            } else if is_escaped {
                let mut scratch = std::mem::take(&mut self.scratch);
                unescape(raw, &mut scratch)?;
                self.append(column, Some(&scratch))?;
                self.scratch = scratch;
            } else {
                self.append(column, Some(raw))?;
            }
            column += 1;
            if end == line.len() {
                return self.end_row(columns, column);
            }
            start = end + 1;
        }
    }

    fn read_csv(&mut self, format: &CopyFormat, columns: &[FieldRef], line: &[u8]) -> Result<Read> {
        let (delimiter, quote) = (format.delimiter as u8, format.quote as u8);
        let mut scratch = std::mem::take(&mut self.scratch);
        let (mut column, mut at) = (0, 0);
        loop {
            scratch.clear();
            let mut was_quoted = false;
            // Up to the delimiter; a value may be in quotes in part.
            loop {
                let found = memchr3(delimiter, quote, b'\r', &line[at..]);
                let end = found.map_or(line.len(), |found| at + found);
                scratch.extend_from_slice(&line[at..end]);
                at = end;
                match line.get(at) {
                    Some(b'\r') => return Ok(Read::StrayReturn),
                    Some(byte) if *byte == quote => {
                        was_quoted = true;
                        at = unquote(format, line, at + 1, &mut scratch)?;
                    }
                    _ => break,
                }
            }
            let is_null = !was_quoted && scratch == format.null.as_bytes();
            self.append(column, (!is_null).then_some(&scratch))?;
            column += 1;
            if at == line.len() {
                self.scratch = scratch;
                return self.end_row(columns, column);
            }
            at += 1;
        }
    }

    fn append(&mut self, column: usize, value: Option<&[u8]>) -> Result<()> {
        let Some(values) = self.values.get_mut(column) else {
            return Err(bad("extra data after last expected column"));
        };
        match value {
            None => values.append_null(),
            Some(value) => values.append_value(text(value)?),
        }
        // With its offset, and its part of the line's number.
        self.bytes += value.map_or(0, <[u8]>::len) + size_of::<u64>();
        Ok(())
    }

    fn end_row(&self, columns: &[FieldRef], count: usize) -> Result<Read> {
        match columns.get(count) {
            None => Ok(Read::Row),
            Some(missing) => Err(bad(format!("missing data for column \"{}\"", missing.name()))),
        }
    }
}

/// A value with its backslashes resolved.
fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    let mut at = 0;
    while let Some(found) = memchr(b'\\', &raw[at..]) {
        out.extend_from_slice(&raw[at..at + found]);
        at += found + 1;
        let Some(&byte) = raw.get(at) else {
            // At the end of the data it stands for itself.
            out.push(b'\\');
            return Ok(());
        };
        at += 1;
        match byte {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'0'..=b'7' => at = number(raw, at - 1, 3, 8, out),
            b'x' if raw.get(at).is_some_and(u8::is_ascii_hexdigit) => {
                at = number(raw, at, 2, 16, out);
            }
            b'.' => return Err(bad("end-of-copy marker corrupt")),
            other => out.push(other),
        }
    }
    out.extend_from_slice(&raw[at..]);
    Ok(())
}

/// Reads up to `digits` digits as one byte; gives where it ends.
fn number(raw: &[u8], start: usize, digits: usize, radix: u32, out: &mut Vec<u8>) -> usize {
    let read = raw[start..].iter().take(digits).map_while(|byte| char::from(*byte).to_digit(radix));
    let (mut value, mut end) = (0_u32, start);
    for digit in read {
        value = value * radix + digit;
        end += 1;
    }
    // As in PostgreSQL, of `\777` the low byte.
    out.push((value & 0xff) as u8);
    end
}

/// Reads the rest of a part in quotes; gives where it ends.
fn unquote(format: &CopyFormat, line: &[u8], start: usize, out: &mut Vec<u8>) -> Result<usize> {
    let (quote, escape) = (format.quote as u8, format.escape as u8);
    let mut at = start;
    while let Some(found) = memchr2(quote, escape, &line[at..]) {
        out.extend_from_slice(&line[at..at + found]);
        at += found;
        match line.get(at + 1) {
            Some(next) if line[at] == escape && (*next == escape || *next == quote) => {
                out.push(*next);
                at += 2;
            }
            _ if line[at] == quote => return Ok(at + 1),
            _ => {
                out.push(line[at]);
                at += 1;
            }
        }
    }
    Err(bad("unterminated CSV quoted field"))
}

/// The bytes of a row that has begun at `start` and is not all there.
///
/// # Errors
/// `ValueTooLarge`.
pub(super) fn behind(mut pending: Vec<u8>, start: usize) -> Result<Vec<u8>> {
    pending.drain(..start);
    if pending.len() > ROW_BYTES_MAX {
        let message = format!("a row of COPY is larger than {ROW_BYTES_MAX} bytes");
        return Err(Error::new(ErrorKind::ValueTooLarge, message));
    }
    Ok(pending)
}

/// An error of the format.
pub(super) fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadCopyFormat, message)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn format(kind: CopyKind) -> CopyFormat {
        let is_csv = kind == CopyKind::Csv;
        CopyFormat {
            kind,
            header: false,
            delimiter: if is_csv { ',' } else { '\t' },
            null: if is_csv { "" } else { "\\N" }.to_string(),
            quote: '"',
            escape: '"',
        }
    }

    fn columns(count: usize) -> Vec<FieldRef> {
        let names = ["a", "b", "c"].iter().take(count);
        names.map(|name| Arc::new(Field::new(*name, DataType::Utf8, true))).collect()
    }

    /// The rows of a text that comes in pieces of `size` bytes, with their lines.
    fn read(
        format: &CopyFormat,
        count: usize,
        bytes: &[u8],
        size: usize,
    ) -> std::result::Result<Vec<String>, (u64, String)> {
        let mut reader = TextReader::new(format.clone(), "t", columns(count));
        let mut pieces = bytes.chunks(size);
        let done = pieces.try_for_each(|piece| reader.push(piece)).and_then(|()| reader.finish());
        done.map_err(|error| (reader.line, error.message))?;
        let rows = reader.take();
        let value = |row: usize, column: &ArrayRef| {
            let column = column.as_string::<i32>();
            if arrow::array::Array::is_null(column, row) {
                "NULL".to_string()
            } else {
                format!("{:?}", column.value(row))
            }
        };
        let row = |(row, line): (usize, &u64)| {
            let values: Vec<_> = rows.columns.iter().map(|column| value(row, column)).collect();
            format!("{line}: {}", values.join(" "))
        };
        Ok(rows.lines.iter().enumerate().map(row).collect())
    }

    fn all(
        format: &CopyFormat,
        count: usize,
        text: &[u8],
    ) -> std::result::Result<Vec<String>, (u64, String)> {
        let whole = read(format, count, text, text.len().max(1));
        for size in [1, 2, 3, 7] {
            assert_eq!(read(format, count, text, size), whole, "{size}");
        }
        whole
    }

    #[test]
    fn text_is_read_as_postgres_reads_it() {
        let text = format(CopyKind::Text);
        let rows = all(&text, 2, b"1\tx\n\\N\t\n\\\\N\ta\\tb\\\nc\\101\\x42\\q\n3\tend").unwrap();
        let expected =
            [r#"1: "1" "x""#, r#"2: NULL """#, r#"3: "\\N" "a\tb\ncABq""#, r#"4: "3" "end""#];
        assert_eq!(rows, expected);
        assert_eq!(all(&text, 1, b"a\r\nb\r\n").unwrap(), [r#"1: "a""#, r#"2: "b""#]);
        assert_eq!(all(&text, 1, b"a\n\\.\nb\n").unwrap(), [r#"1: "a""#]);
        assert_eq!(all(&text, 1, b"\n\n").unwrap(), [r#"1: """#, r#"2: """#]);
        assert_eq!(all(&text, 1, b"").unwrap(), [""; 0]);
        assert_eq!(all(&text, 1, "ä\n".as_bytes()).unwrap(), [r#"1: "ä""#]);
        let failed = |bytes: &[u8]| all(&text, 2, bytes).unwrap_err();
        let told = |line, text: &str| (line, text.to_string());
        assert_eq!(failed(b"1\t2\n3\n"), told(2, "missing data for column \"b\""));
        assert_eq!(failed(b"1\t2\t3\n"), told(1, "extra data after last expected column"));
        assert_eq!(failed(b"1\t2\n1\r\t2\n"), told(2, "literal carriage return found in data"));
        assert_eq!(failed(b"1\t2\r\n1\t2\n"), told(2, "literal newline found in data"));
        assert_eq!(failed(b"1\ta\\.\n"), told(1, "end-of-copy marker corrupt"));
        let encoding = "invalid byte sequence for encoding \"UTF8\": 0xff";
        assert_eq!(failed(b"1\t\xff\n"), told(1, encoding));
        assert_eq!(failed(b"1\t\\377\n"), told(1, encoding));
    }

    #[test]
    fn csv_is_read_as_postgres_reads_it() {
        let csv = format(CopyKind::Csv);
        let rows = all(&csv, 2, b"1,\"x,\"\"y\"\"\"\n,\"\"\n\"a\nb\",c\"d,e\"f\n4,\\.\n").unwrap();
        let expected =
            [r#"1: "1" "x,\"y\"""#, r#"2: NULL """#, r#"4: "a\nb" "cd,ef""#, r#"5: "4" "\\.""#];
        assert_eq!(rows, expected);
        let header = CopyFormat { header: true, ..csv.clone() };
        assert_eq!(all(&header, 1, b"name\nx\n").unwrap(), [r#"2: "x""#]);
        assert_eq!(all(&header, 1, b"name").unwrap(), [""; 0]);
        let escape = CopyFormat { escape: '\\', null: "null".to_string(), ..csv.clone() };
        let rows = all(&escape, 2, b"\"a\\\"\\\\\\b\",null\r\n\"null\",\r\n").unwrap();
        assert_eq!(rows, [r#"1: "a\"\\\\b" NULL"#, r#"2: "null" """#]);
        let failed = |bytes: &[u8]| all(&csv, 2, bytes).unwrap_err();
        let told = |line, text: &str| (line, text.to_string());
        assert_eq!(failed(b"1,2\n1,\"2\n3,4\n").1, "unterminated CSV quoted field");
        assert_eq!(failed(b"1,2\n1\r,2\n"), told(2, "unquoted carriage return found in data"));
        assert_eq!(failed(b"1\n"), told(1, "missing data for column \"b\""));
    }
}
