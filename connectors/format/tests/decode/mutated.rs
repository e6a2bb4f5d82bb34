//! Recorded messages with random damage: none panics, and none changes what the next one gives.
//! Recorded messages in another spelling give the same rows.
//!
//! `PROPTEST_CASES=n` tries more of them.

use frazil_connector_api::{Decoder, Message};
use frazil_format::FormatKind;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::samples::{ALL_TYPES, sample, sample_count};
use crate::support::{decoder, drawn};

/// What readers of JSON, numbers, dates and escapes look for.
const PIECES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"null",
    b"true",
    b"-",
    b"1e999",
    b"0.",
    b"99999999999999999999999999999999999999999",
    b"\\u",
    b"\\ud800",
    b"\\ud83d\\ude00",
    b"\x00",
    b"\xff",
    b"\xc3",
    b"\"op\":\"u\"",
    b"\"before\":",
    b"\"after\":{",
    b"\"payload\":",
    b"=",
    b"Z",
    b"__debezium_unavailable_value",
    b"-9223372036854775808",
    b"24:00:00",
    b"infinity",
];

#[derive(Debug, Clone)]
enum Edit {
    Cut(Index),
    Overwrite(Index, u8),
    Insert(Index, usize),
    Remove(Index, usize),
    Repeat(Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        1 => at().prop_map(Edit::Cut),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Overwrite(at, byte)),
        4 => (at(), 0..PIECES.len()).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        3 => (at(), 1..40_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        2 => (at(), 1..40_usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    let place = |at: &Index| at.index(bytes.len() + 1);
    match edit {
        Edit::Cut(at) => bytes.truncate(place(at)),
        Edit::Overwrite(at, byte) => {
            let place = place(at);
            bytes.splice(place..(place + 1).min(bytes.len()), [*byte]);
        }
        Edit::Insert(at, piece) => {
            let place = place(at);
            bytes.splice(place..place, PIECES[*piece].iter().copied());
        }
        Edit::Remove(at, length) => {
            let place = place(at);
            bytes.drain(place..(place + length).min(bytes.len()));
        }
        Edit::Repeat(at, length) => {
            let place = place(at);
            let piece = bytes[place..(place + length).min(bytes.len())].to_vec();
            bytes.splice(place..place, piece);
        }
    }
}

/// The same JSON with space between its tokens and escapes in its strings, as `bits` choose. No
/// serializer writes ASCII letters or digits with escapes, and `op` is compared as it is written.
fn respelled(text: &str, mut bits: u64) -> String {
    let mut draw = |count: u64| {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (bits >> 33) % count
    };
    let (mut out, mut in_string, mut is_escaped) = (String::new(), false, false);
    for letter in text.chars() {
        let is_named = letter.is_ascii_alphanumeric() || matches!(letter, '_' | '"' | '\\');
        if in_string && !is_escaped && !is_named && draw(3) == 0 {
            let mut units = [0; 2];
            let units = letter.encode_utf16(&mut units).iter();
            out.extend(units.map(|unit| format!("\\u{unit:04X}")));
            continue;
        }
        let is_token = !in_string && "{}[]:,".contains(letter);
        if is_token && draw(3) == 0 {
            out.push_str([" ", "\t", "\r\n", "           "][draw(4) as usize]);
        }
        out.push(letter);
        if is_token && draw(3) == 0 {
            out.push(' ');
        }
        in_string ^= letter == '"' && !is_escaped;
        is_escaped = in_string && !is_escaped && letter == '\\';
    }
    out
}

fn decoders() -> Vec<Box<dyn Decoder>> {
    let all = |format| decoder(format, ALL_TYPES, &[0], "");
    vec![all(FormatKind::Debezium), all(FormatKind::Plain)]
}

proptest! {
    #[test]
    fn damage_ends_with_its_message(
        line in any::<Index>(),
        next in any::<Index>(),
        in_key in proptest::bool::weighted(0.2),
        edits in proptest::collection::vec(edit(), 1..6),
    ) {
        let mut damaged = sample(line.index(sample_count()) + 1);
        let part = if in_key { &mut damaged.key } else { &mut damaged.value };
        if let Some(bytes) = part {
            edits.iter().for_each(|edit| apply(bytes, edit));
        }
        let next = sample(next.index(sample_count()) + 1);
        for (mut used, mut fresh) in decoders().into_iter().zip(decoders()) {
            let message = Message { key: damaged.key.as_deref(), value: damaged.value.as_deref() };
            let _ = used.push(message);
            let message = Message { key: next.key.as_deref(), value: next.value.as_deref() };
            prop_assert_eq!(used.push(message).is_ok(), fresh.push(message).is_ok());
            let (used, fresh) = (drawn(&mut *used), drawn(&mut *fresh));
            prop_assert!(used.ends_with(&fresh), "{:?} does not end with {:?}", used, fresh);
        }
    }

    /// A column that keeps a nested value as text has its spelling and is left out.
    #[test]
    fn a_spelling_changes_no_row(line in any::<Index>(), bits in any::<u64>()) {
        let as_sent = sample(line.index(sample_count()) + 1);
        let text = |part: Option<Vec<u8>>| part.map(String::from_utf8).transpose();
        // Some are Avro, which has no other spelling.
        let (Ok(key), Ok(value)) = (text(as_sent.key), text(as_sent.value)) else {
            return Ok(());
        };
        let respelled = |text: &Option<String>| text.as_ref().map(|text| respelled(text, bits));
        let columns = ALL_TYPES.replace(" pt text,", "");
        for format in [FormatKind::Debezium, FormatKind::Plain] {
            let rows = |key: Option<String>, value: Option<String>| {
                let (key, value) = (key.map(String::into_bytes), value.map(String::into_bytes));
                let mut decoder = decoder(format, &columns, &[0], "");
                let message = Message { key: key.as_deref(), value: value.as_deref() };
                let pushed = decoder.push(message);
                (pushed.map_err(|error| error.kind), drawn(&mut *decoder))
            };
            let expected = rows(key.clone(), value.clone());
            prop_assert_eq!(rows(respelled(&key), respelled(&value)), expected);
        }
    }
}
