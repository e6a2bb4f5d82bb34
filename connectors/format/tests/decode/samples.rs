//! Every recorded message of `tests/data/debezium-samples.jsonl`, by its line.

use frazil_connector_api::{ConnectorError, Decoder, Message};
use frazil_format::FormatKind;
use serde_json::Value;

use crate::support::{decoder, drawn, keyed};

const CUSTOMERS: &str =
    "id int8, first_name text, email text, big text, amount numeric2, updated timestamptz";
const PEOPLE: &str = "id int8, first_name text, last_name text, email text";
pub(crate) const ALL_TYPES: &str = "\
    id int4, b bool, i2 int2, i4 int4, i8 int8, r float4, d float8, num10_2 numeric2, \
    num38_10 numeric10, num_unb numeric4, mon numeric2, c text, vc text, t text, by bytea, \
    bit1 bool, bit5 bytea, dt date, tm time, tmtz time, ts timestamp, tm3 time(3), \
    ts3 timestamp(3), ts0 timestamp(0), tstz timestamptz, u text, j text, jb text, e text, \
    ia int4[], ta text[], na numeric2[], tsa timestamp[], pt text, h text, r4 text, dom int4, \
    o int8";

/// Key and value of a line.
pub(crate) struct Sample {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
}

const SAMPLES: &str = include_str!("../data/debezium-samples.jsonl");

/// The number of recorded messages.
pub(crate) fn sample_count() -> usize {
    SAMPLES.lines().count()
}

/// The recorded message of a line, from 1.
pub(crate) fn sample(line: usize) -> Sample {
    let fields: Value = serde_json::from_str(SAMPLES.lines().nth(line - 1).unwrap()).unwrap();
    let bytes = |name: &str| match &fields[name] {
        Value::Null => None,
        Value::String(text) => Some(text.as_bytes().to_vec()),
        other => Some(other.to_string().into_bytes()),
    };
    let from_hex = |name: &str| {
        let digits = fields[name].as_str()?.as_bytes();
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        Some(digits.chunks(2).map(byte).collect())
    };
    Sample {
        key: bytes("key").or_else(|| from_hex("key_hex")),
        value: bytes("value").or_else(|| from_hex("value_hex")),
    }
}

fn push(decoder: &mut dyn Decoder, line: usize) -> Result<(), ConnectorError> {
    let sample = sample(line);
    decoder.push(Message { key: sample.key.as_deref(), value: sample.value.as_deref() })
}

/// The rows of some lines of one topic.
fn rows(mut decoder: Box<dyn Decoder>, lines: impl IntoIterator<Item = usize>) -> Vec<String> {
    for line in lines {
        push(&mut *decoder, line).unwrap_or_else(|error| panic!("line {line}: {error}"));
    }
    drawn(&mut *decoder)
}

const ALL_HEAD: &str = "U 1|true|-7|42|9007199254740993|1.5|0.1|-12345.67";
const ALL_STRINGS: &str = "ab   |héllo|text \"q\" \\ 日本|deadbeef|true|15|2024-02-29";
const ALL_TIMES: &str = "13:14:15.123|2024-02-29T13:14:15.123|2024-02-29T13:14:15|\
    2024-02-29T11:14:15.123456Z|\
    a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|{\"a\": 1,  \"a\":2}|{\"a\": [1, 2.50], \"b\": 1}|happy|\
    [1, , 3]|[a, b,c, ]|[1.10, 2.20]|[2024-01-01T00:00:00]|\
    {\"x\":1.5,\"y\":-2.0,\"wkb\":\"AQEAAAAAAAAAAAD4PwAAAAAAAADA\",\"srid\":null}|\
    {\"a\":\"1\",\"b\":null}|[1,10)|7|12345";
const MICROS: &str = "13:14:15.123456|11:14:15.123456|2024-02-29T13:14:15.123456";

#[test]
fn line_1_all_types_precise_and_adaptive() {
    let decimals = "12345678901234567890.0123456789|123.4500|1234.56";
    let row = [ALL_HEAD, decimals, ALL_STRINGS, MICROS, ALL_TIMES].join("|");
    assert_eq!(rows(keyed(ALL_TYPES), [1]), [row]);
}

#[test]
fn line_27_all_types_as_strings() {
    let modes = "decimal.handling.mode=string time.precision.mode=isostring \
                 binary.handling.mode=hex";
    let decimals = "12345678901234567890.0123456789|123.4500|1234.56";
    let row = [ALL_HEAD, decimals, ALL_STRINGS, MICROS, ALL_TIMES].join("|");
    // Bits stay base64 under every mode, so that one option cannot fit both columns.
    let columns = ALL_TYPES.replace("bit5 bytea", "bit5 text");
    let row = row.replace("deadbeef|true|15", "deadbeef|true|FQ==");
    assert_eq!(rows(decoder(FormatKind::Debezium, &columns, &[0], modes), [27]), [row]);
}

#[test]
fn line_30_all_types_with_schema_connect_time_and_doubles() {
    let decimals = "12345678901234567000.0000000000|123.4500|1234.56";
    let millis = "13:14:15.123|11:14:15.123456|2024-02-29T13:14:15.123";
    let row = [ALL_HEAD, decimals, ALL_STRINGS, millis, ALL_TIMES].join("|");
    assert_eq!(rows(keyed(ALL_TYPES), [30]), [row]);
}

#[test]
fn lines_2_and_28_special_floats_pass_and_infinite_times_are_refused() {
    let floats = "id int4, r float4, d float8, num_unb numeric4, tm3 time(3), ia int4[]";
    assert_eq!(rows(keyed(floats), [2, 28]), ["U 3|inf|NaN|∅|∅|∅", "U 3|inf|NaN|∅|∅|∅"]);
    for (line, column, value, nearest) in [
        (2, "dt date", "-622191234", "9999-12-31"),
        (2, "tm time", "86400000000", "23:59:59.999999"),
        (2, "ts timestamp", "9223372036825200000", "9999-12-31T23:59:59.999999"),
        (2, "tstz timestamptz", "\"-infinity\"", "0001-01-01T00:00:00Z"),
        (28, "dt date", "\"+292278994-08-16Z\"", "9999-12-31"),
        (28, "ts timestamp", "\"+294247-01-10T04:00:25.2Z\"", "9999-12-31T23:59:59.999999"),
        (28, "tstz timestamptz", "\"-infinity\"", "0001-01-01T00:00:00Z"),
    ] {
        let columns = format!("id int4, {column}");
        let mut refuses = keyed(&columns);
        let error = push(&mut *refuses, line).unwrap_err();
        let name = column.split(' ').next().unwrap();
        assert_eq!(error.message, format!("column \"{name}\": value {value} is out of range"));
        assert!(error.hint.unwrap().contains("out.of.range.handling.mode"));
        // The old version of the row is deleted: it is not what the source has.
        assert_eq!(drawn(&mut *refuses), ["D 3|∅"]);
        for (mode, cell) in [("null", "∅"), ("saturate", nearest)] {
            let option = format!("out.of.range.handling.mode={mode}");
            let keeps = decoder(FormatKind::Debezium, &columns, &[0], &option);
            assert_eq!(rows(keeps, [line]), [format!("U 3|{cell}")], "{column} {mode}");
        }
        let column = format!("id int4, {column} not null");
        let required = "out.of.range.handling.mode=null";
        let mut required = decoder(FormatKind::Debezium, &column, &[0], required);
        assert!(push(&mut *required, line).unwrap_err().message.ends_with("is out of range"));
        assert_eq!(drawn(&mut *required), ["D 3|∅"]);
    }
    assert_eq!(rows(keyed("id int4, tm time"), [28]), ["U 3|00:00:00"]);
}

#[test]
fn line_3_before_christ() {
    let columns = "id int4, num_unb numeric2, dt date, ts timestamp, tstz timestamptz";
    let row = "U 4|1000000000000000000000000000000.00|0001-01-01|1582-10-04T23:59:59.999999|\
               -0043-03-15T12:00:00Z";
    assert_eq!(rows(keyed(columns), [3]), [row]);
}

#[test]
fn lines_4_to_10_the_life_of_a_customer() {
    assert_eq!(
        rows(keyed(CUSTOMERS), 4..=10),
        [
            "U 3|n3|e3@x|∅|450.00|2026-11-22T06:22:03.622418Z",
            "U 10|Ann|ann@x|∅|150.00|2026-11-22T06:36:36.146439Z",
            "U 10|Ann|ann2@x|∅|150.00|2026-11-22T06:36:36.146439Z",
            "U 1|TOAST-unchanged|e1@x|=|150.00|2026-11-22T06:22:03.622418Z",
            "D 10|∅|∅|∅|∅|∅",
            "U 11|Ann|ann2@x|∅|150.00|2026-11-22T06:36:36.146439Z",
        ]
    );
}

#[test]
fn lines_11_and_12_replica_identity_full() {
    let columns = "id int4, v text, big text";
    let big = "c4ca4238a0b923820dcc509a6f75849b<cut>";
    let upserts = [format!("U 1|b|{big}"), "D 1|∅|∅".to_string()];
    assert_eq!(rows(keyed(columns), [11, 12]), upserts);
}

#[test]
fn lines_13_to_15_no_key_composite_key_and_truncate() {
    assert_eq!(rows(keyed("a int4, b text"), [13]), ["U 1|x"]);
    let columns = "k1 int4, k2 text, v numeric2";
    let decoder = decoder(FormatKind::Debezium, columns, &[0, 1], "");
    let rows = rows(decoder, [14, 15]);
    assert_eq!(rows, ["U 1|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|1.23", "T"]);
}

#[test]
fn lines_16_to_21_and_45_are_no_rows_and_no_errors() {
    let mut decoder = keyed(CUSTOMERS);
    for line in (16..=21).chain([45]) {
        push(&mut *decoder, line).unwrap_or_else(|error| panic!("line {line}: {error}"));
    }
    assert_eq!(decoder.ignored_messages(), 7);
    assert_eq!(decoder.buffered_rows(), 0);
}

#[test]
fn lines_22_and_23_incremental_snapshot() {
    assert_eq!(
        rows(keyed(CUSTOMERS), [22, 23]),
        [
            "U 1|TOAST-unchanged|e1@x|c4ca4238a0b923820dcc509a6f75849b<cut>|150.00|\
             2026-11-22T06:22:03.622418Z",
            "U 2|n2|e2@x|∅|300.00|2026-11-22T06:22:03.622418Z",
        ]
    );
}

#[test]
fn lines_24_and_25_signals() {
    let opened = "{\"openWindowTimestamp\": \"2026-11-22T06:36:37.919642920Z\"}";
    assert_eq!(
        rows(keyed("id text, type text, data text"), [24, 25]),
        [
            "U s1|execute-snapshot|{\"data-collections\":[\"inv.customers\"],\
             \"type\":\"incremental\"}"
                .to_string(),
            format!("U dd9459b5-4749-46fa-be53-74a00218498d-open|snapshot-window-open|{opened}"),
        ]
    );
}

#[test]
fn line_26_a_new_column() {
    let row = "U 12|AfterAlter|∅|∅|∅|2026-11-22T06:36:36.269895Z";
    assert_eq!(rows(keyed(CUSTOMERS), [26]), [row]);
    let wider = format!("{CUSTOMERS}, phone text");
    assert_eq!(rows(keyed(&wider), [26]), [format!("{row}|555")]);
}

#[test]
fn line_29_schema_and_payload() {
    let row = "U 10|Ann|ann@x|∅|1.50|2026-11-22T06:36:36.146439Z";
    assert_eq!(rows(keyed(CUSTOMERS), [29, 29]), [row, row]);
}

#[test]
fn lines_31_to_33_flattened() {
    let modes = "decimal.handling.mode=precise";
    let decoder = decoder(FormatKind::Plain, CUSTOMERS, &[0], modes);
    assert_eq!(
        rows(decoder, 31..=33),
        [
            "U 10|Ann|ann2@x|∅|150.00|2026-11-22T06:36:36.146439Z",
            "D 10||∅|∅|∅|1970-01-01T00:00:00Z",
            "D 10|∅|∅|∅|∅|∅",
        ]
    );
}

#[test]
fn lines_34_and_35_defaults_for_nulls() {
    let columns = "id int8, s text, n numeric2, ts timestamptz";
    let rows = rows(keyed(columns), [34, 35]);
    assert_eq!(rows, ["U 1|DEF|9.99|1970-01-01T00:00:00Z", "U 1|∅|∅|∅"]);
}

#[test]
fn lines_36_to_38_avro_is_refused() {
    let mut decoder = keyed(CUSTOMERS);
    for line in 36..=38 {
        assert!(push(&mut *decoder, line).is_err(), "line {line}");
    }
    assert_eq!(decoder.buffered_rows(), 0);
}

#[test]
fn lines_39_to_47_of_the_documentation() {
    let updated = "U 1004|Anne|Kretchmar|annek@noanswer.org";
    assert_eq!(rows(keyed(PEOPLE), [39, 40, 41, 47]), [updated; 4]);
    assert_eq!(rows(keyed(PEOPLE), [43]), ["U 1|Anne|Kretchmar|annek@noanswer.org"]);
    let plain = decoder(FormatKind::Plain, PEOPLE, &[], "");
    assert_eq!(rows(plain, [42]), ["+1 1004|Anne|Kretchmar|annek@noanswer.org"]);
    // Keys and flat rows are no change events.
    for line in [42, 44, 46] {
        assert!(push(&mut *keyed(PEOPLE), line).is_err(), "line {line}");
    }
}
