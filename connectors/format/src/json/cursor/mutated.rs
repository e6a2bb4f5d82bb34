//! Recorded change events with random damage: the cursor agrees with `serde_json` on each.
//!
//! ```text
//! recorded event ─► edits ─► text ─┬─ serde_json ───────────► Ok(Tree) or Err
//!                                  └─ Cursor, which steps into a value or takes its token,
//!                                     with names guessed right and wrong ──► the same
//! ```
//!
//! `PROPTEST_CASES=n` tries more of them.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::*;

const SAMPLES: &str = include_str!("../../../tests/data/debezium-samples.jsonl");

/// Documents of a run, unless `PROPTEST_CASES` says more.
const CASES: u32 = 20_000;

/// What the cursor looks for, and what it may take for it.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\\\",
    "\\\"",
    ",",
    ":",
    " \t\r\n",
    "null",
    "nul",
    "-",
    "01",
    "1.",
    "1e999",
    "-0.5E+7",
    "\\u00",
    "\\ud800",
    "\\ud83d\\ude00",
    "\u{0}",
    "\u{7f}",
    "\u{fffd}",
    "\u{22fb}\u{5b5d}",
    "\"op\":\"u\",",
    "\"\\u006fp\":\"u\",",
    "\"before\":",
    "\"after\":{",
    "{\"a\":[{\"b\":{}}]},",
];

/// Names that are guessed; some occur in the events.
const GUESSES: &[&str] = &["op", "before", "after", "source", "id", "ts_ms", "payload", "a", ""];

/// A document as its reader sees it: fields in their order, equal names kept, numbers as text.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Token(String),
    Text(String),
    Items(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

/// The fields of an object, equal names kept.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The reference.
fn by_serde(text: &str) -> serde_json::Result<Tree> {
    let token = serde_json::from_str::<&RawValue>(text)?.get();
    Ok(match token.as_bytes()[0] {
        b'{' => {
            let Fields(fields) = serde_json::from_str(token)?;
            let tree = |(name, value): (_, &RawValue)| Ok((name, by_serde(value.get())?));
            Tree::Fields(fields.into_iter().map(tree).collect::<serde_json::Result<_>>()?)
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(token)?;
            let trees = items.into_iter().map(|item| by_serde(item.get()));
            Tree::Items(trees.collect::<serde_json::Result<_>>()?)
        }
        b'"' => Tree::Text(serde_json::from_str(token)?),
        _ => Tree::Token(token.to_string()),
    })
}

/// How a document is walked: each choice takes the next bits.
struct Walk(u64);

impl Walk {
    fn pick(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % count
    }

    fn document(&mut self, text: &str) -> Result<Tree, Syntax> {
        let mut cursor = Cursor::new(text);
        let tree = self.value(&mut cursor)?;
        cursor.end()?;
        Ok(tree)
    }

    fn value(&mut self, cursor: &mut Cursor<'_>) -> Result<Tree, Syntax> {
        match cursor.peek() {
            // As a decoder does with a value of a column: first the token, then what is in it.
            Some(b'{' | b'[') if self.pick(4) == 0 => self.document(cursor.value()?),
            Some(b'{') => {
                let mut object = cursor.object()?.ok_or(Syntax)?;
                let mut fields = Vec::new();
                loop {
                    let name = GUESSES[self.pick(GUESSES.len())];
                    let name = match cursor.next_name(&mut object, &guess(name))? {
                        None => return Ok(Tree::Fields(fields)),
                        Some(Name::Guessed) => name.to_string(),
                        Some(Name::Other(name)) => name.into_owned(),
                    };
                    fields.push((name, self.value(cursor)?));
                }
            }
            Some(b'[') => {
                let mut array = cursor.array()?;
                let mut items = Vec::new();
                while cursor.next_item(&mut array)? {
                    items.push(self.value(cursor)?);
                }
                Ok(Tree::Items(items))
            }
            Some(b'"') => Ok(Tree::Text(content(cursor.value()?).ok_or(Syntax)?.into_owned())),
            _ => cursor.value().map(|token| Tree::Token(token.to_string())),
        }
    }
}

#[derive(Debug, Clone)]
enum Edit {
    Cut(Index),
    Replace(Index, char),
    Insert(Index, usize),
    Remove(Index, usize),
    Repeat(Index, usize, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        1 => at().prop_map(Edit::Cut),
        2 => (at(), any::<char>()).prop_map(|(at, letter)| Edit::Replace(at, letter)),
        5 => (at(), 0..PIECES.len()).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        2 => (at(), 1..30_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        2 => (at(), 1..60_usize, at()).prop_map(|(at, length, to)| Edit::Repeat(at, length, to)),
    ]
}

fn apply(text: &mut Vec<char>, edit: &Edit) {
    let place = |at: &Index| at.index(text.len() + 1);
    let range = |at: &Index, length: usize| place(at)..(place(at) + length).min(text.len());
    match edit {
        Edit::Cut(at) => text.truncate(place(at)),
        Edit::Replace(at, letter) => _ = text.splice(range(at, 1), [*letter]),
        Edit::Insert(at, piece) => {
            let place = place(at);
            text.splice(place..place, PIECES[*piece].chars());
        }
        Edit::Remove(at, length) => _ = text.drain(range(at, *length)),
        Edit::Repeat(at, length, to) => {
            let (piece, place) = (text[range(at, *length)].to_vec(), place(to));
            text.splice(place..place, piece);
        }
    }
}

/// Keys and values of the recorded events that are text.
fn documents() -> Vec<String> {
    let fields = SAMPLES.lines().map(|line| serde_json::from_str(line).unwrap());
    let texts = fields.flat_map(|fields: serde_json::Value| {
        ["key", "value"].map(|name| match &fields[name] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    });
    texts.filter(|text| text != "null").collect()
}

#[test]
fn damaged_events_are_read_as_serde_json_reads_them() {
    let documents = documents();
    let (read, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut config = ProptestConfig::default();
    config.cases = config.cases.max(CASES);
    config.source_file = Some(file!());
    let case = (any::<Index>(), prop::collection::vec(edit(), 0..4), any::<u64>());
    let outcome = TestRunner::new(config).run(&case, |(document, edits, seed)| {
        let mut text: Vec<char> = documents[document.index(documents.len())].chars().collect();
        edits.iter().for_each(|edit| apply(&mut text, edit));
        let text: String = text.into_iter().collect();
        let expected = by_serde(&text).ok();
        let counter = if expected.is_some() { &read } else { &refused };
        counter.fetch_add(1, Ordering::Relaxed);
        for seed in [seed, !seed] {
            prop_assert_eq!(&Walk(seed).document(&text).ok(), &expected, "{}", text);
        }
        // A token is a part of its text, whatever the text is, and a whole document is its own.
        let mut cursor = Cursor::new(&text);
        if let Ok(token) = cursor.value() {
            let text = text.trim_matches([' ', '\t', '\r', '\n']);
            prop_assert!(text.starts_with(token));
            prop_assert!(expected.is_none() || token == text);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let (read, refused) = (read.into_inner(), refused.into_inner());
    assert!(5 * read > refused && 5 * refused > read, "{read} were JSON, {refused} were not");
}
