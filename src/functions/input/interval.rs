//! Texts as intervals.

use arrow::datatypes::IntervalMonthDayNano;

use super::invalid::invalid_text;
use crate::error::{Error, ErrorKind, Result};

const SECOND: f64 = 1e6;
const DAY: f64 = 86_400.0 * SECOND;

/// What has been read so far; the last two are in microseconds and may have fractions.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    months: f64,
    days: f64,
    micros: f64,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Word<'a> {
    Number(f64),
    /// `1-2`: years and months, of one sign.
    YearMonth(f64, f64),
    /// `04:05:06.5`, in microseconds.
    Clock(f64),
    Unit(&'a str),
}

/// Reads `1 year 2 mons -3 days 04:05:06.5`, `1-2 3 4:05`, `P1Y2M3DT4H5M6S`, `@ 2 hours ago`; a
/// number without a unit has seconds, or days before a time.
///
/// # Errors
/// `InvalidValue`, `OutOfRange`.
pub(super) fn read(text: &str) -> Result<IntervalMonthDayNano> {
    let invalid = || invalid_text(text, "interval");
    let trimmed = text.trim_ascii();
    let sum = match trimmed.strip_prefix('P') {
        Some(iso) => read_iso(iso).ok_or_else(invalid)?,
        None => read_words(trimmed).ok_or_else(invalid)?,
    };
    finish(sum).ok_or_else(|| {
        let message = format!("interval field value out of range: \"{text}\"");
        Error::new(ErrorKind::OutOfRange, message)
    })
}

fn finish(sum: Sum) -> Option<IntervalMonthDayNano> {
    let whole = |value: f64, max: f64| (value.abs() <= max).then_some(value);
    let months = whole(sum.months, f64::from(i32::MAX))? as i32;
    let days = whole(sum.days, f64::from(i32::MAX))? as i32;
    let micros = whole(sum.micros.round_ties_even(), i64::MAX as f64 / 1001.0)? as i64;
    Some(IntervalMonthDayNano::new(months, days, micros.checked_mul(1000)?))
}

fn read_words(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut pending: Option<f64> = None;
    let mut is_ago = false;
    let mut is_empty = true;
    let mut rest = text.strip_prefix('@').unwrap_or(text).trim_ascii_start();
    while !rest.is_empty() {
        if is_ago {
            return None;
        }
        let (word, behind) = next_word(rest)?;
        rest = behind.trim_ascii_start();
        match (word, pending.take()) {
            (Word::Number(number), None) => pending = Some(number),
            (Word::Unit("ago"), None) if !is_empty => is_ago = true,
            (Word::Unit(unit), Some(number)) => sum.add(number, unit)?,
            (Word::Clock(micros), days) => {
                // `1 04:05` has a day before its time.
                sum.add(days.unwrap_or(0.0), "day")?;
                sum.micros += micros;
            }
            (Word::YearMonth(years, months), None) => sum.months += years * 12.0 + months,
            _ => return None,
        }
        is_empty = false;
    }
    if let Some(seconds) = pending {
        sum.add(seconds, "second")?;
    }
    if is_ago {
        sum = Sum { months: -sum.months, days: -sum.days, micros: -sum.micros };
    }
    (!is_empty).then_some(sum)
}

/// The first part of a text, and the rest.
fn next_word(text: &str) -> Option<(Word<'_>, &str)> {
    let first = text.chars().next()?;
    if first.is_ascii_alphabetic() {
        let end = text.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(text.len());
        return Some((Word::Unit(&text[..end]), &text[end..]));
    }
    let end = text.find(|letter: char| !(letter.is_ascii_digit() || "+-.:".contains(letter)));
    let (number, rest) = text.split_at(end.unwrap_or(text.len()));
    // A sign may stand apart from its number.
    if matches!(number, "+" | "-") {
        let (word, behind) = next_word(rest.trim_ascii_start())?;
        let sign = if number == "-" { -1.0 } else { 1.0 };
        return Some((word.times(sign)?, behind));
    }
    let (sign, unsigned) = match number.strip_prefix('-') {
        Some(unsigned) => (-1.0, unsigned),
        None => (1.0, number.strip_prefix('+').unwrap_or(number)),
    };
    if unsigned.contains(':') {
        return Some((Word::Clock(sign * clock(unsigned)?), rest));
    }
    if let Some((years, months)) = unsigned.split_once('-') {
        let (years, months) = (digits(years)?, digits(months)?);
        return (months < 12.0).then_some((Word::YearMonth(sign * years, sign * months), rest));
    }
    Some((Word::Number(sign * decimal(unsigned)?), rest))
}

impl Word<'_> {
    fn times(self, sign: f64) -> Option<Self> {
        Some(match self {
            Self::Number(number) => Self::Number(sign * number),
            Self::YearMonth(years, months) => Self::YearMonth(sign * years, sign * months),
            Self::Clock(micros) => Self::Clock(sign * micros),
            Self::Unit(_) => return None,
        })
    }
}

/// `hh:mm`, `hh:mm:ss.f` or `mm:ss.f`, in microseconds.
fn clock(text: &str) -> Option<f64> {
    let parts: Vec<&str> = text.split(':').collect();
    let (hours, minutes, seconds) = match parts.as_slice() {
        [minutes, seconds] if seconds.contains('.') => (0.0, digits(minutes)?, decimal(seconds)?),
        [hours, minutes] => (digits(hours)?, digits(minutes)?, 0.0),
        [hours, minutes, seconds] => (digits(hours)?, digits(minutes)?, decimal(seconds)?),
        _ => return None,
    };
    (minutes < 60.0 && seconds < 61.0)
        .then_some(((hours * 60.0 + minutes) * 60.0 + seconds) * SECOND)
}

fn digits(text: &str) -> Option<f64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

fn decimal(text: &str) -> Option<f64> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (is_decimal && text != ".").then(|| text.parse().ok())?
}

impl Sum {
    /// Adds a number of a unit; a fraction of a year is in whole months, that of a longer unit
    /// than a second in the units below it.
    fn add(&mut self, number: f64, unit: &str) -> Option<()> {
        let unit = unit.to_ascii_lowercase();
        match unit.as_str() {
            "millennium" | "millennia" | "mil" | "mils" => self.add_years(number * 1000.0),
            "century" | "centuries" | "c" | "cent" => self.add_years(number * 100.0),
            "decade" | "decades" | "dec" | "decs" => self.add_years(number * 10.0),
            "year" | "years" | "y" | "yr" | "yrs" => self.add_years(number),
            "month" | "months" | "mon" | "mons" => {
                self.months += number.trunc();
                self.add_days((number - number.trunc()) * 30.0);
            }
            "week" | "weeks" | "w" => self.add_days(number * 7.0),
            "day" | "days" | "d" => self.add_days(number),
            "hour" | "hours" | "h" | "hr" | "hrs" => self.micros += number * 3600.0 * SECOND,
            "minute" | "minutes" | "m" | "min" | "mins" => self.micros += number * 60.0 * SECOND,
            "second" | "seconds" | "s" | "sec" | "secs" => self.micros += number * SECOND,
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" => {
                self.micros += number * 1000.0;
            }
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" => self.micros += number,
            _ => return None,
        }
        Some(())
    }

    fn add_years(&mut self, years: f64) {
        self.months += years.trunc() * 12.0 + ((years - years.trunc()) * 12.0).round_ties_even();
    }

    fn add_days(&mut self, days: f64) {
        // What is next to a whole number by the error of a multiplication is whole.
        let rounded = (days * 1e9).round() / 1e9;
        self.days += rounded.trunc();
        self.micros += (rounded - rounded.trunc()) * DAY;
    }
}

/// `1Y2M3W4DT5H6M7.5S`, behind its `P`.
fn read_iso(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut is_time = false;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T') {
            if is_time || time.is_empty() {
                return None;
            }
            (is_time, rest) = (true, time);
            continue;
        }
        let end = rest.find(|letter: char| letter.is_ascii_alphabetic())?;
        let (number, behind) = rest.split_at(end);
        let (sign, number) = match number.strip_prefix('-') {
            Some(number) => (-1.0, number),
            None => (1.0, number.strip_prefix('+').unwrap_or(number)),
        };
        let unit = match (&behind[..1], is_time) {
            ("Y", false) => "year",
            ("M", false) => "month",
            ("W", false) => "week",
            ("D", false) => "day",
            ("H", true) => "hour",
            ("M", true) => "minute",
            ("S", true) => "second",
            _ => return None,
        };
        sum.add(sign * decimal(number).filter(|_| !number.is_empty())?, unit)?;
        rest = &behind[1..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_as_in_postgres() {
        for (text, months, days, micros) in [
            ("1 day 02:00:00", 0, 1, 7_200_000_000_i64),
            ("02:03:04", 0, 0, 7_384_000_000),
            ("1 year 2 mons 3 days 04:05:06.5", 14, 3, 14_706_500_000),
            ("1-2", 14, 0, 0),
            ("-1-2 +3 -04:05", -14, 3, -14_700_000_000),
            ("P1Y2M3DT4H5M6.5S", 14, 3, 14_706_500_000),
            ("P-1DT2H", 0, -1, 7_200_000_000),
            ("-1 day +02:03:04", 0, -1, 7_384_000_000),
            ("1 month - 1 day", 1, -1, 0),
            ("1 mons 1 days 00:00:00.000001", 1, 1, 1),
            ("-1 month 400 day 6000 minute 121 hour 12 second", -1, 400, 795_612_000_000),
            ("90", 0, 0, 90_000_000),
            ("1 12:00", 0, 1, 43_200_000_000),
            ("1.5 years", 18, 0, 0),
            ("1.5 months", 1, 15, 0),
            ("1.5 weeks", 0, 10, 43_200_000_000),
            ("0.1 day", 0, 0, 8_640_000_000),
            ("@ 2 hours ago", 0, 0, -7_200_000_000),
            ("1 h 30 m", 0, 0, 5_400_000_000),
            ("  2 DAYS ", 0, 2, 0),
            ("1day", 0, 1, 0),
            ("1.5 ms 2us", 0, 0, 1502),
        ] {
            let expected = IntervalMonthDayNano::new(months, days, micros * 1000);
            assert_eq!(read(text).ok(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_interval_is_refused() {
        for text in [
            "",
            "@",
            "ago",
            "day",
            "1 parsec",
            "1 day 1 2",
            "1:99",
            "x",
            "P",
            "P1",
            "PT",
            "1-13",
            "1 ago day",
            "--1 day",
            "é",
        ] {
            assert_eq!(read(text).unwrap_err().kind.sqlstate(), "22P02", "{text}");
        }
        assert_eq!(read("3000000000 months").unwrap_err().kind.sqlstate(), "22003");
        assert_eq!(read("3000000 hours").unwrap_err().kind.sqlstate(), "22003");
    }
}
