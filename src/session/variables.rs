//! [`Variables`]: the settings of one client.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// Version that clients see; they choose their catalog queries by it.
pub const SERVER_VERSION: &str = "15.0";

/// Names as PostgreSQL writes them, and what they are at the start of a session.
const KNOWN: &[(&str, &str)] = &[
    ("application_name", ""),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "notice"),
    ("DateStyle", "ISO, MDY"),
    ("default_table_access_method", "heap"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("extra_float_digits", "1"),
    ("idle_in_transaction_session_timeout", "0"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("jit", "off"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
    ("lock_timeout", "0"),
    ("max_identifier_length", "63"),
    ("row_security", "on"),
    ("search_path", "\"$user\", public"),
    ("server_encoding", "UTF8"),
    ("server_version", SERVER_VERSION),
    ("server_version_num", "150000"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("TimeZone", "UTC"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
];

/// The setting that limits the time of statements.
const TIMEOUT: &str = "statement_timeout";

/// Known, but fixed: clients may set them to what they are.
const FIXED: &[(&str, &[&str])] = &[
    ("server_version", &[SERVER_VERSION]),
    ("server_version_num", &["150000"]),
    ("server_encoding", &["UTF8"]),
    ("client_encoding", &["UTF8", "UTF-8", "UNICODE"]),
    ("standard_conforming_strings", &["on", "true", "1"]),
    ("TimeZone", &["UTC", "Etc/UTC", "GMT", "default"]),
];

/// The settings of one client. Names are case-insensitive.
#[derive(Debug, Clone)]
pub struct Variables {
    values: BTreeMap<String, String>,
}

impl Default for Variables {
    fn default() -> Self {
        let start = KNOWN.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_string()));
        Self { values: start.collect() }
    }
}

impl Variables {
    /// Looks a value up.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(&canonical(name)).map(String::as_str)
    }

    /// Sets a value; gives a notice if nothing here knows the name. Such a value is kept, so that
    /// a client reads back what it set.
    ///
    /// # Errors
    /// `InvalidParameter` for another value of what is fixed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Option<String>> {
        let key = canonical(name);
        let fixed = FIXED.iter().find(|(known, _)| known.eq_ignore_ascii_case(&key));
        if let Some((known, accepted)) = fixed {
            if accepted.iter().any(|accepted| accepted.eq_ignore_ascii_case(value)) {
                return Ok(None);
            }
            return Err(Error::new(
                ErrorKind::InvalidParameter,
                format!("parameter \"{known}\" cannot be set to \"{value}\""),
            )
            .with_hint(format!("it is always {}", accepted[0])));
        }
        if key == TIMEOUT && milliseconds(value).is_none() {
            let message = format!("invalid value for parameter \"{TIMEOUT}\": \"{value}\"");
            return Err(Error::new(ErrorKind::InvalidParameter, message).with_hint(
                "use a number of milliseconds, or one with a unit: us, ms, s, min, h, d",
            ));
        }
        let known = KNOWN.iter().any(|(known, _)| known.eq_ignore_ascii_case(&key));
        self.values.insert(key, value.to_string());
        let notice = || format!("parameter \"{name}\" is not known and has no effect");
        Ok((!known).then(notice))
    }

    /// How long a statement may take; none for no limit.
    pub fn statement_timeout(&self) -> Option<Duration> {
        let timeout = self.get(TIMEOUT).and_then(milliseconds)?;
        (timeout > 0).then(|| Duration::from_millis(timeout))
    }

    /// Back to the start of the session: one name, or all.
    pub fn reset(&mut self, name: Option<&str>) {
        let start = Self::default();
        match name.map(canonical) {
            None => *self = start,
            Some(key) => match start.values.get(&key) {
                Some(value) => {
                    self.values.insert(key, value.clone());
                }
                None => {
                    self.values.remove(&key);
                }
            },
        }
    }

    /// All, by name as PostgreSQL writes it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| {
            let known = KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(key));
            (known.map_or(key.as_str(), |(known, _)| known), value.as_str())
        })
    }

    /// What a client is told at the start.
    pub fn reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        const REPORTED: &[&str] = &[
            "application_name",
            "client_encoding",
            "DateStyle",
            "default_transaction_read_only",
            "integer_datetimes",
            "IntervalStyle",
            "server_encoding",
            "server_version",
            "standard_conforming_strings",
            "TimeZone",
        ];
        REPORTED.iter().filter_map(|name| self.get(name).map(|value| (*name, value)))
    }
}

/// Milliseconds of a setting such as `500`, `5s` or `1.5 min`.
fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim().trim_matches('\'').trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let factor = match unit.trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1_000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let value = (number.parse::<f64>().ok()? * factor).round();
    // As in PostgreSQL, which keeps 32 bits.
    (0.0..=f64::from(i32::MAX)).contains(&value).then_some(value as u64)
}

fn canonical(name: &str) -> String {
    match name.to_lowercase().as_str() {
        "time zone" => "timezone".to_string(),
        "names" => "client_encoding".to_string(),
        "transaction isolation level" => "transaction_isolation".to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_kept_with_a_notice() {
        let mut variables = Variables::default();
        let notice = variables.set("streaming_parallelism", "4").unwrap();
        assert_eq!(
            notice.as_deref(),
            Some("parameter \"streaming_parallelism\" is not known and has no effect")
        );
        assert_eq!(variables.get("STREAMING_PARALLELISM"), Some("4"));
        variables.reset(Some("streaming_parallelism"));
        assert_eq!(variables.get("streaming_parallelism"), None);
    }

    #[test]
    fn a_timeout_has_a_unit() {
        let mut variables = Variables::default();
        assert_eq!(variables.statement_timeout(), None);
        for (text, ms) in [("250", 250), ("5s", 5_000), ("1.5 min", 90_000), ("1h", 3_600_000)] {
            variables.set("statement_timeout", text).unwrap();
            assert_eq!(variables.statement_timeout(), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["-1", "soon", "5 parsecs", "1e9", "9999999d", ""] {
            let error = variables.set("statement_timeout", text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidParameter, "{text}");
        }
        variables.set("statement_timeout", "0").unwrap();
        assert_eq!(variables.statement_timeout(), None);
    }

    #[test]
    fn fixed_values_take_their_own_value_only() {
        let mut variables = Variables::default();
        assert_eq!(variables.set("client_encoding", "utf8").unwrap(), None);
        let error = variables.set("timezone", "Europe/Berlin").unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidParameter);
        assert_eq!(variables.set("datestyle", "ISO").unwrap(), None);
        assert_eq!(variables.get("DateStyle"), Some("ISO"));
    }
}
