//! The cursor against `serde_json`, over random documents and pieces of them.

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
