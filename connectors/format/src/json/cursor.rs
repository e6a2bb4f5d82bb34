//! [`Cursor`]: walks over JSON text and hands out the raw tokens of its values.
//!
//! Four fifths of a change event are never asked for (Debezium's `source` above all). A parser
//! that checks and converts what it skips spends most of its time there; the cursor only looks for
//! the end of it.

use std::borrow::Cow;

use wide::u8x16;

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
        let start = self.at;
        let mut brackets = Brackets::default();
        let (blocks, rest) = self.text.as_bytes()[start..].as_chunks::<BLOCK>();
        for (number, block) in blocks.iter().enumerate() {
            if let Some(end) = brackets.pass(block) {
                self.at = start + number * BLOCK + end;
                return Ok(&self.text[start..self.at]);
            }
        }
        let mut last = [0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let end = brackets.pass(&last).ok_or(Syntax)?;
        self.at = start + blocks.len() * BLOCK + end;
        Ok(&self.text[start..self.at])
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
        let rest = bytes.get(at..).ok_or(Syntax)?;
        at += quote_or_backslash(rest).ok_or(Syntax)?;
        if bytes[at] == b'"' {
            return Ok(at + 1);
        }
        at += 2;
    }
}

/// The place of the first. Most strings are too short for a call of a library to pay.
#[inline]
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    let (vectors, rest) = bytes.as_chunks::<16>();
    for (number, vector) in vectors.iter().enumerate() {
        let vector = u8x16::new(*vector);
        let marks = vector.simd_eq(splat(b'"')) | vector.simd_eq(splat(b'\\'));
        let marks = marks.to_bitmask();
        if marks != 0 {
            return Some(number * 16 + marks.trailing_zeros() as usize);
        }
    }
    let place = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
    place.map(|place| vectors.len() * 16 + place)
}

#[inline]
fn splat(byte: u8) -> u8x16 {
    u8x16::splat(byte)
}

/// Bytes of text that [`Brackets`] passes at once: a bit of a word for each.
const BLOCK: usize = 64;

/// Finds the bracket that closes the first one.
///
/// It counts brackets outside strings, block by block. Strings, which are short and many, cost no
/// branch: the exclusive or of all quotes up to a byte tells whether it is in one.
#[derive(Default)]
struct Brackets {
    /// Brackets that are open.
    depth: u32,
    /// All ones within a string, else 0.
    in_string: u64,
    /// True if the last byte was a backslash that escapes the next one.
    escapes: bool,
}

impl Brackets {
    /// Passes a block; gives the place behind the closing bracket, if it is in it. The first block
    /// begins with the opening one.
    #[inline]
    fn pass(&mut self, block: &[u8; BLOCK]) -> Option<usize> {
        let (mut quotes, mut backslashes, mut opening, mut closing) = (0, 0, 0, 0);
        for (number, vector) in block.as_chunks::<16>().0.iter().enumerate() {
            let vector = u8x16::new(*vector);
            let bits = |marks: u8x16| u64::from(marks.to_bitmask()) << (number * 16);
            quotes |= bits(vector.simd_eq(splat(b'"')));
            backslashes |= bits(vector.simd_eq(splat(b'\\')));
            // With this bit both kinds of brackets are alike, and with no other byte.
            let lower = vector | splat(0x20);
            opening |= bits(lower.simd_eq(splat(b'{')));
            closing |= bits(lower.simd_eq(splat(b'}')));
        }
        if backslashes != 0 || self.escapes {
            quotes &= !self.escaped(backslashes);
        }
        let in_string = up_to(quotes) ^ self.in_string;
        self.in_string = if in_string >> (BLOCK - 1) == 1 { u64::MAX } else { 0 };
        (opening, closing) = (opening & !in_string, closing & !in_string);
        if self.depth > closing.count_ones() {
            self.depth = self.depth + opening.count_ones() - closing.count_ones();
            return None;
        }
        let mut brackets = opening | closing;
        while brackets != 0 {
            let place = brackets.trailing_zeros();
            brackets &= brackets - 1;
            if opening >> place & 1 == 1 {
                self.depth += 1;
            } else {
                self.depth -= 1;
                if self.depth == 0 {
                    return Some(place as usize + 1);
                }
            }
        }
        None
    }

    /// The bytes that a backslash before them escapes.
    fn escaped(&mut self, mut backslashes: u64) -> u64 {
        let mut escaped = u64::from(std::mem::take(&mut self.escapes));
        while backslashes != 0 {
            let backslash = backslashes & backslashes.wrapping_neg();
            backslashes ^= backslash;
            if escaped & backslash == 0 {
                escaped |= backslash << 1;
                self.escapes = backslash << 1 == 0;
            }
        }
        escaped
    }
}

/// Each bit is the exclusive or of all bits up to it.
#[inline]
fn up_to(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
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
mod mutated;
#[cfg(test)]
mod tests;
