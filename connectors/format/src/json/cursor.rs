//! [`Cursor`]: walks over JSON text and hands out the raw tokens of its values.
//!
//! Four fifths of a change event are never asked for (Debezium's `source` above all). A parser
//! that checks and converts what it skips spends most of its time there; the cursor only looks for
//! the end of it.

use std::borrow::Cow;

use memchr::memchr2;

/// The text is not the JSON that was expected at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Syntax;

/// A place in a text, before a value or after one.
///
/// A *token* is the text of one value as it stands there. A scalar token is a string that ends, a
/// JSON number, `true`, `false` or `null`. Of an array or object it is only sure that brackets pair
/// in number and strings end: who reads it must check it.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// How far an object or array has been read.
#[derive(Debug)]
pub(crate) struct Inside {
    close: u8,
    is_first: bool,
}

/// The name of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// The one that was guessed.
    Guessed,
    /// Any; also the guessed one, if it is written in another way.
    Other(Cow<'a, str>),
}

/// The token that a name most likely is, for [`Cursor::next_name`]; one that never is for names
/// that JSON writes with escapes.
pub(crate) fn guess(name: &str) -> Box<str> {
    let is_plain = name.bytes().all(|byte| byte >= b' ' && !matches!(byte, b'"' | b'\\'));
    if is_plain { format!("\"{name}\"").into() } else { Box::default() }
}

impl<'a> Cursor<'a> {
    /// Before the first value of a text.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Nothing but space is left.
    pub(crate) fn end(mut self) -> Result<(), Syntax> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Syntax),
        }
    }

    /// Steps into an object; `None` if the value is `null`, which is passed.
    pub(crate) fn object(&mut self) -> Result<Option<Inside>, Syntax> {
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                Ok(Some(Inside { close: b'}', is_first: true }))
            }
            _ if self.value()? == "null" => Ok(None),
            _ => Err(Syntax),
        }
    }

    /// Steps into an array.
    pub(crate) fn array(&mut self) -> Result<Inside, Syntax> {
        self.expect(b'[')?;
        Ok(Inside { close: b']', is_first: true })
    }

    /// The name of an object's next field, whose value comes next; `None` behind its end. It is
    /// likely the token `guess`, see [`guess`]; no other name is read faster.
    pub(crate) fn next_name(
        &mut self,
        object: &mut Inside,
        guess: &str,
    ) -> Result<Option<Name<'a>>, Syntax> {
        if !self.next_item(object)? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return Err(Syntax);
        }
        let behind = self.text.as_bytes()[self.at..].strip_prefix(guess.as_bytes());
        if behind.is_some_and(|behind| behind.first() == Some(&b':')) {
            self.at += guess.len() + 1;
            return Ok(Some(Name::Guessed));
        }
        let token = self.string()?;
        self.expect(b':')?;
        content(token).map(|name| Some(Name::Other(name))).ok_or(Syntax)
    }

    /// Whether there is a next item; steps before it, or behind the end.
    pub(crate) fn next_item(&mut self, inside: &mut Inside) -> Result<bool, Syntax> {
        let is_first = std::mem::replace(&mut inside.is_first, false);
        match self.peek() {
            Some(close) if close == inside.close => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if !is_first => self.at += 1,
            Some(_) if is_first => return Ok(true),
            _ => return Err(Syntax),
        }
        // A comma is followed by an item.
        if self.peek() == Some(inside.close) { Err(Syntax) } else { Ok(true) }
    }

    /// The token of the next value.
    pub(crate) fn value(&mut self) -> Result<&'a str, Syntax> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{' | b'[') => self.container(),
            _ => self.scalar(),
        }
    }

    /// The next byte that is no space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn expect(&mut self, byte: u8) -> Result<(), Syntax> {
        if self.peek() != Some(byte) {
            return Err(Syntax);
        }
        self.at += 1;
        Ok(())
    }

    /// From a quote to behind the one that ends the string.
    fn string(&mut self) -> Result<&'a str, Syntax> {
        let start = self.at;
        self.at = string_end(self.text.as_bytes(), start)?;
        Ok(&self.text[start..self.at])
    }

    fn container(&mut self) -> Result<&'a str, Syntax> {
        let bytes = self.text.as_bytes();
        let (start, mut at, mut depth) = (self.at, self.at, 0_usize);
        loop {
            at += until(bytes, at, usize::MAX, |word| {
                // With these bits all brackets are alike, and with few others.
                equal_bytes(word, b'"') | equal_bytes(word | repeated(0x26), 0x7f)
            });
            match bytes.get(at).ok_or(Syntax)? {
                b'"' => {
                    at = string_end(bytes, at)?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                self.at = at;
                return Ok(&self.text[start..at]);
            }
        }
    }

    fn scalar(&mut self) -> Result<&'a str, Syntax> {
        let rest = &self.text[self.at..];
        let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\t' | b'\r');
        let end = rest.as_bytes().iter().position(is_end).unwrap_or(rest.len());
        let token = rest.get(..end).ok_or(Syntax)?;
        if !is_number(token.as_bytes()) && !matches!(token, "null" | "true" | "false") {
            return Err(Syntax);
        }
        self.at += end;
        Ok(token)
    }
}

/// Behind the string that begins with the quote at `start`.
#[inline]
fn string_end(bytes: &[u8], start: usize) -> Result<usize, Syntax> {
    let mut at = start + 1;
    loop {
        // Most strings are too short for a call to pay.
        at += until(bytes, at, 4, |word| equal_bytes(word, b'"') | equal_bytes(word, b'\\'));
        let rest = bytes.get(at..).ok_or(Syntax)?;
        match rest.first() {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => {}
            _ => at += memchr2(b'"', b'\\', rest).ok_or(Syntax)?,
        }
        if bytes[at] == b'"' {
            return Ok(at + 1);
        }
        at += 2;
    }
}

/// A byte eight times.
const fn repeated(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The highest bit of each byte that equals `byte`; behind the first one others may be set, too.
#[inline]
fn equal_bytes(word: u64, byte: u8) -> u64 {
    let zero = word ^ repeated(byte);
    zero.wrapping_sub(repeated(1)) & !zero & repeated(0x80)
}

/// Number of bytes from `at` that eight at a time show nothing of interest, up to the first that
/// `find` marks; looks at `words` words at most, and leaves the last bytes of the text alone.
#[inline]
fn until(bytes: &[u8], at: usize, words: usize, find: impl Fn(u64) -> u64) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut count = 0;
    for word in rest.as_chunks::<8>().0.iter().take(words) {
        let found = find(u64::from_le_bytes(*word));
        if found != 0 {
            return count + found.trailing_zeros() as usize / 8;
        }
        count += 8;
    }
    count
}

/// The content of a string token; `None` if it has a control character or a broken escape.
pub(crate) fn content(token: &str) -> Option<Cow<'_, str>> {
    let inside = &token[1..token.len() - 1];
    // Without a branch in the loop it runs on vectors.
    let is_plain =
        inside.bytes().fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'\\'));
    if is_plain {
        return Some(Cow::Borrowed(inside));
    }
    serde_json::from_str(token).map(Cow::Owned).ok()
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`
fn is_number(token: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = token.strip_prefix(b"-").unwrap_or(token);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let exponent =
            exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let count = digits(exponent);
        return count > 0 && count == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::Value;

    use super::*;

    /// Reads a text whole: each value down to its scalars.
    fn read(cursor: &mut Cursor<'_>) -> Result<(), Syntax> {
        match cursor.peek() {
            Some(b'{') => {
                let mut object = cursor.object()?.ok_or(Syntax)?;
                while cursor.next_name(&mut object, "\"a\"")?.is_some() {
                    read(cursor)?;
                }
                Ok(())
            }
            Some(b'[') => {
                let mut array = cursor.array()?;
                while cursor.next_item(&mut array)? {
                    read(cursor)?;
                }
                Ok(())
            }
            Some(b'"') => content(cursor.value()?).map(drop).ok_or(Syntax),
            _ => cursor.value().map(drop),
        }
    }

    fn accepts(text: &str) -> bool {
        let mut cursor = Cursor::new(text);
        read(&mut cursor).and_then(|()| cursor.end()).is_ok()
    }

    /// By the grammar: a number may be beyond every type.
    fn is_json(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    /// JSON, and texts that nearly are.
    fn text() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\",
            "\"a\"",
            "\"\\u00e9\"",
            "\"\\\"",
            "\"\t\"",
            "0",
            "-1.5e+3",
            "01",
            "1.",
            "-",
            ".5",
            "1e",
            "null",
            "true",
            "false",
            "nul",
            " ",
            "é",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    fn value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        scalar.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// What is read whole is JSON, and all JSON is read.
        #[test]
        fn accepts_what_serde_json_accepts(text in text()) {
            prop_assert_eq!(accepts(&text), is_json(&text));
        }

        #[test]
        fn tokens_are_the_values(value in value(), cut in any::<prop::sample::Index>()) {
            let text = value.to_string();
            prop_assert!(accepts(&text));
            let mut cursor = Cursor::new(&text);
            prop_assert_eq!(cursor.value(), Ok(text.as_str()));
            prop_assert_eq!(cursor.end(), Ok(()));
            let (start, end) = (cut.index(text.len() + 1), text.len());
            if let Some(part) = text.get(..start).filter(|_| start < end) {
                prop_assert_eq!(accepts(part), is_json(part));
            }
        }
    }
}
