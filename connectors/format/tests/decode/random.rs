//! Laws over random messages.

use frazil_connector_api::{Decoder, Message};
use frazil_format::FormatKind;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{decoder, drawn, keyed, push};

const COLUMNS: &str = "id int8, t text, f float8, n numeric3, b bytea, at timestamptz, l int4[]";

/// A row as it goes in, and as it must come out.
#[derive(Debug, Clone)]
struct Row {
    json: Value,
    drawn: String,
}

fn optional<T: std::fmt::Debug>(
    strategy: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    proptest::option::weighted(0.8, strategy)
}

fn base64_of(unscaled: i128) -> String {
    use base64::Engine;
    let bytes = unscaled.to_be_bytes();
    // Java sends no more bytes than the sign needs.
    let start = (0..15).take_while(|index| {
        let fill = if unscaled < 0 { 0xff } else { 0 };
        bytes[*index] == fill && (bytes[index + 1] ^ fill) & 0x80 == 0
    });
    base64::engine::general_purpose::STANDARD.encode(&bytes[start.count()..])
}

fn cell<T>(value: Option<&T>, draw: impl Fn(&T) -> String) -> String {
    value.map_or("∅".to_string(), draw)
}

prop_compose! {
    fn row()(
        id in any::<i64>(),
        text in optional(any::<String>()),
        float in optional(any::<f64>().prop_filter("JSON has no others", |f| f.is_finite())),
        unscaled in optional(-10_i128.pow(37)..10_i128.pow(37)),
        bytes in optional(proptest::collection::vec(any::<u8>(), 0..20)),
        micros in optional(-60_000_000_000_000_000_i64..250_000_000_000_000_000),
        list in optional(proptest::collection::vec(any::<i32>(), 0..4)),
    ) -> Row {
        use base64::Engine;
        let at = micros.map(|micros| chrono::DateTime::from_timestamp_micros(micros).unwrap());
        let base64 = |bytes: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
        let json = json!({
            "id": id, "t": text, "f": float, "n": unscaled.map(base64_of),
            "b": bytes.as_ref().map(base64), "l": list,
            "at": at.map(|at| at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()),
        });
        let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let drawn = [
            id.to_string(),
            cell(text.as_ref(), |text| text.clone()),
            cell(float.as_ref(), |float| {
                let array = arrow::array::Float64Array::from(vec![*float]);
                arrow::util::display::array_value_to_string(&array, 0).unwrap()
            }),
            cell(unscaled.as_ref(), |unscaled| {
                let sign = if *unscaled < 0 { "-" } else { "" };
                let digits = unscaled.unsigned_abs();
                format!("{sign}{}.{:03}", digits / 1000, digits % 1000)
            }),
            cell(bytes.as_ref(), hex),
            cell(at.as_ref(), |at| at.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string()),
            cell(list.as_ref(), |list| format!("{list:?}")),
        ];
        Row { json, drawn: drawn.join("|") }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Create,
    Update,
    Delete,
    Bad,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Create),
        2 => Just(Kind::Update),
        2 => Just(Kind::Delete),
        1 => Just(Kind::Bad),
    ]
}

/// Writes events, some broken, and says which rows must come out.
fn events(steps: &[(Kind, Row, Row)], wrap: bool) -> (Vec<String>, Vec<String>) {
    let (mut messages, mut rows) = (Vec::new(), Vec::new());
    let delete_of = |row: &Row| format!("D {}|∅|∅|∅|∅|∅|∅", row.json["id"]);
    for (kind, old, new) in steps {
        let new_row = &new.drawn;
        let (op, before, after) = match kind {
            Kind::Create | Kind::Bad => ("c", Value::Null, new.json.clone()),
            Kind::Update => ("u", old.json.clone(), new.json.clone()),
            Kind::Delete => ("d", old.json.clone(), Value::Null),
        };
        let event = json!({"before": before, "after": after, "source": {"db": "x"}, "op": op});
        let event = if wrap { json!({"schema": null, "payload": event}) } else { event };
        let mut text = event.to_string();
        if matches!(kind, Kind::Bad) {
            text = text.replacen("\"l\":", "\"l\":{},\"m\":", 1);
        }
        messages.push(text);
        match kind {
            // The row's old version, if there is one, is not what the source has.
            Kind::Bad => rows.push(delete_of(new)),
            Kind::Create => rows.push(format!("U {new_row}")),
            Kind::Update => {
                rows.push(format!("U {new_row}"));
                if old.json["id"] != new.json["id"] {
                    rows.push(delete_of(old));
                }
            }
            Kind::Delete => rows.push(delete_of(old)),
        }
    }
    (messages, rows)
}

fn push_all(decoder: &mut dyn Decoder, messages: &[String], steps: &[(Kind, Row, Row)]) {
    for (message, (kind, ..)) in messages.iter().zip(steps) {
        let pushed = push(decoder, message);
        assert_eq!(pushed.is_err(), matches!(kind, Kind::Bad), "{message} {pushed:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_events_decode_back(
        steps in proptest::collection::vec((kind(), row(), row()), 0..12),
        wrap in any::<bool>(),
    ) {
        let (messages, rows) = events(&steps, wrap);
        let mut decoder = keyed(COLUMNS);
        push_all(&mut *decoder, &messages, &steps);
        prop_assert_eq!(drawn(&mut *decoder), rows);
    }

    #[test]
    fn no_bytes_panic(
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        value in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        for mut decoder in all_decoders() {
            let message = Message { key: key.as_deref(), value: Some(&value) };
            let _ = decoder.push(message);
            drawn(&mut *decoder);
        }
    }

    #[test]
    fn no_damaged_event_panics(
        row in row(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        wrap in any::<bool>(),
    ) {
        let (messages, _) = events(&[(Kind::Update, row.clone(), row)], wrap);
        let mut value = messages[0].clone().into_bytes();
        for (place, byte) in damage {
            let index = place.index(value.len());
            value[index] = byte;
        }
        for mut decoder in all_decoders() {
            for _ in 0..2 {
                let _ = decoder.push(Message { key: None, value: Some(&value) });
            }
            drawn(&mut *decoder);
        }
    }

    #[test]
    fn no_token_panics(token in "[-+]?[0-9]{0,40}([.][0-9]{0,40})?([eE][-+]?[0-9]{1,12})?") {
        let columns = "i int8, s int2, f float4, n numeric38, m numeric0, d date, c time, \
                       at timestamptz, l numeric2[], b bytea, o bool";
        for name in ["i", "s", "f", "n", "m", "d", "c", "at", "l", "b", "o"] {
            for value in [token.clone(), format!("\"{token}\""), format!("[{token}]")] {
                let mut decoder = decoder(FormatKind::Plain, columns, &[], "");
                let _ = push(&mut *decoder, &format!("{{\"{name}\":{value}}}"));
                drawn(&mut *decoder);
            }
        }
    }
}

fn all_decoders() -> [Box<dyn Decoder>; 4] {
    let saturate = "out.of.range.handling.mode=saturate unavailable.value.handling.mode=null";
    [
        keyed(COLUMNS),
        decoder(FormatKind::Debezium, COLUMNS, &[0], saturate),
        decoder(FormatKind::Plain, COLUMNS, &[], ""),
        decoder(FormatKind::Plain, COLUMNS, &[0], ""),
    ]
}
