//! [`Position`]: where a split is read on.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::SplitId;

/// The place in a split from which it is read on.
///
/// Its connector alone knows what it means and which of two comes first
/// ([`Source::is_past`](crate::Source::is_past)). The engine keeps it in manifests and hands it
/// back. Logs whose places are numbers (Kafka's offsets, the bytes of a file) use
/// [`Position::Number`]; others write what they need into a text, such as a set of transaction ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Position {
    /// A number.
    Number(i64),
    /// A text in the connector's own form.
    Text(String),
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
}
