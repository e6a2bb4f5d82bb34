//! Texts as arrays: `{1,NULL,"a b"}`.

use arrow::array::{Array, NullBufferBuilder, StringArray, StringBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer};

use super::invalid::invalid_text;
use crate::error::{Error, Result};

/// Arrays, with their items as texts.
#[derive(Debug)]
pub(super) struct TextLists {
    pub(super) items: StringArray,
    pub(super) offsets: OffsetBuffer<i32>,
    pub(super) nulls: Option<NullBuffer>,
}

/// The arrays that texts stand for.
///
/// # Errors
/// `InvalidValue`; `Unsupported` for arrays of several dimensions.
pub(super) fn split(texts: &StringArray) -> Result<TextLists> {
    let mut items = StringBuilder::new();
    let mut lengths = Vec::with_capacity(texts.len());
    let mut nulls = NullBufferBuilder::new(texts.len());
    for text in texts {
        nulls.append(text.is_some());
        lengths.push(match text {
            None => 0,
            Some(text) => read_items(text, &mut items)?,
        });
    }
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(TextLists { items: items.finish(), offsets, nulls: nulls.finish() })
}

/// Appends the texts of an array's items; gives their number.
fn read_items(text: &str, items: &mut StringBuilder) -> Result<usize> {
    let malformed = |detail: &str| {
        let message = format!("malformed array literal: \"{text}\"");
        Error { message, ..invalid_text(text, "array") }.with_detail(detail)
    };
    let inner = text.trim_ascii().strip_prefix('{');
    let Some(inner) = inner.and_then(|inner| inner.strip_suffix('}')) else {
        return Err(malformed("Array value must start with \"{\" and end with \"}\"."));
    };
    if inner.trim_ascii().is_empty() {
        return Ok(0);
    }
    let mut letters = inner.chars().peekable();
    let mut count = 0;
    loop {
        while letters.next_if(char::is_ascii_whitespace).is_some() {}
        let mut item = String::new();
        let mut is_quoted = false;
        match letters.peek() {
            Some('{') => {
                return Err(Error::unsupported("arrays of several dimensions are not supported"));
            }
            Some('"') => {
                is_quoted = true;
                letters.next();
                loop {
                    match letters.next() {
                        None => return Err(malformed("Unexpected end of input.")),
                        Some('"') => break,
                        Some('\\') => item.extend(letters.next()),
                        Some(letter) => item.push(letter),
                    }
                }
                while letters.next_if(char::is_ascii_whitespace).is_some() {}
            }
            _ => {
                while let Some(letter) = letters.next_if(|letter| *letter != ',') {
                    match letter {
                        '\\' => item.extend(letters.next()),
                        '"' | '{' | '}' => return Err(malformed("Unexpected array element.")),
                        letter => item.push(letter),
                    }
                }
                item.truncate(item.trim_ascii_end().len());
                if item.is_empty() {
                    return Err(malformed("Unexpected \",\" character."));
                }
            }
        }
        match !is_quoted && item.eq_ignore_ascii_case("null") {
            true => items.append_null(),
            false => items.append_value(&item),
        }
        count += 1;
        match letters.next() {
            None => return Ok(count),
            Some(',') => {}
            Some(_) => return Err(malformed("Unexpected array element.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_read_with_and_without_quotes() {
        let read = |text: &str| {
            let mut items = StringBuilder::new();
            let count = read_items(text, &mut items)?;
            let items = items.finish();
            let items: Vec<_> = items.iter().map(|item| item.map(str::to_string)).collect();
            assert_eq!(items.len(), count);
            Ok::<_, Error>(items)
        };
        let some = |text: &str| Some(text.to_string());
        assert_eq!(read("{}").unwrap(), []);
        assert_eq!(
            read(" { 1 , null,\"NULL\" , a b } ").unwrap(),
            [some("1"), None, some("NULL"), some("a b")]
        );
        assert_eq!(read(r#"{"a\"b\\,}",c\,d}"#).unwrap(), [some("a\"b\\,}"), some("c,d")]);
        assert_eq!(read("{\"\"}").unwrap(), [some("")]);
        for bad in ["", "1,2", "{1", "{1,}", "{,1}", "{a\"b}", "{\"a}", "{\"a\"b}"] {
            assert_eq!(read(bad).unwrap_err().kind.sqlstate(), "22P02", "{bad}");
        }
        assert_eq!(read("{{1},{2}}").unwrap_err().kind.sqlstate(), "0A000");
    }
}
