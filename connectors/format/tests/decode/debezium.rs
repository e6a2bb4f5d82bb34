//! FORMAT DEBEZIUM: operations, images, envelopes.

use frazil_connector_api::Message;
use frazil_format::FormatKind;

use crate::support::{decoder, drawn, keyed, push, refused, unkeyed};

#[test]
fn every_op_with_a_key() {
    let mut decoder = keyed("id int8, v text");
    for value in [
        r#"{"before":null,"after":{"id":1,"v":"a"},"op":"r"}"#,
        r#"{"before":null,"after":{"id":2,"v":"b"},"op":"c"}"#,
        r#"{"op":"u","before":null,"after":{"id":1,"v":"c"}}"#,
        r#"{"before":{"id":2,"v":""},"after":null,"op":"d"}"#,
        r#"{"before":null,"after":null,"op":"t"}"#,
        r#"{"op":"m","message":{"prefix":"p","content":""}}"#,
        r#"{"op":"m","after":{"id":9,"v":"x"}}"#,
    ] {
        push(&mut *decoder, value).unwrap();
    }
    assert_eq!(decoder.ignored_messages(), 2);
    assert_eq!(drawn(&mut *decoder), ["U 1|a", "U 2|b", "U 1|c", "D 2|∅", "T"]);
}

#[test]
fn every_op_without_a_key() {
    let mut decoder = unkeyed("id int8, v text");
    for value in [
        r#"{"before":null,"after":{"id":1,"v":"a"},"op":"r"}"#,
        r#"{"before":{"id":1,"v":"a"},"after":{"id":1,"v":"b"},"op":"u"}"#,
        r#"{"op":"u","after":{"id":1,"v":"c"},"before":{"id":1,"v":"b"}}"#,
        r#"{"before":{"id":1,"v":"c"},"after":null,"op":"d"}"#,
    ] {
        push(&mut *decoder, value).unwrap();
    }
    let rows = ["+1 1|a", "-1 1|a", "+1 1|b", "+1 1|c", "-1 1|b", "-1 1|c"];
    assert_eq!(drawn(&mut *decoder), rows);
    for value in [
        r#"{"before":null,"after":{"id":1,"v":"b"},"op":"u"}"#,
        r#"{"before":null,"after":null,"op":"d"}"#,
    ] {
        let error = refused(&mut *decoder, value);
        assert!(error.hint.unwrap().contains("REPLICA IDENTITY FULL"));
    }
    for value in [
        r#"{"before":null,"after":null,"op":"t"}"#,
        r#"{"before":{"id":1},"after":{"id":1},"op":"c"}"#,
        r#"{"before":{"id":1},"after":{"id":1},"op":"d"}"#,
        r#"{"before":{"id":1},"after":null,"op":"u"}"#,
    ] {
        refused(&mut *decoder, value);
    }
    assert_eq!(decoder.buffered_rows(), 0);
}

#[test]
fn a_key_change_in_one_event_deletes_the_old_key() {
    let mut decoder = decoder(FormatKind::Debezium, "a text, v int8, b int8[]", &[0, 2], "");
    for value in [
        r#"{"before":{"a":"x","v":1,"b":[1]},"after":{"a":"x","v":2,"b":[1]},"op":"u"}"#,
        r#"{"before":{"a":"x","v":2,"b":[1]},"after":{"a":"x","v":2,"b":[1,2]},"op":"u"}"#,
        r#"{"op":"u","after":{"a":"y","v":2,"b":[]},"before":{"a":"x","v":"no number","b":[]}}"#,
    ] {
        push(&mut *decoder, value).unwrap();
    }
    let rows = ["U x|2|[1]", "U x|2|[1, 2]", "D x|∅|[1]", "U y|2|[]", "D x|∅|[]"];
    assert_eq!(drawn(&mut *decoder), rows);
}

#[test]
fn a_delete_without_before_takes_the_message_key() {
    let mut decoder = decoder(FormatKind::Debezium, "v text, k1 int8, k2 text", &[1, 2], "");
    let value = Some(br#"{"before":null,"after":null,"op":"d"}"#.as_slice());
    let plain = Some(br#"{"k2":"x","k1":7}"#.as_slice());
    let wrapped = Some(br#"{"schema":null,"payload":{"k1":8,"k2":"y"}}"#.as_slice());
    decoder.push(Message { key: plain, value }).unwrap();
    decoder.push(Message { key: wrapped, value }).unwrap();
    let error = decoder.push(Message { key: Some(br#"{"k1":7}"#), value }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a delete has no message key with the primary key: key column \"k2\" is missing"
    );
    assert!(decoder.push(Message { key: None, value }).is_err());
    assert_eq!(drawn(&mut *decoder), ["D ∅|7|x", "D ∅|8|y"]);
}

#[test]
fn the_inline_schema_says_how_values_are_written() {
    let field = |name: &str, kind: &str, logical: &str| {
        format!(r#"{{"type":"{kind}","name":"{logical}","field":"{name}","optional":true}}"#)
    };
    let columns = [
        field("id", "int64", "x"),
        field("ms", "int64", "io.debezium.time.Timestamp"),
        field("us", "int64", "io.debezium.time.MicroTimestamp"),
        field("ns", "int64", "io.debezium.time.NanoTimestamp"),
        field("t", "int32", "io.debezium.time.Time"),
        r#"{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","field":"d",
            "parameters":{"scale":"3","connect.decimal.precision":"10"}}"#
            .to_string(),
        field("s", "string", ""),
        format!(
            r#"{{"type":"array","items":{},"field":"l"}}"#,
            field("e", "int64", "io.debezium.time.Timestamp")
        ),
    ]
    .join(",");
    let message = |id: u8, columns: &str| {
        format!(
            r#"{{"schema":{{"type":"struct","fields":[{{"type":"struct","fields":[{columns}],
            "field":"after"}}]}},"payload":{{"before":null,"after":{{"id":{id},"ms":1000,
            "us":1000000,"ns":1000000000,"t":1000,"d":"Opg=","s":"1.5","l":[1000]}},"op":"c"}}}}"#
        )
    };
    let mut decoder = keyed(
        "id int8, ms timestamp, us timestamptz, ns timestamp, t time, d numeric2, s numeric2, l timestamp[]",
    );
    push(&mut *decoder, &message(1, &columns)).unwrap();
    push(&mut *decoder, &message(2, &columns)).unwrap();
    let micros = columns.replace("io.debezium.time.Timestamp", "io.debezium.time.MicroTimestamp");
    push(&mut *decoder, &message(3, &micros)).unwrap();
    push(&mut *decoder, &(message(4, &columns) + " \n")).unwrap();
    let rest = "1970-01-01T00:00:01Z|1970-01-01T00:00:01|00:00:01|15.00|1.50";
    let second = "1970-01-01T00:00:01";
    let milli = "1970-01-01T00:00:00.001";
    assert_eq!(
        drawn(&mut *decoder),
        [
            format!("U 1|{second}|{rest}|[{second}]"),
            format!("U 2|{second}|{rest}|[{second}]"),
            format!("U 3|{milli}|{rest}|[{milli}]"),
            format!("U 4|{second}|{rest}|[{second}]"),
        ]
    );
}

#[test]
fn a_wrapped_message_cut_after_its_schema_is_refused() {
    let whole = r#"{"schema":{"type":"struct"},"payload":{"after":{"id":1},"op":"c"}}"#;
    let mut decoder = keyed("id int8");
    push(&mut *decoder, whole).unwrap();
    for end in 0..whole.len() {
        refused(&mut *decoder, &whole[..end]);
    }
    refused(&mut *decoder, &format!("{whole}}}"));
    push(&mut *decoder, whole).unwrap();
    assert_eq!(drawn(&mut *decoder), ["U 1", "U 1"]);
}

#[test]
fn payload_before_schema_and_a_wrapped_null_are_understood() {
    let mut decoder = keyed("id int8");
    push(&mut *decoder, r#"{"payload":{"after":{"id":1},"op":"c"},"schema":null}"#).unwrap();
    push(&mut *decoder, r#"{"schema":null,"payload":null}"#).unwrap();
    assert_eq!(decoder.ignored_messages(), 1);
    assert_eq!(drawn(&mut *decoder), ["U 1"]);
}

#[test]
fn options_say_how_values_are_written_without_a_schema() {
    let modes = "decimal.handling.mode=string time.precision.mode=connect binary.handling.mode=hex";
    let columns = "id int8, d numeric2, at timestamp, b bytea";
    let mut decoder = decoder(FormatKind::Debezium, columns, &[0], modes);
    let value = r#"{"after":{"id":1,"d":"1234","at":1000,"b":"dead"},"op":"c"}"#;
    push(&mut *decoder, value).unwrap();
    assert_eq!(drawn(&mut *decoder), ["U 1|1234.00|1970-01-01T00:00:01|dead"]);
    let mut default = keyed(columns);
    let value = r#"{"after":{"id":1,"d":"Opg=","at":1000,"b":"3q0="},"op":"c"}"#;
    push(&mut *default, value).unwrap();
    assert_eq!(drawn(&mut *default), ["U 1|150.00|1970-01-01T00:00:00.001|dead"]);
    let error = refused(&mut *default, r#"{"after":{"id":1,"d":"-12345.67"},"op":"c"}"#);
    assert!(error.hint.unwrap().contains("decimal.handling.mode"));
}

#[test]
fn a_coarse_column_is_read_in_milliseconds() {
    let mut decoder = keyed("id int8, at timestamp3");
    push(&mut *decoder, r#"{"after":{"id":1,"at":1000},"op":"c"}"#).unwrap();
    assert_eq!(drawn(&mut *decoder), ["U 1|1970-01-01T00:00:01"]);
}

#[test]
fn a_broken_event_leaves_its_neighbours() {
    let mut with_key = keyed("id int8, v text, n int4");
    let mut without = unkeyed("id int8, v text, n int4");
    for decoder in [&mut with_key, &mut without] {
        push(&mut **decoder, r#"{"before":null,"after":{"id":1,"v":"a","n":1},"op":"c"}"#).unwrap();
        for bad in [
            r#"{"before":{"id":2,"v":"x","n":1},"after":{"id":2,"v":"y","n":"z"},"op":"u"}"#,
            r#"{"before":{"id":2,"v":"x","n":1},"after":{"id":2,"v":"y","n":2},"op":"q"}"#,
            r#"{"before":{"id":2,"v":"x","n":1},"after":{"id":2,"v":"y","n":2}}"#,
            r#"{"after":{"id":2,"v":"y","n":2},"after":{"id":3,"v":"y","n":2},"op":"c"}"#,
            r#"{"after":{"id":2,"v":"y","n":2},"op":"c""#,
            r#"{"after":{"id":2,"v":"y","n":2},"op":"c"}x"#,
            r#"{"after":5,"op":"c"}"#,
            r#"{"before":null,"after":null,"op":"c"}"#,
            r#"{}"#,
            r#"[]"#,
            r#"{"id":1,"v":"a","n":1}"#,
        ] {
            refused(&mut **decoder, bad);
        }
        push(&mut **decoder, r#"{"before":null,"after":{"id":4,"v":"d","n":4},"op":"c"}"#).unwrap();
    }
    assert_eq!(drawn(&mut *with_key), ["U 1|a|1", "U 4|d|4"]);
    assert_eq!(drawn(&mut *without), ["+1 1|a|1", "+1 4|d|4"]);
}
