//! `COPY … TO STDOUT`: rows as lines of text, or in binary.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Sink, SinkExt, StreamExt};
use pgwire::api::portal::Format;
use pgwire::api::results::{Response, Tag};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::{CopyData, CopyDone, CopyOutResponse};
use pgwire::messages::data::DataRow;

use super::copy_in::SIGNATURE;
use super::reply::wire_error;
use crate::error::Error;
use crate::session::{Outcome, pg_fields, pg_rows, query_error, text_rows};
use crate::sql::{CopyFormat, CopyKind};

/// What ends binary rows, in the place of a number of values.
const BINARY_END: i16 = -1;

/// Sends all rows, each in a message of its own as drivers expect, then gives the response that
/// ends them.
///
/// The messages go out at once, so nothing else of the same request may wait to be sent before.
pub(super) async fn copy_out<C>(
    client: &mut C,
    outcome: Outcome,
    format: &CopyFormat,
) -> PgWireResult<Response>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let Outcome::Rows { schema, mut stream, .. } = outcome else {
        return Err(wire_error(Error::internal("a copied query gave no rows")));
    };
    let columns = schema.fields().len();
    let is_binary = format.kind == CopyKind::Binary;
    let code = i8::from(is_binary);
    let formats = vec![i16::from(code); columns];
    let columns = i16::try_from(columns)
        .map_err(|_| wire_error(Error::unsupported("COPY of so many columns is not supported")))?;
    let fields = pg_fields(&schema, &Format::UnifiedBinary).map_err(wire_error)?;
    let start = CopyOutResponse::new(code, columns, formats);
    client.send(PgWireBackendMessage::CopyOutResponse(start)).await?;
    if format.header {
        let names = schema.fields().iter().map(|field| Some(field.name().clone()));
        let names: Vec<_> = names.collect();
        client.feed(data(line(format, &names))).await?;
    }
    let mut head = if is_binary { binary_head() } else { BytesMut::new() };
    let mut count = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|error| wire_error(query_error(error)))?;
        count += batch.num_rows();
        if is_binary {
            for row in pg_rows(Arc::clone(&fields), batch) {
                client.feed(data(binary_row(&mut head, row?))).await?;
            }
            continue;
        }
        for row in text_rows(&batch).map_err(wire_error)? {
            client.feed(data(line(format, &row))).await?;
        }
    }
    if is_binary {
        head.put_i16(BINARY_END);
        client.feed(data(head)).await?;
    }
    client.feed(PgWireBackendMessage::CopyDone(CopyDone::new())).await?;
    Ok(Response::Execution(Tag::new("COPY").with_rows(count)))
}

/// What binary rows begin with.
fn binary_head() -> BytesMut {
    let mut head = BytesMut::from(&SIGNATURE[..]);
    head.put_bytes(0, 8);
    head
}

/// A row as it is in a DataRow; the first one has the head before it.
fn binary_row(head: &mut BytesMut, row: DataRow) -> BytesMut {
    let mut bytes = head.split();
    bytes.put_i16(row.field_count);
    bytes.unsplit(row.data);
    bytes
}

fn data(lines: impl Into<Bytes>) -> PgWireBackendMessage {
    PgWireBackendMessage::CopyData(CopyData::new(lines.into()))
}

/// A row with its end of line.
fn line(format: &CopyFormat, values: &[Option<String>]) -> String {
    let mut line = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            line.push(format.delimiter);
        }
        match value {
            None => line.push_str(&format.null),
            Some(value) if format.kind == CopyKind::Csv => {
                quoted(format, value, values.len() == 1, &mut line)
            }
            Some(value) => backslashed(format, value, &mut line),
        }
    }
    line.push('\n');
    line
}

/// A value of CSV, in quotes where it could be read as something else.
fn quoted(format: &CopyFormat, value: &str, alone: bool, line: &mut String) {
    let special = [format.delimiter, format.quote, '\n', '\r'];
    // `\.` alone on a line would be the end of the data.
    if value != format.null && !value.contains(special) && !(alone && value == "\\.") {
        line.push_str(value);
        return;
    }
    line.push(format.quote);
    for letter in value.chars() {
        if letter == format.quote || letter == format.escape {
            line.push(format.escape);
        }
        line.push(letter);
    }
    line.push(format.quote);
}

/// A value of the text format.
fn backslashed(format: &CopyFormat, value: &str, line: &mut String) {
    for letter in value.chars() {
        let code = match letter {
            '\\' => '\\',
            '\n' => 'n',
            '\r' => 'r',
            '\t' => 't',
            '\u{8}' => 'b',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            letter if letter == format.delimiter => letter,
            letter => {
                line.push(letter);
                continue;
            }
        };
        line.extend(['\\', code]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Vec<Option<String>> {
        values.iter().map(|value| (*value != "NULL").then(|| (*value).to_string())).collect()
    }

    #[test]
    fn text_escapes_what_ends_values_and_lines() {
        let format = CopyFormat {
            kind: CopyKind::Text,
            header: false,
            delimiter: '\t',
            null: "\\N".to_string(),
            quote: '"',
            escape: '"',
        };
        assert_eq!(
            line(&format, &row(&["a\tb", "NULL", "\\N", "x\ny"])),
            "a\\tb\t\\N\t\\\\N\tx\\ny\n"
        );
    }

    #[test]
    fn csv_quotes_what_is_not_plain() {
        let format = CopyFormat {
            kind: CopyKind::Csv,
            header: false,
            delimiter: ',',
            null: String::new(),
            quote: '"',
            escape: '"',
        };
        assert_eq!(
            line(&format, &row(&["a", "b,c", "NULL", "", "say \"x\""])),
            "a,\"b,c\",,\"\",\"say \"\"x\"\"\"\n"
        );
        assert_eq!(line(&format, &row(&["\\."])), "\"\\.\"\n");
    }
}
