//! [`PgBinary`]: values whose binary form the crate does not know.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use bytes::{BufMut, BytesMut};
use pgwire::types::ToSqlText;
use pgwire::types::format::FormatOptions;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::types::{is_beyond_arrow, pg_type};

type Encoded = Result<IsNull, Box<dyn std::error::Error + Send + Sync>>;

/// A value in Postgres' binary form.
#[derive(Debug)]
pub(super) struct PgBinary(BytesMut);

impl PgBinary {
    /// The bytes of a value that is not NULL; `None` for types whose bytes the crate writes right.
    pub(super) fn of(array: &ArrayRef, row: usize) -> Option<Self> {
        let mut bytes = BytesMut::new();
        match array.data_type() {
            DataType::List(item) => {
                let item = pg_type(item.data_type())?.oid();
                write_list(&array.as_list::<i32>().value(row), item, &mut bytes)?;
            }
            _ => write(array, row, &mut bytes)?,
        }
        Some(Self(bytes))
    }
}

fn write(array: &ArrayRef, row: usize, out: &mut BytesMut) -> Option<()> {
    match array.data_type() {
        DataType::LargeBinary => {
            // The version of the form.
            out.put_u8(1);
            out.put_slice(array.as_binary::<i64>().value(row));
        }
        DataType::FixedSizeBinary(_) => out.put_slice(array.as_fixed_size_binary().value(row)),
        _ => return None,
    }
    Some(())
}

/// One dimension from 1, then each item behind its length; NULL has none.
fn write_list(items: &ArrayRef, item: u32, out: &mut BytesMut) -> Option<()> {
    if !is_beyond_arrow(items.data_type()) {
        return None;
    }
    let count = i32::try_from(items.len()).ok()?;
    out.put_i32(i32::from(count > 0));
    out.put_i32(i32::from(items.null_count() > 0));
    out.put_u32(item);
    if count > 0 {
        out.put_i32(count);
        out.put_i32(1);
    }
    let mut value = BytesMut::new();
    for row in 0..items.len() {
        if items.is_null(row) {
            out.put_i32(-1);
            continue;
        }
        value.clear();
        write(items, row, &mut value)?;
        out.put_i32(i32::try_from(value.len()).ok()?);
        out.put_slice(&value);
    }
    Some(())
}

impl ToSql for PgBinary {
    fn to_sql(&self, _ty: &Type, out: &mut BytesMut) -> Encoded {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl ToSqlText for PgBinary {
    fn to_sql_text(&self, _ty: &Type, _: &mut BytesMut, _options: &FormatOptions) -> Encoded {
        Err("a value in binary form has no text".into())
    }
}
