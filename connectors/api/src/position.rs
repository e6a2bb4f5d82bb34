//! [`Position`]: where a split is read on.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::SplitId;

/// The place in a split from which it is read on.
///
/// Its connector alone knows what it means and which of two comes first
/// ([`Source::is_past`](crate::Source::is_past)). The engine keeps it in manifests and hands it
/// back. Logs whose places are numbers (Kafka's offsets, the bytes of a file) use
/// [`Position::Number`]; others write what they need into a text, such as a set of transaction ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Position {
    /// A number.
    Number(i64),
    /// A text in the connector's own form.
    Text(String),
}

/// The form in manifests: a number or a string of JSON.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Position", untagged)]
enum Untagged {
    Number(i64),
    Text(String),
}

/// The form between processes, whose encoding does not say of what type a value is.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Position")]
enum Tagged {
    Number(i64),
    Text(String),
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => Untagged::serialize(self, serializer),
            false => Tagged::serialize(self, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => Untagged::deserialize(deserializer),
            false => Tagged::deserialize(deserializer),
        }
    }
}

/// Where some splits are read on.
pub type Positions = BTreeMap<SplitId, Position>;

impl Position {
    /// The start of a split whose places are numbers.
    pub const START: Self = Self::Number(0);

    /// The number, if it is one.
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) => None,
        }
    }
}

impl From<i64> for Position {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(out, "{number}"),
            Self::Text(text) => out.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_gives_back_what_it_was_given() {
        let positions = [Position::Number(42), Position::Text("42".into()), Position::Number(-1)];
        let text = serde_json::to_string(&positions).unwrap();
        // Numbers are as they were when there was nothing else.
        assert_eq!(text, r#"[42,"42",-1]"#);
        assert_eq!(serde_json::from_str::<Vec<Position>>(&text).unwrap(), positions);
    }

    /// Reports of workers travel between processes in bincode.
    #[test]
    fn another_process_is_given_what_was_sent() {
        let positions = [Position::Number(42), Position::Text("42".into()), Position::Number(-1)];
        let bytes = bincode::serialize(&positions.to_vec()).unwrap();
        assert_eq!(bincode::deserialize::<Vec<Position>>(&bytes).unwrap(), positions);
    }
}
