//! [`Variables`]: the settings of one client.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

mod postgres_names;

use postgres_names::is_of_postgres;

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
    ("idle_session_timeout", "0"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("is_superuser", "on"),
    ("jit", "off"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
    ("lc_messages", "C"),
    ("lc_monetary", "C"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("lock_timeout", "0"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("role", "none"),
    ("row_security", "on"),
    ("search_path", "\"$user\", public"),
    ("session_authorization", "postgres"),
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
    ("bytea_output", &["hex"]),
    ("client_encoding", &["UTF8", "UTF-8", "UNICODE"]),
    ("integer_datetimes", &["on"]),
    ("IntervalStyle", &["postgres"]),
    ("is_superuser", &["on"]),
    ("max_identifier_length", &["63"]),
    ("max_index_keys", &["32"]),
    ("role", &["none", "postgres"]),
    ("server_encoding", &["UTF8"]),
    ("server_version", &[SERVER_VERSION]),
    ("server_version_num", &["150000"]),
    ("session_authorization", &["postgres", "default"]),
    ("standard_conforming_strings", &["on", "true", "1"]),
    (
        TIME_ZONE,
        &[
            "UTC",
            "Etc/UTC",
            "UCT",
            "Etc/UCT",
            "Universal",
            "Etc/Universal",
            "Zulu",
            "Etc/Zulu",
            "GMT",
            "Etc/GMT",
            "Greenwich",
            "Etc/Greenwich",
            "GMT0",
            "UTC0",
            "default",
        ],
    ),
];

const TIME_ZONE: &str = "TimeZone";
/// Words of DateStyle that leave the form of what is sent.
const DATE_STYLES: [&str; 8] =
    ["iso", "mdy", "dmy", "ymd", "us", "european", "noneuro", "noneuropean"];

/// The settings of one client. Names are case-insensitive.
#[derive(Debug, Clone)]
pub struct Variables {
    values: BTreeMap<String, String>,
    /// What RESET goes back to.
    start: BTreeMap<String, String>,
}

impl Default for Variables {
    fn default() -> Self {
        let start = KNOWN.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_string()));
        let start: BTreeMap<String, String> = start.collect();
        Self { values: start.clone(), start }
    }
}

impl Variables {
    /// Looks a value up.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(&canonical(name)).map(String::as_str)
    }

    /// Sets a value; gives a notice if it is one of PostgreSQL that has no effect here. It is kept
    /// all the same, so that a client reads back what it set.
    ///
    /// # Errors
    /// `InvalidParameter` for another value of what is fixed; `UndefinedObject`.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Option<String>> {
        let key = canonical(name);
        let fixed = FIXED.iter().find(|(known, _)| known.eq_ignore_ascii_case(&key));
        if let Some((known, accepted)) = fixed {
            let is_accepted = accepted.iter().any(|accepted| accepted.eq_ignore_ascii_case(value));
            if is_accepted || (*known == TIME_ZONE && is_no_offset(value)) {
                return Ok(None);
            }
            return Err(not_fixed(known, value, accepted[0]));
        }
        if key == "datestyle" {
            let words = value.split(',').map(|word| word.trim().to_lowercase());
            if let Some(word) = words.into_iter().find(|it| !DATE_STYLES.contains(&it.as_str())) {
                return Err(not_fixed("DateStyle", &word, "ISO"));
            }
        }
        if key == TIMEOUT && milliseconds(value).is_none() {
            let message = format!("invalid value for parameter \"{TIMEOUT}\": \"{value}\"");
            return Err(Error::new(ErrorKind::InvalidParameter, message).with_hint(
                "use a number of milliseconds, or one with a unit: us, ms, s, min, h, d",
            ));
        }
        self.check(name)?;
        let has_effect = is_known(&key) || is_custom(&key);
        self.values.insert(key, value.to_string());
        Ok((!has_effect).then(|| format!("parameter \"{name}\" has no effect")))
    }

    /// Refuses a name that neither this engine nor PostgreSQL knows. Those with a dot belong to
    /// whom it may concern.
    ///
    /// # Errors
    /// `UndefinedObject`.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let key = canonical(name);
        match is_known(&key) || is_custom(&key) || is_of_postgres(&key) {
            true => Ok(()),
            false => Err(unrecognized(name)),
        }
    }

    /// How long a statement may take; none for no limit.
    pub fn statement_timeout(&self) -> Option<Duration> {
        let timeout = self.get(TIMEOUT).and_then(milliseconds)?;
        (timeout > 0).then(|| Duration::from_millis(timeout))
    }

    /// Takes one value over from others.
    pub(super) fn take_from(&mut self, others: &Self, name: &str) {
        let key = canonical(name);
        match others.values.get(&key) {
            Some(value) => self.values.insert(key, value.clone()),
            None => self.values.remove(&key),
        };
    }

    /// Makes the values of now those that RESET goes back to.
    pub(super) fn begin(&mut self) {
        self.start.clone_from(&self.values);
    }

    /// Back to the start of the session: one name, or all.
    pub fn reset(&mut self, name: Option<&str>) {
        match name.map(canonical) {
            None => self.values.clone_from(&self.start),
            Some(key) => match self.start.get(&key) {
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

fn is_known(key: &str) -> bool {
    KNOWN.iter().any(|(known, _)| known.eq_ignore_ascii_case(key))
}

fn is_custom(key: &str) -> bool {
    key.contains('.')
}

/// The error of a name that nobody knows.
pub(super) fn unrecognized(name: &str) -> Error {
    let message = format!("unrecognized configuration parameter \"{name}\"");
    Error::new(ErrorKind::UndefinedObject, message)
}

fn not_fixed(name: &str, value: &str, always: &str) -> Error {
    if name == "role" {
        let message = format!("role \"{value}\" does not exist");
        return Error::new(ErrorKind::InvalidParameter, message);
    }
    let message = format!("parameter \"{name}\" cannot be set to \"{value}\"");
    let hint = format!("it is always {always}");
    Error::new(ErrorKind::InvalidParameter, message).with_hint(hint)
}

/// True for zones such as `0` and `+00:00`.
fn is_no_offset(zone: &str) -> bool {
    let digits = zone.trim().trim_start_matches(['+', '-']);
    !digits.is_empty()
        && digits.chars().all(|letter| ['0', ':', '.'].contains(&letter))
        && digits.starts_with('0')
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
    fn names_are_those_of_postgres_or_have_a_dot() {
        let mut variables = Variables::default();
        let notice = variables.set("Enable_SeqScan", "off").unwrap();
        assert_eq!(notice.as_deref(), Some("parameter \"Enable_SeqScan\" has no effect"));
        assert_eq!(variables.get("enable_seqscan"), Some("off"));
        variables.reset(Some("enable_seqscan"));
        assert_eq!(variables.get("enable_seqscan"), None);
        assert_eq!(variables.set("my.tenant", "7").unwrap(), None);
        assert_eq!(variables.get("MY.tenant"), Some("7"));
        let error = variables.set("statment_timeout", "5s").unwrap_err();
        assert_eq!(error.kind, ErrorKind::UndefinedObject);
        assert!(variables.check("work_mem").is_ok() && variables.check("nothere").is_err());
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
        assert_eq!(variables.set("datestyle", "ISO, DMY").unwrap(), None);
        assert_eq!(variables.get("DateStyle"), Some("ISO, DMY"));
        for zone in ["etc/utc", "0", "+00:00", "-00", "GMT"] {
            assert_eq!(variables.set("time zone", zone).unwrap(), None, "{zone}");
        }
        for (name, value) in [
            ("timezone", "+01:00"),
            ("timezone", ""),
            ("timezone", ":"),
            ("datestyle", "German"),
            ("intervalstyle", "iso_8601"),
            ("bytea_output", "escape"),
            ("role", "bob"),
        ] {
            let error = variables.set(name, value).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidParameter, "{name}");
        }
    }

    #[test]
    fn a_reset_goes_back_to_what_the_client_began_with() {
        let mut variables = Variables::default();
        variables.set("application_name", "psql").unwrap();
        variables.begin();
        variables.set("application_name", "other").unwrap();
        variables.set("extra_float_digits", "3").unwrap();
        variables.reset(None);
        assert_eq!(variables.get("application_name"), Some("psql"));
        assert_eq!(variables.get("extra_float_digits"), Some("1"));
    }
}
