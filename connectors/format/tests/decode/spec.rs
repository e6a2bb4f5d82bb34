//! What is refused at CREATE.

use frazil_connector_api::{ConnectorErrorKind, Options};
use frazil_format::{EncodeKind, FormatKind, FormatSpec, build_format};

use crate::support::schema;

fn spec(options: &[(&str, &str)]) -> FormatSpec {
    let pairs = options.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let options = Options::new(pairs);
    FormatSpec {
        format: FormatKind::Debezium,
        encode: EncodeKind::Json,
        options,
        precisions: vec![],
    }
}

#[test]
fn words_are_case_insensitive() {
    assert_eq!("debezium".parse::<FormatKind>().unwrap(), FormatKind::Debezium);
    assert_eq!("Plain".parse::<FormatKind>().unwrap(), FormatKind::Plain);
    assert_eq!("json".parse::<EncodeKind>().unwrap(), EncodeKind::Json);
}

#[test]
fn words_of_others_are_unsupported_and_the_rest_unknown() {
    for error in [
        "avro".parse::<EncodeKind>().unwrap_err(),
        "PROTOBUF".parse::<EncodeKind>().unwrap_err(),
        "csv".parse::<EncodeKind>().unwrap_err(),
        "UPSERT".parse::<FormatKind>().unwrap_err(),
    ] {
        assert_eq!(error.kind, ConnectorErrorKind::Unsupported);
        assert!(error.message.ends_with("is not supported yet"), "{error}");
        assert!(error.hint.is_some());
    }
    let error = "jsn".parse::<EncodeKind>().unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Config);
    assert_eq!(error.message, "ENCODE \"jsn\" is not known");
}

#[test]
fn options_are_checked() {
    let build = |options: &[(&str, &str)]| {
        build_format(spec(options), schema("id int8"), vec![0]).unwrap_err()
    };
    let error = build(&[("decimal.handling.mode", "exact")]);
    assert_eq!(error.message, "option \"decimal.handling.mode\" has a bad value \"exact\"");
    assert_eq!(error.hint.as_deref(), Some("use precise, string or double"));
    let error = build(&[("time.precison.mode", "connect")]);
    assert_eq!(error.message, "option \"time.precison.mode\" is not known");
    let error = build(&[("time.precision.mode.at", "connect")]);
    assert_eq!(error.message, "option \"time.precision.mode.at\" names no column of the table");
    let error = build(&[("out.of.range.handling.mode.id", "skip")]);
    assert_eq!(error.hint.as_deref(), Some("use error, null or saturate"));
    let error = build(&[("replica.identity", "index")]);
    assert_eq!(error.hint.as_deref(), Some("use default or full"));
    let error = build_format(spec(&[]), schema("id int8"), vec![1]).unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Config);
}

#[test]
fn change_events_need_a_primary_key() {
    let error = build_format(spec(&[]), schema("id int8"), vec![]).unwrap_err();
    assert_eq!(error.message, "FORMAT DEBEZIUM needs a primary key");
}

#[test]
fn unknown_types_are_named() {
    use arrow::datatypes::{DataType, Field, Schema};
    let table = Schema::new(vec![Field::new("u", DataType::UInt8, true)]);
    let error = build_format(spec(&[]), table.into(), vec![0]).unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Unsupported);
    assert_eq!(error.message, "column \"u\": type UInt8 cannot be read from JSON");
}
