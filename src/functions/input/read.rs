//! [`read_texts`]: the values that texts stand for, as PostgreSQL's input functions read them.
//!
//! Quoted literals, casts of text and parameters in text form are all read here, so that one text
//! has one meaning.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Decimal128Array,
    FixedSizeBinaryArray, FixedSizeBinaryBuilder, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, IntervalMonthDayNanoArray, LargeBinaryArray, LargeBinaryBuilder,
    ListArray, StringArray,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::scalar::ScalarValue;
use frazil_format::{canonical_json, read_uuid};

use super::bytes::read_bytes;
use super::invalid::invalid_text;
use super::{interval, list, number};
use crate::error::{Error, ErrorKind, Result};
use crate::types::pg_name;

/// True if [`read_texts`] reads values of the type in PostgreSQL's own way.
pub fn has_input(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Interval(IntervalUnit::MonthDayNano)
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::FixedSizeBinary(16) => true,
        DataType::Decimal128(_, scale) => *scale >= 0,
        DataType::List(item) => has_input(item.data_type()) || item.data_type().is_string(),
        _ => false,
    }
}

/// The values of a type that a column of texts stands for.
///
/// **Law:** it reads what the type's values are written as, and gives the same values.
///
/// # Errors
/// `InvalidValue` for a text that is no such value, `OutOfRange` for one beyond the type.
pub fn read_texts(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let texts = cast(column, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    let invalid = |text: &str| invalid_text(text, &pg_name(to));
    Ok(match to {
        DataType::Boolean => {
            let read = |text| boolean(text).ok_or_else(|| invalid(text));
            Arc::new(collected::<_, BooleanArray>(texts, read)?)
        }
        DataType::Int16 => {
            Arc::new(collected::<_, Int16Array>(texts, |text| number::integer(text, to))?)
        }
        DataType::Int32 => {
            Arc::new(collected::<_, Int32Array>(texts, |text| number::integer(text, to))?)
        }
        DataType::Int64 => {
            Arc::new(collected::<_, Int64Array>(texts, |text| number::integer(text, to))?)
        }
        DataType::Float32 => Arc::new(collected::<_, Float32Array>(texts, |text| {
            number::float(text, to, f32::is_infinite, |value| *value == 0.0)
        })?),
        DataType::Float64 => Arc::new(collected::<_, Float64Array>(texts, |text| {
            number::float(text, to, f64::is_infinite, |value| *value == 0.0)
        })?),
        DataType::Decimal128(precision, scale) => {
            let read = |text| number::decimal(text, *precision, *scale);
            let values = collected::<_, Decimal128Array>(texts, read)?;
            Arc::new(values.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Interval(_) => {
            let read = |text| interval::read(text);
            Arc::new(collected::<_, IntervalMonthDayNanoArray>(texts, read)?)
        }
        DataType::List(item) => {
            let lists = list::split(texts)?;
            let items: ArrayRef = Arc::new(lists.items);
            let items = read_texts(&items, item.data_type())?;
            let lists = ListArray::try_new(Arc::clone(item), lists.offsets, items, lists.nulls)?;
            Arc::new(lists)
        }
        DataType::FixedSizeBinary(16) => Arc::new(uuids(texts)?),
        DataType::LargeBinary => Arc::new(documents(texts)?),
        DataType::Binary => Arc::new(bytes_of(texts)?),
        // Those that are read as Arrow reads them.
        _ => {
            let exact = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(column, to, &exact)?
        }
    })
}

fn uuids(texts: &StringArray) -> Result<FixedSizeBinaryArray> {
    let mut values = FixedSizeBinaryBuilder::with_capacity(texts.len(), 16);
    for text in texts {
        match text {
            None => values.append_null(),
            Some(text) => {
                values.append_value(read_uuid(text).ok_or_else(|| invalid_text(text, "uuid"))?)?;
            }
        }
    }
    Ok(values.finish())
}

fn documents(texts: &StringArray) -> Result<LargeBinaryArray> {
    let mut values = LargeBinaryBuilder::with_capacity(texts.len(), texts.values().len());
    let mut canonical = String::new();
    for text in texts {
        let Some(text) = text else {
            values.append_null();
            continue;
        };
        canonical.clear();
        canonical_json(text, &mut canonical).map_err(|reason| invalid_json(text, &reason))?;
        values.append_value(&canonical);
    }
    Ok(values.finish())
}

fn bytes_of(texts: &StringArray) -> Result<BinaryArray> {
    let mut values = BinaryBuilder::with_capacity(texts.len(), texts.values().len());
    let mut bytes = Vec::new();
    for text in texts {
        bytes.clear();
        match text {
            None => values.append_null(),
            Some(text) => {
                read_bytes(text, &mut bytes).ok_or_else(|| invalid_text(text, "bytea"))?;
                values.append_value(&bytes);
            }
        }
    }
    Ok(values.finish())
}

/// The value of a type that one text stands for; a decimal has the digits that it is written with.
///
/// # Errors
/// As [`read_texts`].
pub fn read_text(text: &str, to: &DataType) -> Result<ScalarValue> {
    let to = if to.is_decimal() { &number::written_decimal(text) } else { to };
    let texts: ArrayRef = Arc::new(StringArray::from(vec![text]));
    Ok(ScalarValue::try_from_array(&read_texts(&texts, to)?, 0)?)
}

/// Reads each text that is not NULL.
fn collected<'a, T, A: FromIterator<Option<T>>>(
    texts: &'a StringArray,
    read: impl Fn(&'a str) -> Result<T>,
) -> Result<A> {
    texts.iter().map(|text| text.map(&read).transpose()).collect()
}

/// Beginnings of `true`, `false`, `yes`, `no`, `on`, `off` that no other begins with, and 0 and 1.
fn boolean(text: &str) -> Option<bool> {
    let word = text.trim_ascii().to_ascii_lowercase();
    if word.is_empty() {
        return None;
    }
    let begins = |whole: &str| whole.starts_with(&word);
    match word.as_str() {
        "1" | "on" => Some(true),
        "0" | "of" | "off" => Some(false),
        _ if begins("true") || begins("yes") => Some(true),
        _ if begins("false") || begins("no") => Some(false),
        _ => None,
    }
}

fn invalid_json(text: &str, reason: &str) -> Error {
    let shown: String = text.chars().take(100).collect();
    let error = Error::new(ErrorKind::InvalidValue, "invalid input syntax for type json");
    error.with_detail(format!("{reason}: {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::write_value;
    use crate::types::UUID;

    fn read(text: &str, to: &DataType) -> Result<ArrayRef> {
        read_texts(&(Arc::new(StringArray::from(vec![text])) as ArrayRef), to)
    }

    #[test]
    fn booleans_are_read_by_their_beginnings() {
        for (text, expected) in [
            ("t", Some(true)),
            (" YES ", Some(true)),
            ("on", Some(true)),
            ("1", Some(true)),
            ("fal", Some(false)),
            ("N", Some(false)),
            ("of", Some(false)),
            ("o", None),
            ("", None),
            ("2", None),
            ("truex", None),
        ] {
            assert_eq!(boolean(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        for (text, to) in [
            ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", UUID),
            (r#"{"a": [1, 2.5, null]}"#, DataType::LargeBinary),
            ("1 year 2 mons -3 days +04:05:06.5", interval.clone()),
            ("-1 mons +1 day -00:00:01", interval),
            ("NaN", DataType::Float64),
            ("-Infinity", DataType::Float32),
            ("\\x00ff", DataType::Binary),
        ] {
            let values = read(text, &to).unwrap();
            let mut written = String::new();
            assert!(write_value(&values, 0, &mut written));
            assert_eq!(written, text);
        }
    }

    #[test]
    fn nulls_stay_and_bad_texts_are_told() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![None, Some("no-uuid")]));
        assert_eq!(read_texts(&texts.slice(0, 1), &UUID).unwrap().null_count(), 1);
        let error = read_texts(&texts, &UUID).unwrap_err();
        assert_eq!(error.kind.sqlstate(), "22P02");
        assert_eq!(error.message, "invalid input syntax for type uuid: \"no-uuid\"");
        assert_eq!(read("{", &DataType::LargeBinary).unwrap_err().kind.sqlstate(), "22P02");
    }
}
