//! Raw JSON tokens to plain values.
//!
//! A token is what [`Cursor`](super::Cursor) says: a string begins and ends with a quote, a number
//! is a number, an array or object is yet to be checked.

use std::borrow::Cow;

use base64::Engine;
use serde::de::IgnoredAny;

use super::base64_forms::{BASE64, BASE64_URL};
use super::decimal::Unfit;
use super::fault::Fault;
use super::{cursor, decimal};
use crate::wire::BytesText;

const BROKEN_STRING: Fault = Fault::new("has a broken escape sequence or a control character");

/// Whether the token is a string.
pub(crate) fn is_string(token: &str) -> bool {
    token.as_bytes().first() == Some(&b'"')
}

/// The content of a string token, or the token itself if it is no string.
pub(crate) fn text(token: &str) -> Result<Cow<'_, str>, Fault> {
    match token.as_bytes().first() {
        Some(b'"') => cursor::content(token).ok_or(BROKEN_STRING),
        Some(b'{' | b'[') => match serde_json::from_str::<IgnoredAny>(token) {
            Ok(_) => Ok(Cow::Borrowed(token)),
            Err(_) => Err(Fault::new("is not JSON")),
        },
        _ => Ok(Cow::Borrowed(token)),
    }
}

/// `true`, `false`, also quoted, and 0 or 1 (MySQL's TINYINT(1)).
pub(crate) fn boolean(token: &str) -> Result<bool, Fault> {
    match &*text(token)? {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Fault::new("is not a boolean")),
    }
}

/// An integer, also quoted, also written `5.0` or `5e0`; a boolean is 0 or 1.
pub(crate) fn integer(token: &str) -> Result<i64, Fault> {
    if let Ok(value) = token.parse() {
        return Ok(value);
    }
    let content = text(token)?;
    if let Ok(value) = content.parse() {
        return Ok(value);
    }
    match &*content {
        "true" => return Ok(1),
        "false" => return Ok(0),
        _ => {}
    }
    let not_an_integer = Fault::new("is not an integer");
    let whole = match decimal::from_text(&content, 0) {
        Ok(whole) => whole,
        Err(Unfit::Malformed) => return Err(not_an_integer),
        Err(Unfit::Beyond(beyond)) => return Err(Fault::out_of_range(beyond)),
    };
    let value = i64::try_from(whole).map_err(|_| Fault::past(whole < 0))?;
    if decimal::from_text(&content, 18) != Ok(i128::from(value) * 10_i128.pow(18)) {
        return Err(not_an_integer);
    }
    Ok(value)
}

/// A number or one of the strings `NaN`, `Infinity`, `-Infinity`, read once, without a detour
/// over another width.
pub(crate) fn float<T: std::str::FromStr>(token: &str) -> Result<T, Fault> {
    if let Ok(value) = token.parse() {
        return Ok(value);
    }
    text(token)?.parse().map_err(|_| {
        Fault::with_hint(
            "is not a number",
            "for decimals as base64 declare the column as NUMERIC, or send them as double",
        )
    })
}

/// Appends the bytes that a string token encodes.
pub(crate) fn bytes(token: &str, form: BytesText, out: &mut Vec<u8>) -> Result<(), Fault> {
    if !is_string(token) {
        return Err(Fault::new("is not a string of bytes"));
    }
    let content = text(token)?;
    let read = match form {
        BytesText::Base64 => BASE64.decode_vec(&*content, out).is_ok(),
        BytesText::Base64Url => BASE64_URL.decode_vec(&*content, out).is_ok(),
        BytesText::Hex => hex(content.as_bytes(), out),
    };
    if read {
        return Ok(());
    }
    Err(Fault::with_hint(
        "does not encode bytes",
        "set binary.handling.mode to what the source uses: bytes, base64, base64-url-safe or hex",
    ))
}

fn hex(content: &[u8], out: &mut Vec<u8>) -> bool {
    fn digit(byte: u8) -> Option<u8> {
        char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok())
    }
    let (pairs, rest) = content.as_chunks::<2>();
    for [high, low] in pairs {
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return false };
        out.push(high << 4 | low);
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescapes_strings() {
        assert_eq!(text(r#""a\n\"\u00e9\ud83d\ude00""#).unwrap(), "a\n\"é😀");
        assert_eq!(text(r#""plain""#).unwrap(), "plain");
        assert_eq!(text(r#"{"a": 1}"#).unwrap(), r#"{"a": 1}"#);
        assert!(text(r#""\ud800""#).is_err());
    }

    #[test]
    fn reads_integers_without_loss() {
        assert_eq!(integer("9007199254740993"), Ok(9_007_199_254_740_993));
        assert_eq!(integer("\"-5\""), Ok(-5));
        assert_eq!(integer("5.0"), Ok(5));
        assert_eq!(integer("true"), Ok(1));
        assert!(integer("5.5").is_err());
        assert!(integer("9223372036854775808").is_err());
        assert!(integer("1e30").is_err());
        assert!(integer("{}").is_err());
    }

    #[test]
    fn reads_special_floats() {
        assert!(float::<f64>("\"NaN\"").unwrap().is_nan());
        assert_eq!(float::<f32>("\"-Infinity\"").unwrap(), f32::NEG_INFINITY);
        assert_eq!(float::<f64>("0.1").unwrap(), 0.1);
        assert!(float::<f64>("\"Opg=\"").is_err());
    }

    #[test]
    fn reads_bytes_in_each_form() {
        for (token, form) in [
            ("\"3q2+7w==\"", BytesText::Base64),
            ("\"3q2-7w\"", BytesText::Base64Url),
            ("\"DEADbeef\"", BytesText::Hex),
        ] {
            let mut out = vec![7];
            bytes(token, form, &mut out).unwrap();
            assert_eq!(out, [7, 0xde, 0xad, 0xbe, 0xef], "{token}");
        }
        assert!(bytes("\"abc\"", BytesText::Hex, &mut Vec::new()).is_err());
        assert!(bytes("12", BytesText::Base64, &mut Vec::new()).is_err());
    }
}
