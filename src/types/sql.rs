//! [`arrow_type`]: the Arrow type of a type that SQL names.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use sqlparser::ast::{DataType as SqlType, ExactNumberInfo, ObjectName, TimezoneInfo};

use super::{JSONB, TypeForms, UUID};
use crate::error::{Error, Result};

/// Digits of a `NUMERIC` without precision, and digits after its point.
const NUMERIC_DEFAULT: (u8, i8) = (38, 10);

/// The Arrow type of a type that SQL names.
///
/// `JSON` is kept as text; `NUMERIC` without precision has 38 digits, 10 of them after the point.
///
/// # Errors
/// `Unsupported` for a type that has no column form.
pub fn arrow_type(sql: &SqlType, forms: TypeForms) -> Result<DataType> {
    Ok(match sql {
        SqlType::Uuid if forms == TypeForms::Own => UUID,
        SqlType::JSONB if forms == TypeForms::Own => JSONB,
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::SmallInt(_) | SqlType::Int2(_) => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => DataType::Int32,
        SqlType::BigInt(_) | SqlType::Int8(_) => DataType::Int64,
        SqlType::Real | SqlType::Float4 => DataType::Float32,
        SqlType::Float(info) => float_type(info),
        SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Float8 => DataType::Float64,
        SqlType::Numeric(info) | SqlType::Decimal(info) | SqlType::Dec(info) => {
            numeric_type(*info)?
        }
        SqlType::Text
        | SqlType::String(_)
        | SqlType::Varchar(_)
        | SqlType::CharacterVarying(_)
        | SqlType::CharVarying(_)
        | SqlType::Char(_)
        | SqlType::Character(_)
        | SqlType::JSON
        | SqlType::JSONB
        | SqlType::Uuid => DataType::Utf8,
        SqlType::Bytea => DataType::Binary,
        SqlType::Date => DataType::Date32,
        SqlType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Time64(TimeUnit::Microsecond)
        }
        SqlType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        SqlType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        SqlType::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        SqlType::Custom(name, _) => custom_type(name)?,
        other => return Err(unsupported(&other.to_string())),
    })
}

/// Fraction digits that the name of a time's type gives, as the 3 of `TIMESTAMP(3)`.
pub fn time_precision(sql: &SqlType) -> Option<u8> {
    match sql {
        SqlType::Time(digits, _) | SqlType::Timestamp(digits, _) => {
            digits.and_then(|digits| u8::try_from(digits).ok())
        }
        _ => None,
    }
}

fn float_type(info: &ExactNumberInfo) -> DataType {
    match info {
        ExactNumberInfo::Precision(bits) if *bits <= 24 => DataType::Float32,
        _ => DataType::Float64,
    }
}

fn numeric_type(info: ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => {
            return Ok(DataType::Decimal128(NUMERIC_DEFAULT.0, NUMERIC_DEFAULT.1));
        }
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if scale >= 0 && scale.unsigned_abs() <= precision => {
            Ok(DataType::Decimal128(precision, scale))
        }
        _ => Err(Error::unsupported(format!(
            "type \"numeric({precision},{scale})\" is not supported"
        ))
        .with_hint("precision is 1 to 38, and scale is 0 to the precision")),
    }
}

fn custom_type(name: &ObjectName) -> Result<DataType> {
    let text = name.to_string().to_lowercase();
    match text.rsplit('.').next().unwrap_or_default().trim_matches('"') {
        "name" | "bpchar" => Ok(DataType::Utf8),
        "oid" => Ok(DataType::Int32),
        _ => Err(unsupported(&text)),
    }
}

fn unsupported(name: &str) -> Error {
    Error::unsupported(format!("type \"{}\" is not supported", name.to_lowercase())).with_hint(
        "types are boolean, smallint, int, bigint, real, double precision, numeric, text, \
         varchar, bytea, date, time, timestamp, timestamptz, interval, json, jsonb, uuid",
    )
}
