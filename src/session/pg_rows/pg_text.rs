//! [`PgText`]: values whose text PostgreSQL writes in its own way.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use bytes::{BufMut, BytesMut};
use pgwire::types::ToSqlText;
use pgwire::types::format::FormatOptions;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::functions::{has_text, write_value};

type Encoded = Result<IsNull, Box<dyn std::error::Error + Send + Sync>>;

/// A value's text.
#[derive(Debug)]
pub(super) struct PgText(String);

impl PgText {
    /// The text of a value that is not NULL; `None` for types whose text the crate writes right.
    pub(super) fn of(array: &ArrayRef, row: usize) -> Option<Self> {
        let mut text = String::new();
        let is_written = match array.data_type() {
            DataType::List(item) if has_text(item.data_type()) => {
                write_list(&array.as_list::<i32>().value(row), &mut text)
            }
            _ => write_value(array, row, &mut text),
        };
        is_written.then_some(Self(text))
    }
}

/// Writes `{a,NULL,"b c"}`.
fn write_list(items: &ArrayRef, out: &mut String) -> bool {
    out.push('{');
    let mut item = String::new();
    for row in 0..items.len() {
        if row > 0 {
            out.push(',');
        }
        if items.is_null(row) {
            out.push_str("NULL");
            continue;
        }
        item.clear();
        if !write_value(items, row, &mut item) {
            return false;
        }
        let is_special = |letter: char| "{}\",\\".contains(letter) || letter.is_ascii_whitespace();
        if item.is_empty() || item.eq_ignore_ascii_case("null") || item.contains(is_special) {
            out.push('"');
            for letter in item.chars() {
                if matches!(letter, '"' | '\\') {
                    out.push('\\');
                }
                out.push(letter);
            }
            out.push('"');
        } else {
            out.push_str(&item);
        }
    }
    out.push('}');
    true
}

impl ToSqlText for PgText {
    fn to_sql_text(&self, _ty: &Type, out: &mut BytesMut, _options: &FormatOptions) -> Encoded {
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl ToSql for PgText {
    fn to_sql(&self, _ty: &Type, out: &mut BytesMut) -> Encoded {
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
