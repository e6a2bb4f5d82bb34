//! [`Options`]: the WITH clause of a statement.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ConnectorError, Result};

/// Options of a WITH clause; names are case-insensitive and kept in lower case.
///
/// A connector [takes](Options::take) what it knows and at the end calls [`Options::finish`], so
/// that a mistyped option is an error and never silently ignored.
///
/// Values of [secret](Options::is_secret) options are in no error and in no debug text.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    values: BTreeMap<String, String>,
}

impl fmt::Debug for Options {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map()
            .entries(self.iter().map(|(name, value)| (name, shown(name, value))))
            .finish()
    }
}

/// Parts of the names of options whose values are secrets.
const SECRET: [&str; 11] = [
    "password",
    "passphrase",
    "secret",
    "token",
    "credential",
    "private",
    "jaas",
    "access-key",
    "access_key",
    "access.key",
    "ssl.key.pem",
];

/// The value, unless the option is a secret.
fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    if Options::is_secret(name) { "***" } else { value }
}

impl Options {
    /// Options from pairs.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let values = pairs.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
        Self { values }
    }

    /// True if the option may hold a password or another secret.
    pub fn is_secret(name: &str) -> bool {
        let name = name.to_lowercase();
        SECRET.iter().any(|part| name.contains(part))
    }

    /// The error of an option whose value is not understood.
    pub fn bad_value(name: &str, value: &str) -> ConnectorError {
        let value = shown(name, value);
        ConnectorError::config(format!("option \"{name}\" has a bad value \"{value}\""))
    }

    /// Looks without taking.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Takes an option out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// Takes an option that must be there.
    ///
    /// # Errors
    /// `Config` naming the option.
    pub fn require(&mut self, name: &str) -> Result<String> {
        self.take(name)
            .ok_or_else(|| ConnectorError::config(format!("option \"{name}\" is missing")))
    }

    /// Takes an option and parses it; `default` if it is absent.
    ///
    /// # Errors
    /// `Config` naming the option and the value seen.
    pub fn parse<T: std::str::FromStr>(&mut self, name: &str, default: T) -> Result<T> {
        match self.take(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| Self::bad_value(name, &text)),
        }
    }

    /// Takes all options whose names begin with `prefix`, without the prefix.
    pub fn take_prefixed(&mut self, prefix: &str) -> BTreeMap<String, String> {
        let names: Vec<String> =
            self.values.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        names
            .into_iter()
            .filter_map(|name| {
                self.values.remove(&name).map(|value| (name[prefix.len()..].to_string(), value))
            })
            .collect()
    }

    /// All options, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Says that all options should have been taken.
    ///
    /// # Errors
    /// `Config` naming the first option that nobody took.
    pub fn finish(self) -> Result<()> {
        match self.values.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(ConnectorError::config(format!("option \"{name}\" is not known"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_in_no_text() {
        let pairs = [("properties.sasl.password", "hunter2"), ("s3.secret-access-key", "hunter2")];
        let pairs = pairs.map(|(name, value)| (name.to_string(), value.to_string()));
        let mut options = Options::new(pairs);
        assert!(!format!("{options:?}").contains("hunter2"));
        let error = options.parse("properties.sasl.password", 5).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(!Options::is_secret("primary_key") && !Options::is_secret("time.precision.mode"));
    }
}
