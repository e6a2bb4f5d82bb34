//! Dates, times and timestamps: integers of some unit and ISO texts, range-checked.
//!
//! The range is what Arrow's kernels can show: the years -262143 to 262142. PostgreSQL's
//! `infinity`, which Debezium sends as a far integer or as text, lies outside and is refused.

use arrow::datatypes::TimeUnit;

use super::fault::Fault;
use crate::wire::Unit;

const SECONDS_PER_DAY: i64 = 86_400;
const NANOS_PER_SECOND: i64 = 1_000_000_000;
const DAYS_MIN: i64 = days_from_civil(-262_143, 1, 1);
const DAYS_MAX: i64 = days_from_civil(262_142, 12, 31);
const OUT_OF_RANGE: Fault = Fault::new("is out of range");

/// Days since 1970-01-01 of an integer.
pub(crate) fn date_from_integer(value: i64, unit: Unit) -> Result<i32, Fault> {
    let days = match unit.per_second() {
        None => value,
        Some(per_second) => {
            let per_day = per_second * SECONDS_PER_DAY;
            if value % per_day != 0 {
                return Err(Fault::new("is not a whole day"));
            }
            value / per_day
        }
    };
    checked_days(days)
}

/// Days since 1970-01-01 of ISO text, with or without a zone.
pub(crate) fn date_from_text(text: &str) -> Result<i32, Fault> {
    let not_a_date = Fault::new("is not a date");
    if is_infinity(text) {
        return Err(OUT_OF_RANGE);
    }
    let mut scanner = Scanner { rest: text.as_bytes() };
    let days = scanner.date().ok_or(not_a_date)?;
    scanner.zone().filter(|_| scanner.rest.is_empty()).ok_or(not_a_date)?;
    checked_days(days)
}

/// Time of day of an integer, in `to`.
pub(crate) fn time_from_integer(value: i64, from: Unit, to: TimeUnit) -> Result<i64, Fault> {
    let per_second = from.per_second().ok_or(Fault::new("is a date, not a time"))?;
    checked_time(convert(value, per_second, per(to)).ok_or(OUT_OF_RANGE)?, to)
}

/// Time of day of ISO text, in `to`. A zone is ignored: Debezium has turned the time to UTC.
pub(crate) fn time_from_text(text: &str, to: TimeUnit) -> Result<i64, Fault> {
    let not_a_time = Fault::new("is not a time");
    let mut scanner = Scanner { rest: text.as_bytes() };
    let (seconds, nanos) = scanner.time().ok_or(not_a_time)?;
    scanner.zone().filter(|_| scanner.rest.is_empty()).ok_or(not_a_time)?;
    let value = seconds * per(to) + nanos / (NANOS_PER_SECOND / per(to));
    checked_time(value, to)
}

/// Timestamp of an integer, in `to`.
pub(crate) fn timestamp_from_integer(value: i64, from: Unit, to: TimeUnit) -> Result<i64, Fault> {
    let value = match from.per_second() {
        Some(per_second) => convert(value, per_second, per(to)),
        None => value.checked_mul(SECONDS_PER_DAY).and_then(|seconds| convert(seconds, 1, per(to))),
    };
    checked_timestamp(value.ok_or(OUT_OF_RANGE)?, to)
}

/// Timestamp of ISO text, in `to`.
///
/// A column with a zone (`zoned`) holds UTC: an offset in the text is applied, no offset means
/// UTC. For a column without, the offset is ignored, as PostgreSQL does.
pub(crate) fn timestamp_from_text(text: &str, to: TimeUnit, zoned: bool) -> Result<i64, Fault> {
    let not_a_timestamp = Fault::new("is not a timestamp");
    if is_infinity(text) {
        return Err(OUT_OF_RANGE);
    }
    let mut scanner = Scanner { rest: text.as_bytes() };
    let days = scanner.date().ok_or(not_a_timestamp)?;
    let (mut seconds, nanos) = match scanner.rest.first() {
        Some(b'T' | b't' | b' ') => {
            scanner.rest = &scanner.rest[1..];
            scanner.time().ok_or(not_a_timestamp)?
        }
        _ => (0, 0),
    };
    let offset = scanner.zone().filter(|_| scanner.rest.is_empty()).ok_or(not_a_timestamp)?;
    checked_days(days)?;
    if zoned {
        seconds -= offset;
    }
    let value = (days * SECONDS_PER_DAY + seconds)
        .checked_mul(per(to))
        .and_then(|whole| whole.checked_add(nanos / (NANOS_PER_SECOND / per(to))));
    checked_timestamp(value.ok_or(OUT_OF_RANGE)?, to)
}

fn is_infinity(text: &str) -> bool {
    matches!(text.trim_start_matches(['-', '+']), "infinity" | "Infinity")
}

const fn per(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => NANOS_PER_SECOND,
    }
}

/// To a coarser unit by the floor, to a finer one exactly.
fn convert(value: i64, from: i64, to: i64) -> Option<i64> {
    if from >= to { Some(value.div_euclid(from / to)) } else { value.checked_mul(to / from) }
}

fn checked_days(days: i64) -> Result<i32, Fault> {
    if !(DAYS_MIN..=DAYS_MAX).contains(&days) {
        return Err(OUT_OF_RANGE);
    }
    i32::try_from(days).map_err(|_| OUT_OF_RANGE)
}

fn checked_time(value: i64, unit: TimeUnit) -> Result<i64, Fault> {
    if (0..SECONDS_PER_DAY * per(unit)).contains(&value) { Ok(value) } else { Err(OUT_OF_RANGE) }
}

fn checked_timestamp(value: i64, unit: TimeUnit) -> Result<i64, Fault> {
    let days = value.div_euclid(SECONDS_PER_DAY * per(unit));
    checked_days(days).map(|_| value)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.rem_euclid(4) == 0
            && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) =>
        {
            29
        }
        2 => 28,
        _ => 31,
    }
}

/// Reads ISO 8601 from the front of `rest`.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl Scanner<'_> {
    /// `[+-]YYYY[Y…]-MM-DD`
    fn date(&mut self) -> Option<i64> {
        let negative = match self.rest.first()? {
            b'-' => Some(true),
            b'+' => Some(false),
            _ => None,
        };
        if negative.is_some() {
            self.rest = &self.rest[1..];
        }
        let (year, width) = self.digits(12)?;
        if width < 4 {
            return None;
        }
        let year = if negative == Some(true) { -year } else { year };
        self.expect(b'-')?;
        let month = self.two(1, 12)?;
        self.expect(b'-')?;
        let day = self.two(1, days_in_month(year, month))?;
        Some(days_from_civil(year, month, day))
    }

    /// `HH:MM[:SS[.f…]]` as seconds and nanoseconds; further digits are cut.
    fn time(&mut self) -> Option<(i64, i64)> {
        let hours = self.two(0, 24)?;
        self.expect(b':')?;
        let minutes = self.two(0, 59)?;
        let (mut seconds, mut nanos) = (0, 0);
        if self.rest.first() == Some(&b':') {
            self.rest = &self.rest[1..];
            seconds = self.two(0, 59)?;
            if self.rest.first() == Some(&b'.') {
                self.rest = &self.rest[1..];
                nanos = self.fraction()?;
            }
        }
        Some((hours * 3600 + minutes * 60 + seconds, nanos))
    }

    /// Nothing, `Z` or `±HH[[:]MM[:SS]]`, as seconds east of UTC.
    fn zone(&mut self) -> Option<i64> {
        let sign = match self.rest.first() {
            None => return Some(0),
            Some(b'Z' | b'z') => {
                self.rest = &self.rest[1..];
                return Some(0);
            }
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(_) => return None,
        };
        self.rest = &self.rest[1..];
        let mut offset = self.two(0, 23)? * 3600;
        for unit in [60, 1] {
            if self.rest.first() == Some(&b':') {
                self.rest = &self.rest[1..];
            }
            if !self.rest.is_empty() {
                offset += self.two(0, 59)? * unit;
            }
        }
        Some(sign * offset)
    }

    fn fraction(&mut self) -> Option<i64> {
        let (mut nanos, mut width) = (0, 0);
        while let Some(digit @ b'0'..=b'9') = self.rest.first() {
            if width < 9 {
                nanos = nanos * 10 + i64::from(digit - b'0');
                width += 1;
            }
            self.rest = &self.rest[1..];
        }
        (width > 0).then(|| nanos * 10_i64.pow(9 - width))
    }

    fn digits(&mut self, width_max: usize) -> Option<(i64, usize)> {
        let (mut value, mut width) = (0, 0);
        while let Some(digit @ b'0'..=b'9') = self.rest.first() {
            if width == width_max {
                return None;
            }
            value = value * 10 + i64::from(digit - b'0');
            width += 1;
            self.rest = &self.rest[1..];
        }
        Some((value, width))
    }

    fn two(&mut self, min: i64, max: i64) -> Option<i64> {
        let [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] = self.rest else { return None };
        let value = i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
        self.rest = rest;
        (min..=max).contains(&value).then_some(value)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        (*first == byte).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: TimeUnit = TimeUnit::Microsecond;

    #[test]
    fn reads_recorded_texts() {
        assert_eq!(date_from_text("2024-02-29Z"), Ok(19_782));
        let at = timestamp_from_text("2024-02-29T11:14:15.123456Z", MICRO, true);
        assert_eq!(at, Ok(1_709_205_255_123_456));
        assert_eq!(time_from_text("13:14:15.123456Z", MICRO), Ok(47_655_123_456));
        let caesar = timestamp_from_text("-0043-03-15T12:00:00.000000Z", MICRO, true);
        assert_eq!(caesar, Ok(-63_517_780_800_000_000));
    }

    #[test]
    fn applies_offsets_to_zoned_columns_only() {
        let text = "2024-01-01 02:00:00+02:00";
        assert_eq!(timestamp_from_text(text, MICRO, true), Ok(1_704_067_200_000_000));
        assert_eq!(timestamp_from_text(text, MICRO, false), Ok(1_704_074_400_000_000));
        let short = timestamp_from_text("2024-01-01T00:00-0530", TimeUnit::Second, true);
        assert_eq!(short, Ok(1_704_067_200 + 19_800));
    }

    #[test]
    fn refuses_infinity_and_far_years() {
        for text in ["infinity", "-infinity", "+294247-01-10T04:00:25.2Z"] {
            assert_eq!(timestamp_from_text(text, MICRO, true), Err(OUT_OF_RANGE), "{text}");
        }
        assert_eq!(date_from_text("+292278994-08-16Z"), Err(OUT_OF_RANGE));
        assert_eq!(date_from_integer(-622_191_234, Unit::Days), Err(OUT_OF_RANGE));
        let far = timestamp_from_integer(9_223_372_036_825_200_000, Unit::Micros, MICRO);
        assert_eq!(far, Err(OUT_OF_RANGE));
        let far = timestamp_from_integer(i64::MAX, Unit::Millis, MICRO);
        assert_eq!(far, Err(OUT_OF_RANGE));
        assert_eq!(time_from_integer(86_400_000_000, Unit::Micros, MICRO), Err(OUT_OF_RANGE));
    }

    #[test]
    fn refuses_what_no_calendar_has() {
        for text in ["2023-02-29", "2024-13-01", "2024-00-10", "24-01-01", "2024-1-1", "x", ""] {
            assert!(date_from_text(text).is_err(), "{text}");
        }
        assert!(timestamp_from_text("2024-01-01T25:00:00", MICRO, false).is_err());
        assert!(timestamp_from_text("2024-01-01T00:00:00 tail", MICRO, false).is_err());
    }

    #[test]
    fn converts_between_units_by_the_floor() {
        assert_eq!(
            timestamp_from_integer(1_709_212_455_123, Unit::Millis, MICRO),
            Ok(1_709_212_455_123_000)
        );
        assert_eq!(timestamp_from_integer(-1, Unit::Nanos, MICRO), Ok(-1));
        assert_eq!(time_from_integer(47_655_123, Unit::Millis, MICRO), Ok(47_655_123_000));
        assert_eq!(date_from_integer(86_400_000, Unit::Millis), Ok(1));
        assert!(date_from_integer(86_400_001, Unit::Millis).is_err());
    }
}
