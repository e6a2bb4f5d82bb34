//! [`Placeholder`]: Debezium's sign that it does not know a value (unchanged TOAST).

use base64::Engine;

use super::base64_forms::{BASE64, BASE64_URL};

/// What to do with a placeholder in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaceholderRule {
    /// It is a value like any other.
    Value,
    /// The column is marked as unchanged; without a stored row the message is bad.
    Mark,
    /// The column is marked as unchanged; without a stored row it is NULL, or the message is bad if
    /// the column is NOT NULL.
    MarkOrNull,
}

/// The tokens in which the placeholder arrives, one per column type.
///
/// As text and JSON: the string itself. As bytes (and precise decimals): its base64, URL-safe
/// base64 or hex. As an array of text or bytes: one element. As an array of integers: its bytes.
/// As a map: the string to itself.
#[derive(Debug, Clone)]
pub(crate) struct Placeholder {
    tokens: Vec<Box<str>>,
    length_min: usize,
}

impl Placeholder {
    /// Debezium's own default.
    pub(crate) const DEFAULT: &'static str = "__debezium_unavailable_value";

    /// The tokens of `configured`, which may be `hex:` and hex digits as in Debezium's option.
    pub(crate) fn new(configured: &str) -> Self {
        let value = configured.strip_prefix("hex:").and_then(from_hex);
        let value = value.unwrap_or_else(|| configured.to_string());
        let bytes = value.as_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = serde_json::Value::from(value.as_str()).to_string();
        let base64 = format!("\"{}\"", BASE64.encode(bytes));
        let base64_url = format!("\"{}\"", BASE64_URL.encode(bytes));
        let integers: Vec<String> =
            bytes.iter().map(|byte| byte.cast_signed().to_string()).collect();
        let mut tokens = vec![
            format!("[{text}]"),
            format!("[{base64}]"),
            format!("[{base64_url}]"),
            format!("[\"{hex}\"]"),
            format!("[{}]", integers.join(",")),
            format!("{{{text}:{text}}}"),
            format!("\"{hex}\""),
            base64,
            base64_url,
            text,
        ];
        tokens.sort();
        tokens.dedup();
        let length_min = tokens.iter().map(String::len).min().unwrap_or_default();
        Self { tokens: tokens.into_iter().map(String::into_boxed_str).collect(), length_min }
    }

    /// Whether the token stands for an unknown value.
    pub(crate) fn is(&self, token: &str) -> bool {
        token.len() >= self.length_min && self.tokens.iter().any(|known| **known == *token)
    }
}

fn from_hex(digits: &str) -> Option<String> {
    let pairs = digits.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_every_form_of_the_default() {
        let placeholder = Placeholder::new(Placeholder::DEFAULT);
        let base64 = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";
        for token in [
            "\"__debezium_unavailable_value\"".to_string(),
            "[\"__debezium_unavailable_value\"]".to_string(),
            format!("\"{base64}\""),
            format!("[\"{base64}\"]"),
            "{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}".to_string(),
            "[95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,108,101,95,\
             118,97,108,117,101]"
                .to_string(),
        ] {
            assert!(placeholder.is(&token), "{token}");
        }
        assert!(!placeholder.is("\"__debezium_unavailable_value2\""));
    }

    #[test]
    fn takes_hex_as_debezium_does() {
        assert!(Placeholder::new("hex:6869").is("\"hi\""));
        assert!(Placeholder::new("hex:zz").is("\"hex:zz\""));
    }
}
