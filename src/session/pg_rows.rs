//! Arrow rows as Postgres rows, for the wire and for the shell.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Schema};
use arrow_pg::encoder::encode_value;
use bytes::Buf;
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;

use self::numeric::Numeric;
pub use self::numeric::numeric_text;
use self::pg_binary::PgBinary;
use self::pg_text::PgText;
use crate::error::{Error, ErrorKind, Result, caught};
use crate::types::pg_type;

mod numeric;
mod pg_binary;
mod pg_text;

/// Columns as Postgres describes them.
///
/// # Errors
/// `Unsupported` for a type that Postgres does not have; `InvalidParameter` if the client asks for
/// formats of another number of columns.
pub fn pg_fields(schema: &Schema, format: &Format) -> Result<Arc<Vec<FieldInfo>>> {
    if let Format::Individual(codes) = format
        && codes.len() != schema.fields().len()
    {
        return Err(Error::new(
            ErrorKind::InvalidParameter,
            format!(
                "bind message has {} result formats but the query has {} columns",
                codes.len(),
                schema.fields().len()
            ),
        ));
    }
    let field = |(index, field): (usize, &Arc<arrow::datatypes::Field>)| {
        let pg_type = wire_type(field.data_type())?;
        let info = FieldInfo::new(field.name().clone(), None, None, pg_type.clone(), {
            format.format_for(index)
        });
        Ok(info
            .with_type_size(type_size(&pg_type))
            .with_type_modifier(type_modifier(field.data_type())))
    };
    let fields = schema.fields().iter().enumerate().map(field).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(fields))
}

/// The Postgres type by which a client is told of an Arrow type.
///
/// # Errors
/// `Unsupported`.
pub fn wire_type(data_type: &DataType) -> Result<Type> {
    pg_type(data_type).ok_or_else(|| {
        Error::unsupported(format!("type {data_type} cannot be sent to a client"))
            .with_hint("cast it to text or numeric")
    })
}

fn type_size(pg_type: &Type) -> i16 {
    match *pg_type {
        Type::BOOL => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::TIME => 8,
        Type::INTERVAL | Type::UUID => 16,
        _ => -1,
    }
}

/// `atttypmod` of a type: precision and scale of a numeric, -1 for all others.
pub fn type_modifier(data_type: &DataType) -> i32 {
    match data_type {
        DataType::Decimal128(precision, scale) => {
            ((i32::from(*precision) << 16) | (i32::from(*scale) & 0xffff)) + 4
        }
        _ => -1,
    }
}

/// Encodes a batch, row by row.
///
/// # Errors
/// As the row's `PgWireError`.
pub fn pg_rows(
    fields: Arc<Vec<FieldInfo>>,
    batch: RecordBatch,
) -> impl Iterator<Item = PgWireResult<DataRow>> + Send {
    let mut encoder = DataRowEncoder::new(Arc::clone(&fields));
    (0..batch.num_rows()).map(move |row| {
        for (index, field) in fields.iter().enumerate() {
            encode(&mut encoder, &batch, index, row, field)?;
        }
        Ok(encoder.take_row())
    })
}

fn encode(
    encoder: &mut DataRowEncoder,
    batch: &RecordBatch,
    column: usize,
    row: usize,
    field: &FieldInfo,
) -> PgWireResult<()> {
    let array = batch.column(column);
    if array.is_null(row) || *array.data_type() == DataType::Null {
        return encoder.encode_field(&None::<i8>);
    }
    if field.format() == FieldFormat::Text
        && let Some(text) = PgText::of(array, row)
    {
        return encoder.encode_field(&text);
    }
    if field.format() == FieldFormat::Binary
        && let Some(bytes) = PgBinary::of(array, row)
    {
        return encoder.encode_field(&bytes);
    }
    if let DataType::List(item) = array.data_type()
        && let DataType::Decimal128(_, scale @ 0..) = item.data_type()
    {
        let scale = u32::from(scale.unsigned_abs());
        let values = array.as_list::<i32>().value(row);
        let values = values.as_primitive::<Decimal128Type>().iter();
        let numeric = |unscaled| Numeric { unscaled, scale };
        let values = values.map(|value| value.map(numeric));
        return encoder.encode_field(&values.collect::<Vec<_>>());
    }
    match array.data_type() {
        DataType::Decimal128(_, scale) => match u32::try_from(*scale) {
            Ok(scale) => {
                let unscaled = array.as_primitive::<Decimal128Type>().value(row);
                encoder.encode_field(&Numeric { unscaled, scale })
            }
            Err(_) => Err(not_encodable(array.data_type())),
        },
        DataType::UInt64 => {
            let unscaled = array.as_primitive::<arrow::datatypes::UInt64Type>().value(row);
            encoder.encode_field(&Numeric { unscaled: i128::from(unscaled), scale: 0 })
        }
        _ => {
            let declared = batch.schema_ref().field(column);
            // The crate panics at values that its own types do not have, such as far dates.
            let encoded = caught("the encoder of a value", || {
                Ok(encode_value(encoder, array, row, declared, field))
            });
            encoded.unwrap_or_else(|_| Err(not_encodable_value(array.data_type())))
        }
    }
}

fn not_encodable(data_type: &DataType) -> PgWireError {
    user_error("0A000", format!("type {data_type} cannot be sent to a client"))
}

fn not_encodable_value(data_type: &DataType) -> PgWireError {
    user_error("22003", format!("a value of type {data_type} is out of range for a client"))
}

fn user_error(code: &str, message: String) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".into(), code.into(), message)))
}

/// The text of every value, NULL as `None`, exactly as the wire sends it.
///
/// # Errors
/// `Unsupported` for a type that Postgres does not have.
pub fn text_rows(batch: &RecordBatch) -> Result<Vec<Vec<Option<String>>>> {
    let fields = pg_fields(&batch.schema(), &Format::UnifiedText)?;
    debug_assert!(fields.iter().all(|field| field.format() == FieldFormat::Text));
    pg_rows(fields, batch.clone())
        .map(|row| {
            let row = row.map_err(|error| {
                Error::internal("a row could not be written as text").with_detail(error.to_string())
            })?;
            Ok(text_values(row, batch.num_columns()))
        })
        .collect()
}

/// Reads lengths and values back; a negative length is NULL.
fn text_values(row: DataRow, columns: usize) -> Vec<Option<String>> {
    let mut bytes = row.data;
    let mut values = Vec::with_capacity(columns);
    for _ in 0..columns {
        let value = usize::try_from(bytes.get_i32()).ok().map(|length| {
            let value = bytes.split_to(length);
            String::from_utf8_lossy(&value).into_owned()
        });
        values.push(value);
    }
    values
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
        IntervalMonthDayNanoArray, StringArray, TimestampMicrosecondArray,
    };

    use super::*;

    fn text(column: ArrayRef) -> Vec<Option<String>> {
        let batch = RecordBatch::try_from_iter([("c", column)]).unwrap();
        text_rows(&batch).unwrap().into_iter().map(|mut row| row.remove(0)).collect()
    }

    fn some(texts: &[&str]) -> Vec<Option<String>> {
        texts.iter().map(|text| (*text != "NULL").then(|| (*text).to_string())).collect()
    }

    #[test]
    fn values_read_as_postgres_writes_them() {
        assert_eq!(text(Arc::new(Int64Array::from(vec![Some(-1), None]))), some(&["-1", "NULL"]));
        assert_eq!(text(Arc::new(BooleanArray::from(vec![true, false]))), some(&["t", "f"]));
        assert_eq!(text(Arc::new(StringArray::from(vec!["", "ä"]))), some(&["", "ä"]));
        assert_eq!(text(Arc::new(Float64Array::from(vec![1.0, 0.1]))), some(&["1", "0.1"]));
        assert_eq!(text(Arc::new(Date32Array::from(vec![19_000]))), some(&["2022-01-08"]));
        let at = TimestampMicrosecondArray::from(vec![1_700_000_000_500_000]);
        assert_eq!(text(Arc::new(at.clone())), some(&["2023-11-14 22:13:20.5"]));
        let zoned = at.with_timezone("UTC");
        assert_eq!(text(Arc::new(zoned)), some(&["2023-11-14 22:13:20.5+00"]));
        let interval = IntervalMonthDayNanoArray::from(vec![None]);
        assert_eq!(text(Arc::new(interval)), some(&["NULL"]));
    }

    #[test]
    fn values_that_the_encoder_cannot_take_are_errors() {
        let far = TimestampMicrosecondArray::from(vec![i64::MAX - 1]);
        let batch = RecordBatch::try_from_iter([("c", Arc::new(far) as ArrayRef)]).unwrap();
        for format in [Format::UnifiedText, Format::UnifiedBinary] {
            let fields = pg_fields(&batch.schema(), &format).unwrap();
            // The crate may learn to write it: what it must not do is to end the connection.
            pg_rows(fields, batch.clone()).for_each(drop);
        }
    }

    #[test]
    fn lists_of_decimals_keep_every_digit() {
        let digits = 99_999_999_999_999_999_999_999_999_999_999_999_999;
        let items = Decimal128Array::from(vec![Some(digits), None, Some(-5)]);
        let items = items.with_precision_and_scale(38, 10).unwrap();
        let item =
            Arc::new(arrow::datatypes::Field::new_list_field(items.data_type().clone(), true));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([3]);
        let list = arrow::array::ListArray::new(item, offsets, Arc::new(items), None);
        let expected = "{9999999999999999999999999999.9999999999,NULL,-0.0000000005}";
        assert_eq!(text(Arc::new(list)), some(&[expected]));
    }

    #[test]
    fn decimals_of_38_digits_keep_every_digit() {
        let array = Decimal128Array::from(vec![99_999_999_999_999_999_999_999_999_999_999_999_999])
            .with_precision_and_scale(38, 4)
            .unwrap();
        assert_eq!(text(Arc::new(array)), some(&["9999999999999999999999999999999999.9999"]));
    }
}
