//! [`ErrorsRetention`]: how long `<name>$errors` keeps its rows.

use frazil_connector_api::{OptionSpec, Options};

use crate::config::ByteSize;
use crate::error::Result;

const ROWS: &str = "errors.retention.rows";
const BYTES: &str = "errors.retention.bytes";
const AGE: &str = "errors.retention.ms";

/// The options of `<name>$errors`, given with its table or source.
pub const ERRORS_OPTIONS: &[OptionSpec] = &[
    OptionSpec::with_default(ROWS, "100000", "most rows; `unlimited` for no bound, as below"),
    OptionSpec::with_default(BYTES, "64MiB", "most bytes of rows"),
    OptionSpec::with_default(AGE, "604800000", "longest time since a message came: 7 days"),
];

/// The value of an option for no bound.
const UNLIMITED: &str = "unlimited";

/// Bounds of `<name>$errors`: beyond them the oldest rows go. `None` is no bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorsRetention {
    /// Most rows.
    pub rows: Option<u64>,
    /// Most bytes of rows.
    pub bytes: Option<u64>,
    /// Longest time since a message came, in milliseconds.
    pub age_ms: Option<i64>,
}

impl Default for ErrorsRetention {
    /// 100,000 rows, 64 MiB, 7 days.
    fn default() -> Self {
        let week = 7 * 24 * 60 * 60 * 1000;
        Self { rows: Some(100_000), bytes: Some(64 << 20), age_ms: Some(week) }
    }
}

impl ErrorsRetention {
    /// Takes the bounds out of the options of a table or source.
    ///
    /// # Errors
    /// `InvalidParameter` for a value that is no number.
    pub fn take_from(options: &mut Options) -> Result<Self> {
        let mut bound = |name: &str, default: Option<u64>| match options.take(name) {
            None => Ok(default),
            Some(text) if text.eq_ignore_ascii_case(UNLIMITED) => Ok(None),
            Some(text) => match text.parse::<ByteSize>() {
                // Only bytes have units.
                Ok(size) if name == BYTES || text.parse::<u64>().is_ok() => Ok(Some(size.0)),
                _ => Err(Options::bad_value(name, &text)
                    .with_hint("write a number, or 'unlimited' for no bound")),
            },
        };
        let default = Self::default();
        let rows = bound(ROWS, default.rows)?;
        let bytes = bound(BYTES, default.bytes)?;
        let age_ms = bound(AGE, default.age_ms.map(i64::cast_unsigned))?;
        let age_ms = age_ms.map(|age| i64::try_from(age).unwrap_or(i64::MAX));
        Ok(Self { rows, bytes, age_ms })
    }
}

#[cfg(test)]
mod tests {
    use frazil_connector_api::OptionDefault;

    use super::*;

    #[test]
    fn bounds_are_taken_from_the_options() {
        let options = |pairs: &[(&str, &str)]| {
            Options::new(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())))
        };
        let mut given =
            options(&[(ROWS, "5"), (BYTES, "1MiB"), (AGE, "Unlimited"), ("topic", "t")]);
        let retention = ErrorsRetention::take_from(&mut given).unwrap();
        let expected = ErrorsRetention { rows: Some(5), bytes: Some(1 << 20), age_ms: None };
        assert_eq!(retention, expected);
        assert_eq!(given, options(&[("topic", "t")]));
        let default = ErrorsRetention::take_from(&mut given).unwrap();
        assert_eq!(default, ErrorsRetention::default());
        for wrong in [(ROWS, "5MB"), (AGE, "-1"), (BYTES, "much")] {
            assert!(ErrorsRetention::take_from(&mut options(&[wrong])).is_err());
        }
    }

    #[test]
    fn the_declared_defaults_are_those_that_hold() {
        let declared = ERRORS_OPTIONS.iter().filter_map(|option| match option.default {
            OptionDefault::Value(value) => Some((option.name.to_string(), value.to_string())),
            _ => None,
        });
        let mut given = Options::new(declared);
        assert_eq!(ErrorsRetention::take_from(&mut given).unwrap(), ErrorsRetention::default());
        assert_eq!(given, Options::new([]));
    }
}
