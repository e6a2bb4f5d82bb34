//! [`PgText`]: values whose text PostgreSQL writes in its own way.

use arrow::array::ArrayRef;
use bytes::{BufMut, BytesMut};
use pgwire::types::ToSqlText;
use pgwire::types::format::FormatOptions;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::functions::write_value;

type Encoded = Result<IsNull, Box<dyn std::error::Error + Send + Sync>>;

/// A value's text.
#[derive(Debug)]
pub(super) struct PgText(String);

impl PgText {
    /// The text of a value that is not NULL; `None` for types whose text the crate writes right.
    pub(super) fn of(array: &ArrayRef, row: usize) -> Option<Self> {
        let mut text = String::new();
        write_value(array, row, &mut text).then_some(Self(text))
    }
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
