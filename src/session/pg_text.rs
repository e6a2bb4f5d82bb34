//! [`PgText`]: values whose text PostgreSQL writes in its own way.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, TimeUnit, TimestampMicrosecondType};
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Timelike};
use pgwire::types::ToSqlText;
use pgwire::types::format::FormatOptions;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

type Encoded = Result<IsNull, Box<dyn std::error::Error + Send + Sync>>;

/// A value's text.
#[derive(Debug)]
pub(super) struct PgText(String);

impl PgText {
    /// The text of a value that is not NULL; `None` for types whose text the crate writes right.
    pub(super) fn of(array: &ArrayRef, row: usize) -> Option<Self> {
        match array.data_type() {
            DataType::Float64 => {
                let value = array.as_primitive::<Float64Type>().value(row);
                Some(Self(float(value, &format!("{value:e}"), 15)))
            }
            DataType::Float32 => {
                let value = array.as_primitive::<Float32Type>().value(row);
                Some(Self(float(f64::from(value), &format!("{value:e}"), 6)))
            }
            DataType::Timestamp(_, zone) => timestamp(array, row, zone.is_some()).map(Self),
            _ => None,
        }
    }
}

/// The shortest digits, plain between 1e-4 and 10^`plain_below`, else with an exponent.
fn float(value: f64, scientific: &str, plain_below: i32) -> String {
    if value.is_nan() {
        return "NaN".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_string();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..plain_below).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let mut digits = mantissa.replace('.', "");
    let Ok(whole) = usize::try_from(exponent) else {
        let zeros = "0".repeat(usize::try_from(-exponent - 1).unwrap_or(0));
        return format!("{sign}0.{zeros}{digits}");
    };
    while digits.len() <= whole {
        digits.push('0');
    }
    let (whole, fraction) = digits.split_at(whole + 1);
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// Date and time in UTC, without zeros at the end of the fraction.
fn timestamp(array: &ArrayRef, row: usize, zoned: bool) -> Option<String> {
    let plain = DataType::Timestamp(TimeUnit::Microsecond, None);
    let micros = cast(&array.slice(row, 1), &plain).ok()?;
    let micros = micros.as_primitive::<TimestampMicrosecondType>().value(0);
    let time = DateTime::from_timestamp_micros(micros)?;
    let mut text = time.format("%Y-%m-%d %H:%M:%S").to_string();
    let fraction = time.nanosecond() / 1000;
    if fraction > 0 {
        let digits = format!("{fraction:06}");
        write!(text, ".{}", digits.trim_end_matches('0')).ok()?;
    }
    if zoned {
        text.push_str("+00");
    }
    Some(text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_read_as_in_postgres() {
        let text = |value: f64| float(value, &format!("{value:e}"), 15);
        assert_eq!(text(1.0), "1");
        assert_eq!(text(-0.5), "-0.5");
        assert_eq!(text(1234.5678), "1234.5678");
        assert_eq!(text(0.0001), "0.0001");
        assert_eq!(text(0.00001), "1e-05");
        assert_eq!(text(1e14), "100000000000000");
        assert_eq!(text(1.5e15), "1.5e+15");
        assert_eq!(text(0.0), "0");
        assert_eq!(text(f64::NEG_INFINITY), "-Infinity");
    }
}
