//! [`parameters`]: the values of `$1`, `$2` … from a Bind message, in the types that the statement
//! wants.
//!
//! A value in text form is read as a quoted literal would be. One in binary form is of the type
//! that the client has told, or of the one that it was told.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use bytes::Buf;
use datafusion::scalar::ScalarValue::{self, self as Value};
use pgwire::api::portal::Portal;
use pgwire::error::PgWireResult;
use tokio_postgres::types::{Kind, Type};

use super::reply::wire_error;
use crate::error::{Error, ErrorKind, Result};
use crate::functions::{has_input, read_texts};
use crate::session::{Description, query_error};
use crate::types::{of_pg, pg_type};

/// From 1970-01-01 to 2000-01-01, from where Postgres counts.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;
const NUMERIC_NEGATIVE: u16 = 0x4000;
const NUMERIC_DIGITS: u8 = 38;

/// The values of a portal's parameters.
///
/// # Errors
/// As the error that a client gets.
pub(super) fn parameters<S: Clone>(
    portal: &Portal<S>,
    told: &[Option<Type>],
    description: &Description,
) -> PgWireResult<Vec<ScalarValue>> {
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
    let text = utf8(bytes)?;
    // A decimal has as many digits as it is written with.
    if to.is_decimal() {
        return decimal_text(text);
    }
    let texts: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let values = match has_input(to) {
        true => read_texts(&texts, to)?,
        false => arrow::compute::cast_with_options(&texts, to, &exact())?,
    };
    ScalarValue::try_from_array(&values, 0).map_err(query_error)
}

fn exact() -> CastOptions<'static> {
    CastOptions { safe: false, ..CastOptions::default() }
}

fn decimal_text(text: &str) -> Result<ScalarValue> {
    let mantissa = text.trim_ascii().split(['e', 'E']).next().unwrap_or_default();
    let power = text.trim_ascii().split(['e', 'E']).nth(1).and_then(|it| it.parse::<i64>().ok());
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let scale = (fraction as i64 - power.unwrap_or(0)).clamp(0, i64::from(NUMERIC_DIGITS));
    let to = DataType::Decimal128(NUMERIC_DIGITS, scale as i8);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![text]));
    ScalarValue::try_from_array(&read_texts(&texts, &to)?, 0).map_err(query_error)
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
        return self::text(text.as_bytes(), wanted);
    }
    value.cast_to(wanted).map_err(query_error)
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    str::from_utf8(bytes).map_err(|_| {
        Error::new(ErrorKind::InvalidEncoding, "invalid byte sequence for encoding \"UTF8\"")
    })
}

fn malformed(pg: &Type) -> Error {
    let message = format!("incorrect binary data format for type {}", pg.name());
    Error::new(ErrorKind::InvalidBinary, message)
}

/// The value that bytes in a type's binary form stand for.
fn binary(pg: &Type, bytes: &[u8]) -> Result<ScalarValue> {
    let bad = || malformed(pg);
    let far = || Error::new(ErrorKind::OutOfRange, format!("{} out of range", pg.name()));
    Ok(match *pg {
        Type::BOOL => Value::Boolean(Some(i8::from_be_bytes(fixed(bytes, pg)?) != 0)),
        Type::INT2 => Value::Int16(Some(i16::from_be_bytes(fixed(bytes, pg)?))),
        Type::INT4 => Value::Int32(Some(i32::from_be_bytes(fixed(bytes, pg)?))),
        Type::INT8 => Value::Int64(Some(i64::from_be_bytes(fixed(bytes, pg)?))),
        Type::OID => Value::Int64(Some(i64::from(u32::from_be_bytes(fixed(bytes, pg)?)))),
        Type::FLOAT4 => Value::Float32(Some(f32::from_be_bytes(fixed(bytes, pg)?))),
        Type::FLOAT8 => Value::Float64(Some(f64::from_be_bytes(fixed(bytes, pg)?))),
        Type::BYTEA => Value::Binary(Some(bytes.to_vec())),
        Type::UUID => Value::FixedSizeBinary(16, Some(fixed::<16>(bytes, pg)?.to_vec())),
        Type::JSONB => match bytes {
            [1, json @ ..] => text(json, &DataType::LargeBinary)?,
            _ => return Err(bad()),
        },
        Type::DATE => {
            let days = i32::from_be_bytes(fixed(bytes, pg)?).checked_add(EPOCH_DAYS);
            Value::Date32(Some(days.ok_or_else(far)?))
        }
        Type::TIME => Value::Time64Microsecond(Some(i64::from_be_bytes(fixed(bytes, pg)?))),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let micros = i64::from_be_bytes(fixed(bytes, pg)?).checked_add(EPOCH_MICROS);
            let zone = (*pg == Type::TIMESTAMPTZ).then(|| Arc::from("UTC"));
            Value::TimestampMicrosecond(Some(micros.ok_or_else(far)?), zone)
        }
        Type::INTERVAL => {
            let mut bytes = &fixed::<16>(bytes, pg)?[..];
            let nanos = bytes.get_i64().checked_mul(1000).ok_or_else(far)?;
            let (days, months) = (bytes.get_i32(), bytes.get_i32());
            Value::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, nanos)))
        }
        Type::NUMERIC => numeric(bytes)?,
        _ => match pg.kind() {
            Kind::Array(item) => list(pg, item, bytes)?,
            _ if of_pg(pg) == Some(DataType::Utf8) || *pg == Type::UNKNOWN => {
                Value::Utf8(Some(utf8(bytes)?.to_string()))
            }
            _ => {
                let message = format!("parameters of type {} are not supported", pg.name());
                return Err(Error::unsupported(message).with_hint("send it as text"));
            }
        },
    })
}

fn fixed<const LENGTH: usize>(bytes: &[u8], pg: &Type) -> Result<[u8; LENGTH]> {
    <[u8; LENGTH]>::try_from(bytes).map_err(|_| malformed(pg))
}

/// Groups of four digits, highest first.
fn numeric(mut bytes: &[u8]) -> Result<ScalarValue> {
    let bad = || malformed(&Type::NUMERIC);
    if bytes.len() < 8 {
        return Err(bad());
    }
    let (count, weight) = (bytes.get_u16(), bytes.get_i16());
    let (sign, scale) = (bytes.get_u16(), bytes.get_u16());
    if bytes.len() != 2 * usize::from(count) {
        return Err(bad());
    }
    let is_negative = match sign {
        0 => false,
        NUMERIC_NEGATIVE => true,
        _ => {
            let message = "a numeric that is NaN or infinite is not supported";
            return Err(Error::unsupported(message).with_hint("use double precision for it"));
        }
    };
    let overflow = || Error::new(ErrorKind::OutOfRange, "numeric field overflow");
    let scale = u8::try_from(scale).ok().filter(|it| *it <= NUMERIC_DIGITS).ok_or_else(overflow)?;
    let mut value: i128 = 0;
    for at in 0..i32::from(count) {
        let group = i128::from(bytes.get_i16());
        // The group's last digit stands for ten to this power, in units of the last digit.
        let power = 4 * (i32::from(weight) - at) + i32::from(scale);
        let part = match u32::try_from(power) {
            Ok(power) => 10_i128.checked_pow(power).and_then(|unit| group.checked_mul(unit)),
            Err(_) => Some(group / 10_i128.pow(power.unsigned_abs().min(38))),
        };
        let sum = part.and_then(|part| value.checked_add(part));
        value = sum.filter(|sum| *sum < 10_i128.pow(NUMERIC_DIGITS.into())).ok_or_else(overflow)?;
    }
    let value = if is_negative { -value } else { value };
    Ok(Value::Decimal128(Some(value), NUMERIC_DIGITS, scale.cast_signed()))
}

/// An array of one dimension.
fn list(pg: &Type, item: &Type, mut bytes: &[u8]) -> Result<ScalarValue> {
    let bad = || malformed(pg);
    let item_type = of_pg(item).ok_or_else(|| {
        let message = format!("parameters of type {} are not supported", pg.name());
        Error::unsupported(message).with_hint("send it as text")
    })?;
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
        assert_eq!(at, Value::TimestampMicrosecond(Some(EPOCH_MICROS), Some("UTC".into())));
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
        assert_eq!(text(&[0xff], &DataType::Utf8).unwrap_err().kind.sqlstate(), "22021");
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
