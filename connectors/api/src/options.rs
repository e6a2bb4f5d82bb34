//! [`Options`]: the WITH clause of a statement, and [`OptionSpec`]: what a connector understands.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ConnectorError, Result};

/// Options of a WITH clause; names are case-insensitive and kept in lower case.
///
/// A connector [takes](Options::take) what it knows and at the end calls [`Options::finish`] with
/// its declaration, so that a mistyped option is an error and never silently ignored.
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

/// An option that a connector or format understands: for errors and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionSpec {
    /// Its name; one that ends with `.*` stands for all names that begin so.
    pub name: &'static str,
    /// What holds if it is left out.
    pub default: OptionDefault,
    /// What it says, for the user.
    pub meaning: &'static str,
}

/// What holds if an option is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionDefault {
    /// It must be given.
    Required,
    /// Nothing.
    None,
    /// The same as if this were given.
    Value(&'static str),
}

impl OptionSpec {
    /// An option that must be given.
    pub const fn required(name: &'static str, meaning: &'static str) -> Self {
        Self { name, default: OptionDefault::Required, meaning }
    }

    /// An option without a default.
    pub const fn optional(name: &'static str, meaning: &'static str) -> Self {
        Self { name, default: OptionDefault::None, meaning }
    }

    /// An option with a default.
    pub const fn with_default(
        name: &'static str,
        value: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self { name, default: OptionDefault::Value(value), meaning }
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

    /// Says that all options should have been taken; `known` are those that there are.
    ///
    /// # Errors
    /// `Config` naming the first option that nobody took, and the one that may have been meant.
    pub fn finish(self, known: &[OptionSpec]) -> Result<()> {
        let Some(name) = self.values.into_keys().next() else { return Ok(()) };
        if known.iter().any(|option| option.name == name) {
            let message = format!("option \"{name}\" has no effect beside the other options");
            return Err(ConnectorError::config(message).with_hint("leave it out"));
        }
        let unknown = ConnectorError::config(format!("option \"{name}\" is not known"));
        let distance = |known: &str| strsim::osa_distance(&name, known);
        let nearest = known.iter().map(|option| option.name).min_by_key(|known| distance(known));
        Err(match nearest.filter(|nearest| distance(nearest) <= name.len() / 3) {
            Some(nearest) => unknown.with_hint(format!("perhaps you meant \"{nearest}\"")),
            None => {
                let names: Vec<_> = known.iter().map(|option| option.name).collect();
                unknown.with_hint(format!("known here: {}", names.join(", ")))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest_name() {
        let known = [
            OptionSpec::required("topic", "the topic"),
            OptionSpec::with_default("scan.startup.mode", "earliest", "where reading begins"),
        ];
        let hint = |name: &str| {
            let options = Options::new([(name.to_string(), "x".to_string())]);
            let error = options.finish(&known).unwrap_err();
            assert_eq!(error.message, format!("option \"{name}\" is not known"));
            error.hint.unwrap()
        };
        assert_eq!(hint("scan.start.mode"), "perhaps you meant \"scan.startup.mode\"");
        assert_eq!(hint("topics"), "perhaps you meant \"topic\"");
        assert_eq!(hint("path"), "known here: topic, scan.startup.mode");
        let untaken = Options::new([("topic".to_string(), "x".to_string())]);
        assert!(untaken.finish(&known).unwrap_err().message.contains("has no effect"));
        assert!(Options::default().finish(&known).is_ok());
    }

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
