//! Values as text where PostgreSQL writes them in its own way.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use chrono::{DateTime, Datelike};

/// Microseconds.
const DAY: i64 = 86_400_000_000;

/// True if [`write_value`] writes values of the type.
pub fn has_text(data_type: &DataType) -> bool {
    let is_time =
        matches!(data_type, DataType::Timestamp(..) | DataType::Time64(TimeUnit::Microsecond));
    let is_float = matches!(data_type, DataType::Float32 | DataType::Float64);
    let is_interval = matches!(data_type, DataType::Interval(IntervalUnit::MonthDayNano));
    is_time || is_float || is_interval || data_type.is_binary()
}

/// Writes the text of a value that is not NULL; false for types whose text needs no care, and for
/// a time that no calendar has.
pub fn write_value(array: &ArrayRef, row: usize, out: &mut impl Write) -> bool {
    let written = match array.data_type() {
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            write_float(out, value, &format!("{value:e}"), 15)
        }
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            write_float(out, f64::from(value), &format!("{value:e}"), 6)
        }
        DataType::Timestamp(unit, zone) => {
            write_timestamp(out, micros(array, *unit, row), zone.is_some())
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            write_time(out, array.as_primitive::<Time64MicrosecondType>().value(row))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            write_interval(out, array.as_primitive::<IntervalMonthDayNanoType>().value(row))
        }
        // JSON is kept as its text.
        DataType::LargeBinary => match str::from_utf8(array.as_binary::<i64>().value(row)) {
            Ok(text) => out.write_str(text),
            Err(_) => Err(std::fmt::Error),
        },
        DataType::FixedSizeBinary(16) => write_uuid(out, array.as_fixed_size_binary().value(row)),
        DataType::Binary => write_bytes(out, array.as_binary::<i32>().value(row)),
        DataType::BinaryView => write_bytes(out, array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => write_bytes(out, array.as_fixed_size_binary().value(row)),
        _ => return false,
    };
    written.is_ok()
}

fn write_bytes(out: &mut impl Write, bytes: &[u8]) -> std::fmt::Result {
    out.write_str("\\x")?;
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

fn write_uuid(out: &mut impl Write, bytes: &[u8]) -> std::fmt::Result {
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.write_char('-')?;
        }
        write!(out, "{byte:02x}")?;
    }
    Ok(())
}

/// Years, months and days in words, then the time; what is negative behind something positive or
/// the other way round has its own sign.
fn write_interval(out: &mut impl Write, value: IntervalMonthDayNano) -> std::fmt::Result {
    let (years, months) = (value.months / 12, value.months % 12);
    let mut is_first = true;
    let mut after_negative = false;
    for (count, unit) in [(years, "year"), (months, "mon"), (value.days, "day")] {
        if count == 0 {
            continue;
        }
        let blank = if is_first { "" } else { " " };
        let sign = if after_negative && count > 0 { "+" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        write!(out, "{blank}{sign}{count} {unit}{plural}")?;
        (is_first, after_negative) = (false, count < 0);
    }
    if value.nanoseconds == 0 && !is_first {
        return Ok(());
    }
    let micros = value.nanoseconds / 1000;
    let sign = match micros {
        ..0 => "-",
        _ if after_negative => "+",
        _ => "",
    };
    let blank = if is_first { "" } else { " " };
    write!(out, "{blank}{sign}")?;
    write_clock(out, micros.unsigned_abs())
}

/// The shortest digits, plain between 1e-4 and 10^`plain_below`, else with an exponent.
fn write_float(
    out: &mut impl Write,
    value: f64,
    scientific: &str,
    plain_below: i32,
) -> std::fmt::Result {
    if value.is_nan() {
        return out.write_str("NaN");
    }
    if value.is_infinite() {
        return out.write_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..plain_below).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return write!(out, "{mantissa}e{sign}{:02}", exponent.abs());
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let Ok(whole) = usize::try_from(exponent) else {
        let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
        return write!(out, "{sign}0.{:0<zeros$}{first}{rest}", "");
    };
    match rest.split_at_checked(whole) {
        None => write!(out, "{sign}{first}{rest:0<whole$}"),
        Some((whole, "")) => write!(out, "{sign}{first}{whole}"),
        Some((whole, fraction)) => write!(out, "{sign}{first}{whole}.{fraction}"),
    }
}

fn micros(array: &ArrayRef, unit: TimeUnit, row: usize) -> i64 {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row) * 1_000_000,
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row) * 1000,
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => {
            array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1000)
        }
    }
}

/// Date and time in UTC, without zeros at the end of the fraction.
fn write_timestamp(out: &mut impl Write, micros: i64, zoned: bool) -> std::fmt::Result {
    let time = DateTime::from_timestamp_micros(micros).ok_or(std::fmt::Error)?;
    // Before the year 1 there are years before Christ, and none is 0.
    let (year, is_before) = match time.year() {
        year @ 1.. => (year, false),
        year => (1 - year, true),
    };
    write!(out, "{year:04}-{:02}-{:02} ", time.month(), time.day())?;
    write_time(out, micros.rem_euclid(DAY))?;
    if zoned {
        out.write_str("+00")?;
    }
    if is_before {
        out.write_str(" BC")?;
    }
    Ok(())
}

/// Microseconds of a day, without zeros at the end of the fraction.
fn write_time(out: &mut impl Write, micros: i64) -> std::fmt::Result {
    write_clock(out, micros.unsigned_abs())
}

fn write_clock(out: &mut impl Write, micros: u64) -> std::fmt::Result {
    let (seconds, mut fraction) = (micros / 1_000_000, micros % 1_000_000);
    write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    if fraction == 0 {
        return Ok(());
    }
    let mut width = 6;
    while fraction % 10 == 0 {
        fraction /= 10;
        width -= 1;
    }
    write!(out, ".{fraction:0width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_read_as_in_postgres() {
        let text = |value: f64| {
            let mut text = String::new();
            write_float(&mut text, value, &format!("{value:e}"), 15).unwrap();
            text
        };
        assert_eq!(text(1.0), "1");
        assert_eq!(text(-0.5), "-0.5");
        assert_eq!(text(120.0), "120");
        assert_eq!(text(1234.5678), "1234.5678");
        assert_eq!(text(0.0001), "0.0001");
        assert_eq!(text(0.0123), "0.0123");
        assert_eq!(text(0.00001), "1e-05");
        assert_eq!(text(1e14), "100000000000000");
        assert_eq!(text(1.5e15), "1.5e+15");
        assert_eq!(text(0.0), "0");
        assert_eq!(text(-0.0), "-0");
        assert_eq!(text(f64::NEG_INFINITY), "-Infinity");
    }

    #[test]
    fn intervals_read_as_in_postgres() {
        let text = |months, days, micros: i64| {
            let mut text = String::new();
            let value = IntervalMonthDayNano::new(months, days, micros * 1000);
            write_interval(&mut text, value).unwrap();
            text
        };
        assert_eq!(text(0, 0, 0), "00:00:00");
        assert_eq!(text(14, 3, 14_706_500_000), "1 year 2 mons 3 days 04:05:06.5");
        assert_eq!(text(-1, 1, -1_000_000), "-1 mons +1 day -00:00:01");
        assert_eq!(text(0, -1, 7_200_000_000), "-1 days +02:00:00");
        assert_eq!(text(-12, 0, 0), "-1 years");
        assert_eq!(text(0, 0, 360_000_000_000), "100:00:00");
    }

    #[test]
    fn timestamps_read_as_in_postgres() {
        let text = |micros: i64| {
            let mut text = String::new();
            write_timestamp(&mut text, micros, false).unwrap();
            text
        };
        assert_eq!(text(0), "1970-01-01 00:00:00");
        assert_eq!(text(1_500_000), "1970-01-01 00:00:01.5");
        assert_eq!(text(50), "1970-01-01 00:00:00.00005");
        assert_eq!(text(-1), "1969-12-31 23:59:59.999999");
        assert_eq!(text(-62_135_596_800_000_001), "0001-12-31 23:59:59.999999 BC");
    }
}
