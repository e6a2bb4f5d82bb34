//! Values within canonical JSON, found in its text.
//!
//! **Invariant:** every text here is one that
//! [`canonical_json`](frazil_format::canonical_json) wrote: `, ` stands between items, `: ` behind
//! keys, and nothing else between tokens. So a part of it is canonical, too.

/// The items of an array, or the members of an object, as they stand in the text.
#[derive(Debug, Clone)]
struct Parts<'a> {
    rest: &'a str,
}

impl<'a> Parts<'a> {
    fn of(json: &'a str) -> Self {
        Self { rest: json.get(1..json.len() - 1).unwrap_or_default() }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = self.rest.as_bytes();
        let (mut at, mut depth) = (0, 0_usize);
        while at < bytes.len() {
            match bytes[at] {
                b'"' => at = string_end(bytes, at),
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b',' if depth == 0 => break,
                _ => {}
            }
            at += 1;
        }
        let (part, rest) = self.rest.split_at(at.min(bytes.len()));
        self.rest = rest.strip_prefix(", ").unwrap_or_default();
        Some(part)
    }
}

/// The place of the quote that ends the string which begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

/// The members of an object: keys, in quotes, and values.
fn members_of(json: &str) -> impl Iterator<Item = (&str, &str)> {
    Parts::of(json).filter_map(|part| {
        let (key, value) = part.split_at_checked(string_end(part.as_bytes(), 0) + 1)?;
        Some((key, value.strip_prefix(": ")?))
    })
}

fn is_object(json: &str) -> bool {
    json.starts_with('{')
}

fn is_array(json: &str) -> bool {
    json.starts_with('[')
}

/// A key as it stands in a text.
pub(super) fn key_of(key: &str) -> String {
    // A string is always written.
    serde_json::to_string(key).unwrap_or_default()
}

/// The value of an object's key, which is given as by [`key_of`].
pub(super) fn member<'a>(json: &'a str, key: &str) -> Option<&'a str> {
    if !is_object(json) {
        return None;
    }
    members_of(json).find(|(known, _)| *known == key).map(|(_, value)| value)
}

/// An item of an array, from 0, or from the end if the number is negative.
pub(super) fn item(json: &str, number: i64) -> Option<&str> {
    if !is_array(json) {
        return None;
    }
    let at = place(json, number)?;
    Parts::of(json).nth(at)
}

fn place(json: &str, number: i64) -> Option<usize> {
    match usize::try_from(number) {
        Ok(at) => Some(at),
        Err(_) => {
            let back = usize::try_from(number.unsigned_abs()).ok()?;
            Parts::of(json).count().checked_sub(back)
        }
    }
}

/// The value at the end of a path of keys and numbers.
pub(super) fn path<'a, 'b>(
    json: &'a str,
    mut steps: impl Iterator<Item = Option<&'b str>>,
) -> Option<&'a str> {
    steps.try_fold(json, |json, step| {
        let step = step?;
        match is_array(json) {
            true => item(json, step.trim_ascii().parse().ok()?),
            false => member(json, &key_of(step)),
        }
    })
}

/// The name of a value's kind.
pub(super) fn type_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// The number of an array's items.
pub(super) fn length(json: &str) -> Option<usize> {
    is_array(json).then(|| Parts::of(json).count())
}

/// The text of a value: that of a string without quotes; none of `null`.
pub(super) fn text_of(json: &str) -> Option<String> {
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).ok(),
        Some(b'n') => None,
        _ => Some(json.to_string()),
    }
}

/// Whether the structure and values of `part` are in `json`: an array is contained if each of its
/// items is in one of the others, and an array also contains a value that is none.
pub(super) fn contains(json: &str, part: &str) -> bool {
    let is_scalar = |json: &str| !is_object(json) && !is_array(json);
    if is_array(json) && is_scalar(part) {
        return Parts::of(json).any(|item| item == part);
    }
    holds(json, part)
}

fn holds(json: &str, part: &str) -> bool {
    if is_object(json) && is_object(part) {
        return members_of(part)
            .all(|(key, wanted)| member(json, key).is_some_and(|value| holds(value, wanted)));
    }
    if is_array(json) && is_array(part) {
        return Parts::of(part).all(|wanted| Parts::of(json).any(|item| holds(item, wanted)));
    }
    json == part
}

/// Whether a text is a key of an object, or a string of an array, or the string itself.
pub(super) fn has_key(json: &str, key: &str) -> bool {
    let key = key_of(key);
    match () {
        () if is_object(json) => member(json, &key).is_some(),
        () if is_array(json) => Parts::of(json).any(|item| item == key),
        () => json == key,
    }
}

/// The JSON without a key, or without the strings of an array that equal it.
///
/// # Errors
/// Why there is none.
pub(super) fn without_key(json: &str, key: &str) -> Result<Vec<u8>, &'static str> {
    let key = key_of(key);
    if is_object(json) {
        let kept = Parts::of(json).filter(|part| {
            !part.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with(": "))
        });
        return Ok(written(kept, ['{', '}']));
    }
    if is_array(json) {
        return Ok(written(Parts::of(json).filter(|item| **item != *key), ['[', ']']));
    }
    Err("cannot delete from scalar")
}

/// The array without an item.
///
/// # Errors
/// Why there is none.
pub(super) fn without_item(json: &str, number: i64) -> Result<Vec<u8>, &'static str> {
    if is_object(json) {
        return Err("cannot delete from object using integer index");
    }
    if !is_array(json) {
        return Err("cannot delete from scalar");
    }
    let gone = place(json, number);
    let kept = Parts::of(json).enumerate().filter(|(at, _)| Some(*at) != gone);
    Ok(written(kept.map(|(_, item)| item), ['[', ']']))
}

/// Two objects as one, in which the second's values count; anything else as one array.
pub(super) fn joined(left: &str, right: &str) -> Vec<u8> {
    if is_object(left) && is_object(right) {
        let old = members_of(left).filter(|(key, _)| member(right, key).is_none());
        let mut all: Vec<_> = old.chain(members_of(right)).collect();
        // In quotes and with escapes, keys keep the order of their lengths but for the escapes.
        let plain = |key: &str| serde_json::from_str::<String>(key).unwrap_or_default();
        all.sort_by_cached_key(|(key, _)| {
            let key = plain(key);
            (key.len(), key)
        });
        let parts: Vec<_> = all.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        return written(parts.iter().map(String::as_str), ['{', '}']);
    }
    let (left, right) = (Items::of(left), Items::of(right));
    written(left.chain(right), ['[', ']'])
}

/// The items of an array, or the one value itself.
enum Items<'a> {
    Array(Parts<'a>),
    One(Option<&'a str>),
}

impl<'a> Items<'a> {
    fn of(json: &'a str) -> Self {
        if is_array(json) { Self::Array(Parts::of(json)) } else { Self::One(Some(json)) }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        match self {
            Self::Array(parts) => parts.next(),
            Self::One(value) => value.take(),
        }
    }
}

fn written<'a>(parts: impl Iterator<Item = &'a str>, [open, close]: [char; 2]) -> Vec<u8> {
    let mut text = String::from(open);
    for (at, part) in parts.enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        text.push_str(part);
    }
    text.push(close);
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use frazil_format::canonical_json;

    use super::*;

    fn json(text: &str) -> String {
        let mut out = String::new();
        canonical_json(text, &mut out).unwrap();
        out
    }

    #[test]
    fn values_are_found_in_the_text() {
        let doc = json(r#"{"a": {"b, \"c": [1, "x, ]", {"d": null}]}, "": 7, "é": "ä\n"}"#);
        let inner = member(&doc, &key_of("a")).unwrap();
        let list = member(inner, &key_of("b, \"c")).unwrap();
        assert_eq!(item(list, 1), Some("\"x, ]\""));
        assert_eq!(item(list, -1), Some("{\"d\": null}"));
        assert_eq!((item(list, 3), item(list, -4), item(&doc, 0)), (None, None, None));
        assert_eq!(member(&doc, &key_of("")), Some("7"));
        assert_eq!(member(list, &key_of("a")), None);
        assert_eq!(text_of(member(&doc, &key_of("é")).unwrap()).as_deref(), Some("ä\n"));
        let steps = ["a", "b, \"c", "-1", "d"];
        assert_eq!(path(&doc, steps.into_iter().map(Some)), Some("null"));
        assert_eq!(text_of("null"), None);
        assert_eq!(path(&doc, ["a", "x"].into_iter().map(Some)), None);
        assert_eq!(item("[]", 0), None);
        assert_eq!(member("{}", "\"a\""), None);
    }

    #[test]
    fn containment_is_that_of_postgres() {
        for (left, right, expected) in [
            (r#"{"a":1,"b":2}"#, r#"{"b":2}"#, true),
            (r#"{"a":1}"#, r#"{"a":1.0}"#, true),
            (r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"c":2}}"#, true),
            (r#"{"a":{"b":1}}"#, r#"{"b":1}"#, false),
            ("[1,2,3]", "[3,1,3]", true),
            ("[1,2,[1,3]]", "[1,3]", false),
            ("[1,2,[1,3]]", "[[1,3]]", true),
            (r#"["foo","bar"]"#, r#""bar""#, true),
            (r#""bar""#, r#"["bar"]"#, false),
            ("[[1]]", "1", false),
            ("[{\"a\":[1]}]", "[{\"a\":1}]", false),
            ("1", "1", true),
            ("{}", "[]", false),
        ] {
            assert_eq!(contains(&json(left), &json(right)), expected, "{left} @> {right}");
        }
    }

    #[test]
    fn parts_are_taken_away_and_joined() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(text(without_key(r#"{"a": 1, "ab": 2}"#, "a").unwrap()), r#"{"ab": 2}"#);
        assert_eq!(text(without_key(r#"["a", 1, "a"]"#, "a").unwrap()), "[1]");
        assert_eq!(text(without_item("[1, 2, 3]", -1).unwrap()), "[1, 2]");
        assert_eq!(text(without_item("[1]", 5).unwrap()), "[1]");
        assert!(without_key("1", "a").is_err() && without_item("{}", 0).is_err());
        assert_eq!(
            text(joined(r#"{"a": 1, "bb": 2}"#, r#"{"a": 3, "c": 4}"#)),
            r#"{"a": 3, "c": 4, "bb": 2}"#
        );
        assert_eq!(text(joined("[1]", "{}")), "[1, {}]");
        assert_eq!(text(joined("1", "[2]")), "[1, 2]");
        assert!(has_key(r#"{"a": 1}"#, "a") && has_key(r#"["a"]"#, "a") && has_key("\"a\"", "a"));
        assert!(!has_key(r#"["b", 1]"#, "a"));
    }
}
