//! Dates, times and timestamps: integers of some unit and ISO texts, range-checked.
//!
//! The range is what Arrow's kernels can show: the years -262143 to 262142. PostgreSQL's
//! `infinity`, which Debezium sends as a far integer or as text, lies outside. So do `24:00:00` and
//! MySQL's times beyond a day.

use arrow::datatypes::TimeUnit;

use super::fault::Fault;
use crate::wire::Unit;

/// Hours of MySQL's longest time.
const HOURS_MAX: i64 = 838;
const SECONDS_PER_DAY: i64 = 86_400;
const NANOS_PER_SECOND: i64 = 1_000_000_000;
const DAYS_MIN: i64 = days_from_civil(-262_143, 1, 1);
const DAYS_MAX: i64 = days_from_civil(262_142, 12, 31);
/// The first and the last day that saturated values have: every reader of a lake knows them.
const SATURATED_DAYS: [i64; 2] = [days_from_civil(1, 1, 1), days_from_civil(9999, 12, 31)];
/// Debezium's day numbers of PostgreSQL's dates `infinity` and `-infinity`: the milliseconds of the
/// JDBC driver as days, cut to 32 bits, so that the signs are lost.
const INFINITE_DAYS: i64 = -622_191_234;
const MINUS_INFINITE_DAYS: [i64; 2] = [622_191_232, 622_191_233];
/// Seconds from 1990 to 2100: times of most data.
const LIKELY_SECONDS: std::ops::Range<i64> = 631_152_000..4_102_444_800;

/// Nearest value that saturation gives, in days.
pub(crate) fn saturated_date(days: i32) -> i32 {
    let [first, last] = SATURATED_DAYS.map(|day| i32::try_from(day).unwrap_or_default());
    days.clamp(first, last)
}

/// Nearest value that saturation gives, in `unit`.
pub(crate) fn saturated_timestamp(value: i64, unit: TimeUnit) -> i64 {
    let [first, last] = SATURATED_DAYS;
    let per_day = SECONDS_PER_DAY.saturating_mul(per(unit));
    value.clamp(first.saturating_mul(per_day), (last + 1).saturating_mul(per_day) - 1)
}

/// The first and the last time of a day, in `unit`.
pub(crate) fn time_bounds(unit: TimeUnit) -> [i64; 2] {
    [0, SECONDS_PER_DAY * per(unit) - 1]
}

/// True if an integer is a likely time in another unit and none in `unit`.
pub(crate) fn is_doubtful(value: i64, unit: Unit) -> bool {
    let is_likely = |unit: Unit| {
        unit.per_second().is_some_and(|per_second| LIKELY_SECONDS.contains(&(value / per_second)))
    };
    !is_likely(unit) && [Unit::Millis, Unit::Micros, Unit::Nanos].into_iter().any(is_likely)
}

/// Days since 1970-01-01 of an integer.
pub(crate) fn date_from_integer(value: i64, unit: Unit) -> Result<i32, Fault> {
    let days = match unit.per_second() {
        None if value == INFINITE_DAYS => return Err(Fault::HIGH),
        None if MINUS_INFINITE_DAYS.contains(&value) => return Err(Fault::LOW),
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
    refuse_infinity(text)?;
    let mut scanner = Scanner { rest: text.as_bytes() };
    let days = scanner.date().ok_or(not_a_date)?;
    scanner.zone().filter(|_| scanner.rest.is_empty()).ok_or(not_a_date)?;
    checked_days(days)
}

/// Time of day of an integer, in `to`.
pub(crate) fn time_from_integer(value: i64, from: Unit, to: TimeUnit) -> Result<i64, Fault> {
    let per_second = from.per_second().ok_or(Fault::new("is a date, not a time"))?;
    let time = convert(value, per_second, per(to)).ok_or(Fault::past(value < 0))?;
    checked_time(time, to)
}

/// Time of day of ISO text, in `to`. A zone is ignored: Debezium has turned the time to UTC.
pub(crate) fn time_from_text(text: &str, to: TimeUnit) -> Result<i64, Fault> {
    let not_a_time = Fault::new("is not a time");
    let mut scanner = Scanner { rest: text.as_bytes() };
    let is_negative = scanner.rest.first() == Some(&b'-');
    if is_negative {
        scanner.rest = &scanner.rest[1..];
    }
    let (seconds, nanos) = scanner.time(HOURS_MAX).ok_or(not_a_time)?;
    scanner.zone().filter(|_| scanner.rest.is_empty()).ok_or(not_a_time)?;
    let value = seconds * per(to) + nanos / (NANOS_PER_SECOND / per(to));
    if is_negative && (value, nanos) != (0, 0) {
        return Err(Fault::LOW);
    }
    checked_time(value, to)
}

/// Timestamp of an integer, in `to`.
pub(crate) fn timestamp_from_integer(value: i64, from: Unit, to: TimeUnit) -> Result<i64, Fault> {
    let converted = match from.per_second() {
        Some(per_second) => convert(value, per_second, per(to)),
        None => value.checked_mul(SECONDS_PER_DAY).and_then(|seconds| convert(seconds, 1, per(to))),
    };
    checked_timestamp(converted.ok_or(Fault::past(value < 0))?, to)
}

/// Timestamp of ISO text, in `to`.
///
/// A column with a zone (`zoned`) holds UTC: an offset in the text is applied, no offset means
/// UTC. For a column without, the offset is ignored, as PostgreSQL does.
pub(crate) fn timestamp_from_text(text: &str, to: TimeUnit, zoned: bool) -> Result<i64, Fault> {
    let not_a_timestamp = Fault::new("is not a timestamp");
    refuse_infinity(text)?;
    let mut scanner = Scanner { rest: text.as_bytes() };
    let days = scanner.date().ok_or(not_a_timestamp)?;
    let (mut seconds, nanos) = match scanner.rest.first() {
        Some(b'T' | b't' | b' ') => {
            scanner.rest = &scanner.rest[1..];
            scanner.time(24).ok_or(not_a_timestamp)?
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
    checked_timestamp(value.ok_or(Fault::past(days < 0))?, to)
}

fn refuse_infinity(text: &str) -> Result<(), Fault> {
    match text.trim_start_matches(['-', '+']) {
        "infinity" | "Infinity" => Err(Fault::past(text.starts_with('-'))),
        _ => Ok(()),
    }
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
        return Err(Fault::past(days < 0));
    }
    i32::try_from(days).map_err(|_| Fault::past(days < 0))
}

fn checked_time(value: i64, unit: TimeUnit) -> Result<i64, Fault> {
    let [first, last] = time_bounds(unit);
    if (first..=last).contains(&value) { Ok(value) } else { Err(Fault::past(value < 0)) }
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
    fn time(&mut self, hours_max: i64) -> Option<(i64, i64)> {
        let (hours, width) = self.digits(3)?;
        if width < 2 || hours > hours_max {
            return None;
        }
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
            let fault = Fault::past(text.starts_with('-'));
            assert_eq!(timestamp_from_text(text, MICRO, true), Err(fault), "{text}");
        }
        assert_eq!(date_from_text("+292278994-08-16Z"), Err(Fault::HIGH));
        assert_eq!(date_from_integer(-622_191_234, Unit::Days), Err(Fault::HIGH));
        assert_eq!(date_from_integer(622_191_232, Unit::Days), Err(Fault::LOW));
        assert_eq!(date_from_integer(622_191_234, Unit::Days), Err(Fault::HIGH));
        let far = timestamp_from_integer(9_223_372_036_825_200_000, Unit::Micros, MICRO);
        assert_eq!(far, Err(Fault::HIGH));
        let far = timestamp_from_integer(i64::MAX, Unit::Millis, MICRO);
        assert_eq!(far, Err(Fault::HIGH));
        assert_eq!(time_from_integer(86_400_000_000, Unit::Micros, MICRO), Err(Fault::HIGH));
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
    fn times_outside_the_day_are_out_of_range() {
        for (text, fault) in [
            ("24:00:00", Fault::HIGH),
            ("838:59:59", Fault::HIGH),
            ("-00:00:00.5", Fault::LOW),
            ("-838:59:59", Fault::LOW),
        ] {
            assert_eq!(time_from_text(text, MICRO), Err(fault), "{text}");
        }
        assert_eq!(time_from_integer(-1, Unit::Micros, MICRO), Err(Fault::LOW));
        assert_eq!(time_from_text("-00:00:00", MICRO), Ok(0));
        for text in ["839:00:00", "1:00:00", "24:60:00", "-"] {
            assert!(time_from_text(text, MICRO).is_err_and(|fault| fault.beyond.is_none()));
        }
    }

    #[test]
    fn an_integer_is_doubtful_if_another_unit_makes_it_a_time_of_today() {
        let millis = 1_709_212_455_123;
        assert!(is_doubtful(millis, Unit::Micros) && !is_doubtful(millis, Unit::Millis));
        assert!(is_doubtful(millis * 1000, Unit::Millis));
        assert!(is_doubtful(millis * 1_000_000, Unit::Micros));
        assert!(!is_doubtful(millis * 1000, Unit::Micros));
        for value in [0, -1, 86_400_000_000, -62_135_596_800_000_000, 253_402_300_799_999_999] {
            assert!(!is_doubtful(value, Unit::Micros), "{value}");
        }
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
