//! FORMAT DEBEZIUM: operations, images, envelopes.

use frazil_connector_api::Message;
use frazil_format::FormatKind;

use crate::support::{decoder, drawn, keyed, push, refused};

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
        "the key of the message is (k1), and the primary key of the table is (k1, k2)"
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
fn the_declared_precision_says_milliseconds_or_microseconds() {
    let columns = "id int8, t0 timestamp(0), t3 timestamp(3), t4 timestamp(4), t timestamp, \
                   c3 time(3), c time";
    let row = r#"{"after":{"id":1,"t0":1000,"t3":1000,"t4":1000,"t":1000,"c3":1000,"c":1000}"#;
    let row = format!("{row},\"op\":\"c\"}}");
    let second = "1970-01-01T00:00:01";
    let milli = "1970-01-01T00:00:00.001";
    for (mode, drawn_row) in [
        ("", format!("U 1|{second}|{second}|{milli}|{milli}|00:00:01|00:00:00.001")),
        (
            "time.precision.mode=adaptive_time_microseconds",
            format!("U 1|{second}|{second}|{milli}|{milli}|00:00:00.001|00:00:00.001"),
        ),
        (
            "time.precision.mode.t=milliseconds time.precision.mode=microseconds",
            format!("U 1|{milli}|{milli}|{milli}|{second}|00:00:00.001|00:00:00.001"),
        ),
    ] {
        let mut decoder = decoder(FormatKind::Debezium, columns, &[0], mode);
        push(&mut *decoder, &row).unwrap();
        assert_eq!(drawn(&mut *decoder), [drawn_row], "{mode}");
    }
}

#[test]
fn a_time_that_only_another_unit_makes_likely_is_refused_unless_the_unit_is_stated() {
    let millis = r#"{"after":{"id":1,"at":1709212455123},"op":"c"}"#;
    let micros = r#"{"after":{"id":1,"at":1709212455123456},"op":"c"}"#;
    for (columns, value) in
        [("id int8, at timestamp", millis), ("id int8, at timestamp(3)", micros)]
    {
        let error = refused(&mut *keyed(columns), value);
        assert!(error.message.contains("is not likely to be in"), "{error}");
        assert!(error.hint.unwrap().contains("time.precision.mode"));
    }
    let mut fits = keyed("id int8, at timestamp(3)");
    push(&mut *fits, millis).unwrap();
    let mut fits_too = keyed("id int8, at timestamp");
    push(&mut *fits_too, micros).unwrap();
    let option = "time.precision.mode=microseconds";
    let mut stated = decoder(FormatKind::Debezium, "id int8, at timestamp", &[0], option);
    push(&mut *stated, millis).unwrap();
    assert_eq!(drawn(&mut *fits), ["U 1|2024-02-29T13:14:15.123"]);
    assert_eq!(drawn(&mut *fits_too), ["U 1|2024-02-29T13:14:15.123456"]);
    assert_eq!(drawn(&mut *stated), ["U 1|1970-01-20T18:46:52.455123"]);
}

#[test]
fn digits_are_not_taken_for_base64() {
    let event = |digits: &str| format!(r#"{{"after":{{"id":1,"n":"{digits}"}},"op":"c"}}"#);
    let mut default = keyed("id int8, n numeric0");
    for digits in ["1", "12", "123", "1234", "12345678"] {
        let error = refused(&mut *default, &event(digits));
        assert!(error.hint.unwrap().contains("decimal.handling.mode"), "{digits}");
    }
    assert!(refused(&mut *default, &event("NaN")).message.ends_with("is out of range"));
    let mut drawn_rows = Vec::new();
    for mode in ["string", "precise"] {
        let option = format!("decimal.handling.mode={mode}");
        let mut stated = decoder(FormatKind::Debezium, "id int8, n numeric0", &[0], &option);
        push(&mut *stated, &event("1234")).unwrap();
        drawn_rows.extend(drawn(&mut *stated));
    }
    assert_eq!(drawn_rows, ["U 1|1234", "U 1|-2658824"]);
}

#[test]
fn numbers_beyond_the_column_are_saturated_or_null_on_request() {
    let columns = "id int8, i int2, j int4, k int8, n numeric2, f float4, x numeric2";
    let event = r#"{"after":{"id":1,"i":99999,"j":-3000000000,"k":18446744073709551615,
        "n":"-1E+40","f":1e60,"x":"NaN"},"op":"c"}"#;
    let modes = "decimal.handling.mode=string out.of.range.handling.mode";
    let nulls = &format!("{modes}=null");
    let mut nulls = decoder(FormatKind::Debezium, columns, &[0], nulls);
    push(&mut *nulls, event).unwrap();
    assert_eq!(drawn(&mut *nulls), ["U 1|∅|∅|∅|∅|∅|∅"]);
    let nearest = &format!("{modes}=saturate out.of.range.handling.mode.x=null");
    let mut nearest = decoder(FormatKind::Debezium, columns, &[0], nearest);
    push(&mut *nearest, event).unwrap();
    let most = "9".repeat(36);
    assert_eq!(
        drawn(&mut *nearest),
        [format!("U 1|32767|-2147483648|9223372036854775807|-{most}.99|3.4028235e38|∅")]
    );
    // Of a key no value is made up, and of NaN none is near.
    let event = r#"{"after":{"id":99999999999999999999,"x":"1"},"op":"c"}"#;
    refused(&mut *nearest, event);
    let all = &format!("{modes}=saturate");
    let mut all = decoder(FormatKind::Debezium, columns, &[0], all);
    refused(&mut *all, r#"{"after":{"id":1,"x":"NaN"},"op":"c"}"#);
}

#[test]
fn the_old_version_goes_where_the_new_one_cannot_be_kept() {
    let mut decoder = keyed("id int8, v int4 not null");
    for (value, rows) in [
        (r#"{"before":null,"after":{"id":1,"v":"x"},"op":"u"}"#, &["D 1|∅"][..]),
        (r#"{"before":{"id":2,"v":1},"after":{"id":1,"v":"x"},"op":"u"}"#, &["D 1|∅", "D 2|∅"]),
        (r#"{"before":{"id":1,"v":1},"after":{"id":1,"v":null},"op":"u"}"#, &["D 1|∅"]),
        (r#"{"after":{"id":1,"v":"x"},"op":"r"}"#, &["D 1|∅"]),
        // What is no change of a known row deletes nothing.
        (r#"{"after":{"id":"x","v":1},"op":"u"}"#, &[]),
        (r#"{"after":{"id":1,"v":"x"},"op":"q"}"#, &[]),
        (r#"{"after":{"id":1,"v":"x"},"op":"u""#, &[]),
    ] {
        refused(&mut *decoder, value);
        assert_eq!(drawn(&mut *decoder), rows, "{value}");
    }
}

#[test]
fn a_message_key_that_is_not_the_primary_key_is_refused() {
    let columns = "id int8, email text";
    let value = Some(br#"{"before":{"id":10,"email":""},"after":null,"op":"d"}"#.as_slice());
    let event = Some(br#"{"before":null,"after":{"id":10,"email":"a@x"},"op":"u"}"#.as_slice());
    let mut by_email = decoder(FormatKind::Debezium, columns, &[1], "");
    let key = Some(br#"{"id":10}"#.as_slice());
    for value in [value, event] {
        let error = by_email.push(Message { key, value }).unwrap_err();
        assert!(error.hint.unwrap().contains("PRIMARY KEY (id)"));
    }
    assert_eq!(by_email.buffered_rows(), 0);
    let full = "replica.identity=full";
    let mut full = decoder(FormatKind::Debezium, columns, &[1], full);
    full.push(Message { key, value: event }).unwrap();
    let mut by_id = keyed(columns);
    for key in [
        None,
        key,
        Some(br#"{"schema":{"type":"struct"},"payload":{"id":10}}"#),
        Some(br#"{"id":10,"__dbz__physicalTableIdentifier":"s.t"}"#),
        Some(b"10"),
    ] {
        by_id.push(Message { key, value }).unwrap();
    }
    for key in [br#"{"id":10,"email":"x"}"#.as_slice(), br#"{"idd":10}"#, b"{}"] {
        by_id.push(Message { key: Some(key), value }).unwrap_err();
    }
    assert_eq!(drawn(&mut *full), ["U 10|a@x"]);
    assert_eq!(drawn(&mut *by_id), ["D 10|∅"; 5]);
}

#[test]
fn an_update_whose_before_lacks_the_key_is_applied() {
    let mut decoder = keyed("id int8, v text");
    push(&mut *decoder, r#"{"before":{"v":"a"},"after":{"id":1,"v":"b"},"op":"u"}"#).unwrap();
    push(&mut *decoder, r#"{"before":{"id":"?"},"after":{"id":2,"v":"b"},"op":"u"}"#).unwrap();
    refused(&mut *decoder, r#"{"before":{"id":1]},"after":{"id":3,"v":"b"},"op":"u"}"#);
    assert_eq!(drawn(&mut *decoder), ["U 1|b", "U 2|b"]);
    let key = Some(br#"{"id":1}"#.as_slice());
    let value = Some(br#"{"before":{"v":"a"},"after":null,"op":"d"}"#.as_slice());
    decoder.push(Message { key, value }).unwrap();
    decoder.push(Message { key: None, value }).unwrap_err();
    assert_eq!(drawn(&mut *decoder), ["D 1|∅"]);
}

#[test]
fn a_broken_event_leaves_its_neighbours() {
    let mut decoder = keyed("id int8, v text, n int4");
    let decoder = &mut *decoder;
    {
        push(decoder, r#"{"before":null,"after":{"id":1,"v":"a","n":1},"op":"c"}"#).unwrap();
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
            refused(decoder, bad);
        }
        push(decoder, r#"{"before":null,"after":{"id":4,"v":"d","n":4},"op":"c"}"#).unwrap();
    }
    assert_eq!(drawn(decoder), ["U 1|a|1", "D 2|∅|∅", "U 4|d|4"]);
}
