//! [`parameters`]: the values of `$1`, `$2` … from a Bind message, in the types that the statement
//! wants.
//!
//! A value in text form is read as a quoted literal would be. One in binary form is of the type
//! that the client has told, or of the one that it was told.

use arrow::datatypes::DataType;
use bytes::Buf;
use datafusion::scalar::ScalarValue::{self, self as Value};
use pgwire::api::portal::Portal;
use pgwire::error::PgWireResult;
use tokio_postgres::types::{Kind, Type};

use super::binary_values::BinaryValues;
use super::reply::wire_error;
use super::utf8;
use crate::error::{Error, ErrorKind, Result};
use crate::functions::{has_input, read_text};
use crate::session::{Description, query_error};
use crate::types::{of_pg, pg_type};

/// The values of a portal's parameters.
///
/// # Errors
/// As the error that a client gets.
pub(super) fn parameters<S: Clone>(
    portal: &Portal<S>,
    description: &Description,
) -> PgWireResult<Vec<ScalarValue>> {
    let told = &portal.statement.parameter_types;
    let value = |(at, given): (usize, &Option<bytes::Bytes>)| {
        let wanted = description.params.get(at).and_then(Option::as_ref);
        let told = told.get(at).and_then(Option::as_ref);
        let is_binary = portal.parameter_format.is_binary(at);
        parameter(given.as_deref(), is_binary, told, wanted)
            .map_err(|error| wire_error(error.within(format!("parameter ${}", at + 1))))
    };
    portal.parameters.iter().enumerate().map(value).collect()
}

fn parameter(
    given: Option<&[u8]>,
    is_binary: bool,
    told: Option<&Type>,
    wanted: Option<&DataType>,
) -> Result<ScalarValue> {
    let Some(bytes) = given else {
        let wanted = wanted.cloned().or_else(|| told.and_then(of_pg));
        return ScalarValue::try_from(wanted.unwrap_or(DataType::Utf8)).map_err(query_error);
    };
    let value = match is_binary {
        true => {
            let described = || pg_type(wanted.unwrap_or(&DataType::Utf8));
            let pg = told.cloned().or_else(described);
            let pg = pg.ok_or_else(|| Error::internal("a parameter has no type"))?;
            binary(&pg, bytes)?
        }
        false => {
            let read_as = told.and_then(of_pg);
            text(bytes, read_as.as_ref().or(wanted).unwrap_or(&DataType::Utf8))?
        }
    };
    as_wanted(value, wanted)
}

/// The value that a text stands for.
fn text(bytes: &[u8], to: &DataType) -> Result<ScalarValue> {
    read_text(utf8::text(bytes)?, to)
}

fn as_wanted(value: ScalarValue, wanted: Option<&DataType>) -> Result<ScalarValue> {
    let Some(wanted) = wanted.filter(|wanted| value.data_type() != **wanted) else {
        return Ok(value);
    };
    // Its own digits are as many as it needs.
    if value.data_type().is_decimal() && wanted.is_decimal() {
        return Ok(value);
    }
    if let Value::Utf8(Some(text)) = &value
        && has_input(wanted)
    {
        return read_text(text, wanted);
    }
    value.cast_to(wanted).map_err(query_error)
}

fn malformed(pg: &Type) -> Error {
    let message = format!("incorrect binary data format for type {}", pg.name());
    Error::new(ErrorKind::InvalidBinary, message)
}

/// The value that bytes in a type's binary form stand for.
fn binary(pg: &Type, bytes: &[u8]) -> Result<ScalarValue> {
    if let Kind::Array(item) = pg.kind() {
        return list(pg, item, bytes);
    }
    if *pg == Type::OID {
        let bytes = <[u8; 4]>::try_from(bytes).map_err(|_| malformed(pg))?;
        return Ok(ScalarValue::from(i64::from(u32::from_be_bytes(bytes))));
    }
    let data_type = match *pg {
        Type::UNKNOWN => DataType::Utf8,
        _ => of_pg(pg).ok_or_else(|| unsupported(pg))?,
    };
    let mut values = BinaryValues::of(&data_type)?;
    values.append(bytes).map_err(|error| match error.kind {
        ErrorKind::InvalidBinary => malformed(pg),
        _ => error,
    })?;
    let value = ScalarValue::try_from_array(&values.finish(), 0).map_err(query_error)?;
    match &value {
        Value::Utf8(Some(text)) => read_text(text, &data_type),
        _ => Ok(value),
    }
}

fn unsupported(pg: &Type) -> Error {
    let message = format!("parameters of type {} are not supported", pg.name());
    Error::unsupported(message).with_hint("send it as text")
}

/// An array of one dimension.
fn list(pg: &Type, item: &Type, mut bytes: &[u8]) -> Result<ScalarValue> {
    let bad = || malformed(pg);
    let item_type = of_pg(item).ok_or_else(|| unsupported(pg))?;
    let mut next = |length: usize| -> Result<&[u8]> {
        let (head, rest) = bytes.split_at_checked(length).ok_or_else(bad)?;
        bytes = rest;
        Ok(head)
    };
    let dimensions = next(12)?[..4].iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    let count = match dimensions {
        0 => 0,
        1 => next(8)?.get_i32(),
        _ => return Err(Error::unsupported("arrays of several dimensions are not supported")),
    };
    let mut items = Vec::new();
    for _ in 0..count {
        let length = next(4)?.get_i32();
        items.push(match usize::try_from(length) {
            Err(_) => ScalarValue::try_from(&item_type).map_err(query_error)?,
            Ok(length) => binary(item, next(length)?)?,
        });
    }
    // Decimals may have scales of their own.
    let item_type = match items.iter().map(ScalarValue::data_type).max_by_key(scale_of) {
        Some(widest) if widest.is_decimal() => widest,
        _ => item_type,
    };
    let items = items.into_iter().map(|it| it.cast_to(&item_type).map_err(query_error));
    let items = items.collect::<Result<Vec<_>>>()?;
    Ok(Value::List(ScalarValue::new_list_nullable(&items, &item_type)))
}

fn scale_of(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;
    use crate::types::UUID;

    #[test]
    fn binary_values_are_read() {
        let numeric = |bytes: &[u8]| binary(&Type::NUMERIC, bytes).unwrap();
        let decimal = |value, scale| Value::Decimal128(Some(value), 38, scale);
        assert_eq!(numeric(&[0, 2, 0, 0, 0, 0, 0, 2, 4, 210, 21, 224]), decimal(123_456, 2));
        assert_eq!(numeric(&[0, 1, 255, 255, 64, 0, 0, 4, 0, 5]), decimal(-5, 4));
        assert_eq!(numeric(&[0, 1, 255, 254, 0, 0, 0, 8, 0, 1]), decimal(1, 8));
        assert_eq!(numeric(&[0, 0, 0, 0, 0, 0, 0, 0]), decimal(0, 0));
        let at = binary(&Type::TIMESTAMPTZ, &0_i64.to_be_bytes()).unwrap();
        assert_eq!(at, Value::TimestampMicrosecond(Some(946_684_800_000_000), Some("UTC".into())));
        let bytes = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 21, 0, 0, 0, 2, 0, 0, 0, 1];
        let items = [0, 0, 0, 2, 0, 7, 255, 255, 255, 255];
        let list = binary(&Type::INT2_ARRAY, &[&bytes[..], &items[..]].concat()).unwrap();
        assert_eq!(list.to_string(), "[7, ]");
    }

    #[test]
    fn broken_binary_values_are_refused() {
        for (pg, bytes) in [
            (Type::INT4, &[1, 2][..]),
            (Type::UUID, &[0; 15]),
            (Type::JSONB, b"{}"),
            (Type::NUMERIC, &[0, 9, 0, 0, 0, 0, 0, 0]),
            (Type::INT4_ARRAY, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 127, 0, 0, 0, 0, 0, 0, 1]),
            (Type::INT4_ARRAY, &[0]),
        ] {
            assert_eq!(binary(&pg, bytes).unwrap_err().kind.sqlstate(), "22P03", "{pg}");
        }
        let far = i64::MAX.to_be_bytes();
        assert_eq!(binary(&Type::TIMESTAMP, &far).unwrap_err().kind.sqlstate(), "22003");
        let error = text(&[0xff], &DataType::Utf8).unwrap_err();
        assert_eq!(error.kind.sqlstate(), "22021");
    }

    #[test]
    fn texts_are_read_as_literals() {
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let value = parameter(Some(uuid.as_bytes()), false, None, Some(&UUID)).unwrap();
        assert_eq!(value.data_type(), UUID);
        let told = parameter(Some(uuid.as_bytes()), false, Some(&Type::TEXT), Some(&UUID)).unwrap();
        assert_eq!(told, value);
        let decimal = DataType::Decimal128(10, 2);
        let value = parameter(Some(b"1E-8"), false, None, Some(&decimal)).unwrap();
        assert_eq!(value, Value::Decimal128(Some(1), 38, 8));
        let seconds = DataType::Timestamp(TimeUnit::Microsecond, None);
        let value = parameter(Some(b"2020-01-01"), false, None, Some(&seconds)).unwrap();
        assert_eq!(value.data_type(), seconds);
        assert!(parameter(None, false, None, Some(&UUID)).unwrap().is_null());
    }
}
