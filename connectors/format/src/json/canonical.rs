//! [`canonical_json`]: one text for all texts of one JSON value.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Digits of a number that is written without an exponent.
const DIGITS_MAX: i64 = 20_000;
/// Levels of arrays and objects.
const DEPTH_MAX: usize = 127;

/// Appends the canonical text of a JSON value: keys sorted by length and then by bytes, the last of
/// several values of a key, one blank behind `:` and `,`, numbers without exponents and without
/// zeros at the end of their fractions. It is the text of PostgreSQL's `jsonb`, but for these
/// zeros.
///
/// **Law:** two texts have the same canonical text exactly if their values are equal as `jsonb`.
///
/// # Errors
/// A text that is not JSON, and why.
pub fn canonical_json(text: &str, out: &mut String) -> Result<(), String> {
    let start = out.len();
    let written = write(text, 0, out);
    if written.is_err() {
        out.truncate(start);
    }
    written.map_err(|error| error.to_string())
}

fn write(text: &str, depth: usize, out: &mut String) -> serde_json::Result<()> {
    if depth > DEPTH_MAX {
        return Err(serde_json::Error::custom("it is nested too deeply"));
    }
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    match text.as_bytes().first() {
        Some(b'{') => {
            let Object(members) = serde_json::from_str(text)?;
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by(|(left, _), (right, _)| {
                left.len().cmp(&right.len()).then_with(|| left.cmp(right))
            });
            write_items(members.into_iter(), ['{', '}'], out, |(key, value), out| {
                out.push_str(&serde_json::to_string(&key)?);
                out.push_str(": ");
                write(value.get(), depth + 1, out)
            })
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            write_items(items.into_iter(), ['[', ']'], out, |item, out| {
                write(item.get(), depth + 1, out)
            })
        }
        Some(b'"') => {
            let value: String = serde_json::from_str(text)?;
            if value.contains('\0') {
                return Err(serde_json::Error::custom("\\u0000 cannot be converted to text"));
            }
            out.push_str(&serde_json::to_string(&value)?);
            Ok(())
        }
        _ => {
            // Checks the syntax; the digits are those of the text.
            serde_json::from_str::<&RawValue>(text)?;
            match text {
                "true" | "false" | "null" => out.push_str(text),
                number => write_number(number, out)?,
            }
            Ok(())
        }
    }
}

fn write_items<T>(
    items: impl Iterator<Item = T>,
    [open, close]: [char; 2],
    out: &mut String,
    mut write: impl FnMut(T, &mut String) -> serde_json::Result<()>,
) -> serde_json::Result<()> {
    out.push(open);
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        write(item, out)?;
    }
    out.push(close);
    Ok(())
}

/// Writes a number of JSON's syntax without an exponent.
fn write_number(text: &str, out: &mut String) -> serde_json::Result<()> {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |text| ("-", text));
    let (digits, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let power = power.parse::<i64>().ok().filter(|power| power.abs() <= DIGITS_MAX);
    let power = power.ok_or_else(|| serde_json::Error::custom("a number is out of range"))?;
    let all = format!("{whole}{fraction}");
    let led = all.trim_start_matches('0');
    if led.is_empty() {
        out.push('0');
        return Ok(());
    }
    let point = whole.len() as i64 + power - (all.len() - led.len()) as i64;
    let kept = led.trim_end_matches('0');
    out.push_str(sign);
    match usize::try_from(point) {
        Err(_) | Ok(0) => {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
            out.push_str(kept);
        }
        Ok(point) if point >= kept.len() => {
            out.push_str(kept);
            out.extend(std::iter::repeat_n('0', point - kept.len()));
        }
        Ok(point) => {
            out.push_str(&kept[..point]);
            out.push('.');
            out.push_str(&kept[point..]);
        }
    }
    Ok(())
}

/// The members of an object; of several with one key the last.
struct Object<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if key.contains('\0') {
                        return Err(A::Error::custom("\\u0000 cannot be converted to text"));
                    }
                    members.insert(key, value);
                }
                Ok(Object(members))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Object<'de>, A::Error> {
                Err(A::Error::custom("an array is no object"))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Result<String, String> {
        let mut out = String::from("before");
        canonical_json(text, &mut out).map(|()| out.split_off("before".len()))
    }

    #[test]
    fn texts_of_one_value_become_one_text() {
        for (text, expected) in [
            (" { \"bb\" : 1.50, \"a\":[ 1 ,null,true ], \"a\" : {} } ", r#"{"a": {}, "bb": 1.5}"#),
            ("[]", "[]"),
            ("{\"b\":1,\"aa\":2,\"a\":3}", r#"{"a": 3, "b": 1, "aa": 2}"#),
            (r#""\u00e4\/\n""#, "\"ä/\\n\""),
            ("-0.0", "0"),
            ("1e3", "1000"),
            ("-12.5e-4", "-0.00125"),
            ("0.10", "0.1"),
            ("100", "100"),
            ("12.50e1", "125"),
            ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
            assert_eq!(canonical(expected).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_and_leaves_nothing() {
        for text in [
            "",
            "{",
            "{a:1}",
            "[1,]",
            "01",
            "+1",
            ".5",
            "nul",
            "\"a",
            "1 2",
            "\"\\u0000\"",
            "1e99999",
        ] {
            assert!(canonical(text).is_err(), "{text}");
        }
        let deep = "[".repeat(300) + &"]".repeat(300);
        assert!(canonical(&deep).is_err());
        let mut out = String::from("before");
        assert!(canonical_json("[1, x]", &mut out).is_err());
        assert_eq!(out, "before");
    }
}
