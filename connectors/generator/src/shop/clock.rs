//! Points in time and their text.

/// Start of the shop's time: 2026-01-01T00:00:00Z, in seconds.
const OPENED_S: i64 = 1_767_225_600;

/// Microseconds since 1970 when row `number` came into being: a row a second, and some fraction.
pub(crate) fn created_us(number: u64, fraction: u64) -> i64 {
    (OPENED_S + number as i64) * 1_000_000 + (fraction % 1_000_000) as i64
}

/// Year, month, day, hour, minute, second, microsecond in UTC.
///
/// Days to date as in Howard Hinnant's `civil_from_days`, for years after 1970.
pub(crate) fn civil(us: i64) -> [i64; 7] {
    let seconds = us.div_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    [year, month, day, second / 3_600, second / 60 % 60, second % 60, us.rem_euclid(1_000_000)]
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, Timelike};

    use super::*;

    #[test]
    fn civil_agrees_with_chrono() {
        for step in 0..20_000_i64 {
            let us = created_us(0, 0) + step * 98_765_432_101;
            let time = DateTime::from_timestamp_micros(us).unwrap();
            let expected = [
                i64::from(time.year()),
                i64::from(time.month()),
                i64::from(time.day()),
                i64::from(time.hour()),
                i64::from(time.minute()),
                i64::from(time.second()),
                i64::from(time.nanosecond() / 1_000),
            ];
            assert_eq!(civil(us), expected);
        }
    }
}
