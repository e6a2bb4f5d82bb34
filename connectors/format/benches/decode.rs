//! Throughput of the decoders on one core: Debezium events of about 700 bytes with 8 columns.

use std::hint::black_box;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use frazil_connector_api::{Message, Options};
use frazil_format::{EncodeKind, FormatKind, FormatSpec, build_format};

const EVENT_COUNT: usize = 10_000;

fn schema() -> SchemaRef {
    let column = |name, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        column("id", DataType::Int64),
        column("customer_id", DataType::Int64),
        column("status", DataType::Utf8),
        column("amount", DataType::Decimal128(12, 2)),
        column("email", DataType::Utf8),
        column("discount", DataType::Float64),
        column("note", DataType::Utf8),
        column("updated_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ]))
}

fn row(index: usize) -> String {
    let cents = 100 + index % 30_000;
    format!(
        r#"{{"id":{index},"customer_id":{},"status":"{}","amount":"{}","email":"customer{}@example.com","discount":0.{},"note":"left at the door, call before {}","updated_at":"2026-11-22T06:36:{:02}.{:06}Z"}}"#,
        index * 7919 % 100_003,
        ["new", "paid", "shipped"][index % 3],
        base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            &u32::try_from(cents).unwrap_or_default().to_be_bytes()[1..],
        ),
        index % 5_000,
        index % 90 + 10,
        index % 24,
        index % 60,
        index * 31 % 1_000_000,
    )
}

fn event(index: usize) -> String {
    let millis = 1_795_329_396_147 + index;
    format!(
        r#"{{"before":null,"after":{},"source":{{"version":"3.6.3.Final","connector":"postgresql","name":"srv","ts_ms":{millis},"snapshot":"false","db":"db1","sequence":"[\"2795{index:04}\",\"2795{index:04}\"]","ts_us":{millis}820,"ts_ns":{millis}820000,"schema":"inv","table":"orders","txId":765,"lsn":27958200,"xmin":null,"origin":null,"origin_lsn":null}},"transaction":null,"op":"{}","ts_ms":{millis},"ts_us":{millis}020,"ts_ns":{millis}020508}}"#,
        row(index),
        ["c", "u"][index % 2],
    )
}

fn decode(criterion: &mut Criterion) {
    let inline_schema = {
        let field = |name: &str, kind: &str| format!(r#"{{"type":"{kind}","field":"{name}"}}"#);
        let columns: Vec<String> =
            ["id", "customer_id", "status", "email", "discount", "note", "updated_at"]
                .iter()
                .map(|name| field(name, "string"))
                .collect();
        let fields = columns.join(",");
        format!(
            r#"{{"type":"struct","fields":[{{"type":"struct","field":"after","fields":[{fields}]}}]}}"#
        )
    };
    let cases: [(&str, FormatKind, &[usize], Vec<String>); 4] = [
        ("debezium_keyed", FormatKind::Debezium, &[0], (0..EVENT_COUNT).map(event).collect()),
        (
            "debezium_wrapped",
            FormatKind::Debezium,
            &[0],
            (0..EVENT_COUNT)
                .map(|index| format!(r#"{{"schema":{inline_schema},"payload":{}}}"#, event(index)))
                .collect(),
        ),
        (
            "debezium_full",
            FormatKind::Debezium,
            &[0],
            (0..EVENT_COUNT)
                .map(|index| {
                    let before = format!("\"before\":{}", row(index));
                    let op = r#""op":"c""#;
                    event(index).replacen("\"before\":null", &before, 1).replacen(
                        op,
                        r#""op":"u""#,
                        1,
                    )
                })
                .collect(),
        ),
        ("plain", FormatKind::Plain, &[], (0..EVENT_COUNT).map(row).collect()),
    ];
    for (name, format, key, messages) in cases {
        let pairs = [("decimal.handling.mode".to_string(), "precise".to_string())];
        let (encode, options) = (EncodeKind::Json, Options::new(pairs));
        let spec = FormatSpec { format, encode, options, precisions: Vec::new() };
        let format = build_format(spec, schema(), key.to_vec()).expect("the table is supported");
        let mut decoder = format.decoder().expect("the table is supported");
        let bytes: usize = messages.iter().map(String::len).sum();
        let mut group = criterion.benchmark_group("decode");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{name}_{}_bytes", bytes / EVENT_COUNT), |bencher| {
            bencher.iter(|| {
                for message in &messages {
                    let message = Message { key: None, value: Some(message.as_bytes()) };
                    decoder.push(message).expect("the messages are good");
                }
                black_box(decoder.flush().expect("a flush does not fail"))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
