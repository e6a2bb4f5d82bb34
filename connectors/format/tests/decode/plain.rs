//! FORMAT PLAIN.

use frazil_connector_api::Message;
use frazil_format::FormatKind;

use crate::support::{decoder, drawn, push, refused};

#[test]
fn an_object_is_an_insert() {
    let columns = "id int8, name text, at timestamptz, price numeric2, tags text[], doc text";
    let mut decoder = decoder(FormatKind::Plain, columns, &[], "");
    for line in [
        r#"{"id":1,"name":"a\"\u00e9","at":"2024-01-01T00:00:00Z","price":12.345,"tags":["x",null],"doc":{"k": [1,  2]}}"#,
        r#" {"doc": 7, "more": {"deep": [{}]}, "price": "1.5", "at": 1704067200000000, "id": 2} "#,
        "{}",
    ] {
        push(&mut *decoder, line).unwrap();
    }
    assert_eq!(
        drawn(&mut *decoder),
        [
            r#"+1 1|a"é|2024-01-01T00:00:00Z|12.35|[x, ]|{"k": [1,  2]}"#,
            "+1 2|∅|2024-01-01T00:00:00Z|1.50|∅|7",
            "+1 ∅|∅|∅|∅|∅|∅",
        ]
    );
}

#[test]
fn a_broken_message_names_its_column_and_leaves_its_neighbours() {
    let columns = "id int4, tags int4[], name text, flag bool";
    let mut decoder = decoder(FormatKind::Plain, columns, &[], "");
    push(&mut *decoder, r#"{"id":1,"tags":[1,2],"name":"one","flag":true}"#).unwrap();
    let bad = [
        (
            r#"{"id":2,"tags":[3],"name":"two","flag":"x"}"#,
            r#"column "flag": value "x" is not a boolean"#,
        ),
        (
            r#"{"flag":true,"name":"two","tags":[3,"x"]}"#,
            r#"column "tags": value [3,"x"] is not an integer"#,
        ),
        (r#"{"id":3000000000}"#, r#"column "id": value 3000000000 is out of range"#),
    ];
    for (value, reason) in bad {
        assert_eq!(refused(&mut *decoder, value).message, reason);
    }
    for value in ["", "{", r#"{"id":2"#, "[1]", "7", "\"x\"", r#"{"id":2}{}"#, r#"{"name":"a"#] {
        refused(&mut *decoder, value);
    }
    push(&mut *decoder, r#"{"name":"three","id":3,"tags":[],"flag":false}"#).unwrap();
    assert_eq!(decoder.buffered_rows(), 2);
    assert_eq!(drawn(&mut *decoder), ["+1 1|[1, 2]|one|true", "+1 3|[]|three|false"]);
    push(&mut *decoder, r#"{"id":4}"#).unwrap();
    assert_eq!(drawn(&mut *decoder), ["+1 4|∅|∅|∅"]);
}

#[test]
fn a_table_with_a_key_takes_upserts_and_deletes() {
    let mut decoder = decoder(FormatKind::Plain, "id int8, v text", &[0], "");
    push(&mut *decoder, r#"{"id":1,"v":"a"}"#).unwrap();
    let key = Some(br#"{"id":1}"#.as_slice());
    decoder.push(Message { key, value: None }).unwrap();
    decoder.push(Message { key, value: Some(b"null") }).unwrap();
    for key in [None, Some(b"1".as_slice()), Some(br#"{"x":1}"#), Some(b"null"), Some(b"\xff")] {
        let error = decoder.push(Message { key, value: None }).unwrap_err();
        assert_eq!(error.message, "a delete has no message key with the primary key");
    }
    let error = refused(&mut *decoder, r#"{"v":"b"}"#);
    assert_eq!(error.message, "key column \"id\" is missing");
    let error = refused(&mut *decoder, r#"{"id":null,"v":"b"}"#);
    assert_eq!(error.message, "key column \"id\" is null");
    assert_eq!(drawn(&mut *decoder), ["U 1|a", "D 1|∅", "D 1|∅"]);
}

#[test]
fn an_append_only_table_refuses_deletes() {
    let mut decoder = decoder(FormatKind::Plain, "id int8", &[], "");
    assert!(decoder.push(Message { key: Some(b"{\"id\":1}"), value: None }).is_err());
    refused(&mut *decoder, r#"{"id":1,"__deleted":"true"}"#);
    assert_eq!(decoder.buffered_rows(), 0);
}

#[test]
fn a_schema_envelope_comes_off_unless_payload_is_a_column() {
    let wrapped = r#"{"schema":{"type":"struct","fields":[{"type":"int64","field":"at",
        "name":"org.apache.kafka.connect.data.Timestamp"}]},"payload":{"at":1000}}"#;
    let mut unwraps = decoder(FormatKind::Plain, "at timestamp", &[], "");
    push(&mut *unwraps, wrapped).unwrap();
    push(&mut *unwraps, wrapped).unwrap();
    push(&mut *unwraps, r#"{"at":1000}"#).unwrap();
    let second = "+1 1970-01-01T00:00:01";
    assert_eq!(drawn(&mut *unwraps), [second, second, "+1 1970-01-01T00:00:00.001"]);
    let mut keeps = decoder(FormatKind::Plain, "payload text", &[], "");
    push(&mut *keeps, r#"{"schema":1,"payload":{"at":1}}"#).unwrap();
    assert_eq!(drawn(&mut *keeps), [r#"+1 {"at":1}"#]);
}

#[test]
fn of_a_field_that_is_given_twice_the_last_value_counts() {
    let mut decoder = decoder(FormatKind::Plain, "id int4, v text not null, n int4", &[0], "");
    for value in [
        r#"{"id":1,"v":"a","n":1,"v":"b","id":2}"#,
        r#"{"id":3,"v":null,"v":"c"}"#,
        r#"{"id":4,"v":"__debezium_unavailable_value","v":"d","n":null,"n":4}"#,
    ] {
        push(&mut *decoder, value).unwrap();
        assert!(!decoder.needs_stored_row(), "{value}");
    }
    refused(&mut *decoder, r#"{"id":5,"v":"e","v":null,"n":1,"n":2}"#);
    push(&mut *decoder, r#"{"id":6,"v":"x","v":"__debezium_unavailable_value"}"#).unwrap();
    assert!(decoder.needs_stored_row());
    let rows = ["U 2|b|1", "U 3|c|∅", "U 4|d|4", "D 5|∅|∅", "U 6|=|∅"];
    assert_eq!(drawn(&mut *decoder), rows);
}

#[test]
fn fields_in_camel_case_are_the_columns_that_sql_folds() {
    let mut decoder = decoder(FormatKind::Plain, "id int4, createdat text, Kept text", &[], "");
    push(&mut *decoder, r#"{"id":1,"createdAt":"a","Kept":"b"}"#).unwrap();
    push(&mut *decoder, r#"{"ID":2,"createdat":"c","kept":"d"}"#).unwrap();
    assert_eq!(drawn(&mut *decoder), ["+1 1|a|b", "+1 2|c|∅"]);
}
