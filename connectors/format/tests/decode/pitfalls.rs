//! One test for each trap of Debezium's events that concerns decoding.
//!
//! Recorded messages of the same traps are in [`crate::samples`].

use arrow::array::{Array, Float64Array, Int64Array};
use frazil_connector_api::{Decoded, Message};
use frazil_format::FormatKind;

use crate::support::{decoder, drawn, keyed, push, refused};

const UNKNOWN: &str = "__debezium_unavailable_value";
const UNKNOWN_BASE64: &str = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";

#[test]
fn a_tombstone_is_ignored_in_envelope_mode() {
    let mut decoder = keyed("id int8");
    decoder.push(Message { key: Some(br#"{"id":1}"#), value: None }).unwrap();
    assert_eq!(decoder.ignored_messages(), 1);
    assert!(drawn(&mut *decoder).is_empty());
}

#[test]
fn a_delete_takes_the_key_alone_from_a_before_of_made_up_defaults() {
    let mut decoder = keyed("id int8, first_name text, updated timestamptz");
    let value = r#"{"before":{"id":10,"first_name":"","updated":"no date"},"after":null,"op":"d"}"#;
    push(&mut *decoder, value).unwrap();
    assert_eq!(drawn(&mut *decoder), ["D 10|∅|∅"]);
}

#[test]
fn an_unknown_value_is_marked_whatever_its_type() {
    let columns = "id text, t text, b bytea, n numeric2, ts text[], bs bytea[], i int4[], m text";
    let bytes: Vec<String> = UNKNOWN.bytes().map(|byte| byte.to_string()).collect();
    let value = format!(
        r#"{{"after":{{"id":"{UNKNOWN}","t":"{UNKNOWN}","b":"{UNKNOWN_BASE64}",
        "n":"{UNKNOWN_BASE64}","ts":["{UNKNOWN}"],"bs":["{UNKNOWN_BASE64}"],"i":[{}],
        "m":{{"{UNKNOWN}":"{UNKNOWN}"}}}},"op":"u"}}"#,
        bytes.join(",")
    );
    let mut decoder = keyed(columns);
    push(&mut *decoder, r#"{"after":{"id":"a","t":"x"},"op":"c"}"#).unwrap();
    push(&mut *decoder, &value).unwrap();
    refused(&mut *decoder, &value.replace("\"u\"", "\"x\""));
    let rows = ["U a|x|∅|∅|∅|∅|∅|∅".to_string(), format!("U {UNKNOWN}|=|=|=|=|=|=|=")];
    assert_eq!(drawn(&mut *decoder), rows);
    push(&mut *decoder, r#"{"after":{"id":"a","t":"x"},"op":"c"}"#).unwrap();
    let Decoded::Upserts(batch) = decoder.flush().unwrap() else { panic!("upserts expected") };
    assert!(batch.unchanged().is_empty());
}

#[test]
fn the_placeholder_is_configurable() {
    let option = "unavailable.value.placeholder=gone";
    let mut decoder = decoder(FormatKind::Debezium, "id int8, v text", &[0], option);
    push(&mut *decoder, r#"{"after":{"id":1,"v":"gone"},"op":"u"}"#).unwrap();
    push(&mut *decoder, &format!(r#"{{"after":{{"id":2,"v":"{UNKNOWN}"}},"op":"u"}}"#)).unwrap();
    assert_eq!(drawn(&mut *decoder), ["U 1|=".to_string(), format!("U 2|{UNKNOWN}")]);
}

#[test]
fn an_unknown_value_needs_a_stored_row_unless_null_will_do() {
    let columns = "id int8, v text, w text not null";
    let value =
        |v: &str, w: &str| format!(r#"{{"after":{{"id":1,"v":"{v}","w":"{w}"}},"op":"u"}}"#);
    let null = "unavailable.value.handling.mode=null";
    for (option, v, w, needs) in [
        ("", "x", "y", false),
        ("", UNKNOWN, "y", true),
        ("", "x", UNKNOWN, true),
        (null, UNKNOWN, "y", false),
        (null, UNKNOWN, UNKNOWN, true),
    ] {
        let mut decoder = decoder(FormatKind::Debezium, columns, &[0], option);
        push(&mut *decoder, &value(UNKNOWN, UNKNOWN)).unwrap();
        push(&mut *decoder, &value(v, w)).unwrap();
        assert_eq!(decoder.needs_stored_row(), needs, "{option} {v} {w}");
    }
}

#[test]
fn a_key_change_arrives_as_delete_and_create_in_order() {
    let mut decoder = keyed("id int8, v text");
    push(&mut *decoder, r#"{"before":{"id":10,"v":""},"after":null,"op":"d"}"#).unwrap();
    decoder.push(Message { key: Some(br#"{"id":10}"#), value: None }).unwrap();
    push(&mut *decoder, r#"{"before":null,"after":{"id":11,"v":"a"},"op":"c"}"#).unwrap();
    assert_eq!(drawn(&mut *decoder), ["D 10|∅", "U 11|a"]);
}

#[test]
fn transaction_marks_with_odd_collections_and_total_order_as_text_are_ignored() {
    let mut decoder = keyed("id int8");
    for value in [
        r#"{"status":"END","id":"7:1","event_count":1,"data_collections":[{"data_collection":"a.B$C@5","event_count":1}]}"#,
        r#"{"status":"BEGIN","id":"7:1"}"#,
        r#"{"ts_ms":1}"#,
        r#"{"source":{},"databaseName":"d","schemaName":null,"ddl":"DROP TABLE t","tableChanges":[]}"#,
    ] {
        push(&mut *decoder, value).unwrap();
    }
    assert_eq!(decoder.ignored_messages(), 4);
    let data = r#"{"after":{"id":1},"transaction":{"id":"7:1","total_order":"1"},"op":"c"}"#;
    push(&mut *decoder, data).unwrap();
    for value in [r#"{"status":"paid","id":1}"#, r#"{"after":{"id":1},"ts_ms":1}"#] {
        refused(&mut *decoder, value);
    }
    assert_eq!(drawn(&mut *decoder), ["U 1"]);
}

#[test]
fn a_null_lsn_and_old_snapshot_markers_do_not_matter() {
    let mut decoder = keyed("id int8");
    for source in [r#"{"lsn":null,"txId":null,"snapshot":"incremental"}"#, r#"{"snapshot":false}"#]
    {
        let value = format!(r#"{{"before":null,"after":{{"id":1}},"source":{source},"op":"r"}}"#);
        push(&mut *decoder, &value).unwrap();
    }
    assert_eq!(drawn(&mut *decoder), ["U 1", "U 1"]);
}

#[test]
fn large_integers_and_special_floats_lose_nothing() {
    let mut decoder = decoder(FormatKind::Plain, "i int8, f float8", &[], "");
    for (integer, float) in [
        ("9223372036854775807", "\"NaN\""),
        ("-9223372036854775808", "\"-Infinity\""),
        ("9007199254740993", "0.30000000000000004"),
    ] {
        let value = format!(r#"{{"i":{integer},"f":{float}}}"#);
        push(&mut *decoder, &value).unwrap();
    }
    refused(&mut *decoder, r#"{"i":9223372036854775808}"#);
    refused(&mut *decoder, r#"{"f":1e999}"#);
    let Decoded::Changes(batch) = decoder.flush().unwrap() else { panic!("changes expected") };
    let integers = batch.rows().column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    assert_eq!(integers.values(), &[i64::MAX, i64::MIN, 9_007_199_254_740_993]);
    let floats = batch.rows().column(1).as_any().downcast_ref::<Float64Array>().unwrap();
    assert!(floats.value(0).is_nan());
    assert_eq!(&floats.values()[1..], [f64::NEG_INFINITY, 0.30000000000000004]);
    assert_eq!(floats.null_count(), 0);
}

#[test]
fn a_decimal_that_is_no_number_is_refused() {
    let mode = "decimal.handling.mode=string";
    let mut decoder = decoder(FormatKind::Debezium, "id int8, n numeric2", &[0], mode);
    for text in ["NaN", "Infinity", "", "1e40"] {
        refused(&mut *decoder, &format!(r#"{{"after":{{"id":1,"n":"{text}"}},"op":"c"}}"#));
    }
    push(&mut *decoder, r#"{"after":{"id":1,"n":"12.50"},"op":"c"}"#).unwrap();
    assert_eq!(drawn(&mut *decoder), ["D 1|∅", "D 1|∅", "D 1|∅", "D 1|∅", "U 1|12.50"]);
}

#[test]
fn a_dropped_column_is_null_and_a_new_one_is_skipped() {
    let mut decoder = keyed("id int8, gone text, kept text");
    push(&mut *decoder, r#"{"after":{"new":{"a":[1]},"kept":"k","id":1},"op":"c"}"#).unwrap();
    assert_eq!(drawn(&mut *decoder), ["U 1|∅|k"]);
}

#[test]
fn a_truncate_deletes_all_rows() {
    let mut decoder = keyed("id int8, v text");
    decoder
        .push(Message { key: None, value: Some(br#"{"before":null,"after":null,"op":"t"}"#) })
        .unwrap();
    assert_eq!(drawn(&mut *decoder), ["T"]);
}

#[test]
fn mysql_booleans_come_as_integers() {
    let mut decoder = keyed("id int8, b bool, s int2, y int4");
    push(&mut *decoder, r#"{"after":{"id":1,"b":1,"s":true,"y":2024},"op":"r"}"#).unwrap();
    assert_eq!(drawn(&mut *decoder), ["U 1|true|1|2024"]);
}

#[test]
fn a_create_of_a_known_key_and_a_key_in_any_order_are_upserts() {
    let mut decoder = decoder(FormatKind::Debezium, "a int8, b int8, v text", &[1, 0], "");
    push(&mut *decoder, r#"{"after":{"a":1,"b":2,"v":"x"},"op":"r"}"#).unwrap();
    push(&mut *decoder, r#"{"after":{"v":"y","b":2,"a":1},"op":"c"}"#).unwrap();
    let key = Some(br#"{"b":2,"a":1}"#.as_slice());
    let value = Some(br#"{"before":null,"after":null,"op":"d"}"#.as_slice());
    decoder.push(Message { key, value }).unwrap();
    assert_eq!(drawn(&mut *decoder), ["U 1|2|x", "U 1|2|y", "D 1|2|∅"]);
}

#[test]
fn a_null_where_the_table_has_none_is_a_bad_message_unless_the_row_goes() {
    let mut decoder = keyed("id int8 not null, v int8 not null");
    push(&mut *decoder, r#"{"after":{"id":1,"v":2},"op":"c"}"#).unwrap();
    refused(&mut *decoder, r#"{"after":{"id":1,"v":null},"op":"u"}"#);
    refused(&mut *decoder, r#"{"after":{"id":1},"op":"u"}"#);
    refused(&mut *decoder, r#"{"after":{"id":null,"v":1},"op":"c"}"#);
    push(&mut *decoder, r#"{"before":{"id":1,"v":null},"after":null,"op":"d"}"#).unwrap();
    push(&mut *decoder, r#"{"before":null,"after":null,"op":"t"}"#).unwrap();
    let Decoded::Upserts(batch) = decoder.flush().unwrap() else { panic!("upserts expected") };
    let schema = batch.rows().schema();
    assert!(!schema.field(0).is_nullable() && schema.field(1).is_nullable());
    // The row, two deletes of versions that cannot be kept, the delete, the truncate.
    assert_eq!(batch.num_rows(), 5);
}
