//! The generator behind the contract.

use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use frazil_connector_api::conformance::{TextFormat, assert_restartable, read_all};
use frazil_connector_api::{ConnectorErrorKind, Decoded, SourcePoll};

use super::*;
use crate::nexmark::{NexmarkTable, nexmark_batches, nexmark_schema};

fn options(text: &str) -> Options {
    Options::new(text.split_whitespace().map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_string(), value.to_string())
    }))
}

fn build(text: &str) -> Result<Arc<dyn Source>> {
    let options = options(text);
    let schema = generator_columns(&options)?;
    let format: Option<Arc<dyn Format>> =
        text.contains("shop").then(|| Arc::new(TextFormat) as Arc<dyn Format>);
    build_generator(options, schema, format)
}

#[test]
fn shop_reads_on_from_every_offset() {
    for table in ["customers", "products", "orders", "order_lines"] {
        let source = build(&format!("dataset=shop table={table} rows=420 seed=7")).unwrap();
        assert_restartable(source.as_ref(), 420);
    }
    assert_restartable(
        build("dataset=shop table=products rows=900 splits=3").unwrap().as_ref(),
        900,
    );
}

#[test]
fn nexmark_reads_on_from_every_offset() {
    assert_restartable(build("dataset=nexmark table=bid rows=200").unwrap().as_ref(), 184);
    assert_restartable(
        build("dataset=nexmark table=auction rows=1001 splits=2").unwrap().as_ref(),
        60,
    );
    assert_restartable(build("dataset=nexmark table=person rows=1001").unwrap().as_ref(), 21);
}

#[test]
fn another_seed_makes_another_shop() {
    let read = |seed| {
        let source = build(&format!("dataset=shop table=orders rows=50 seed={seed}")).unwrap();
        read_all(source.as_ref(), &SplitId("0".into()), Position::Number(0), 1_000).rows
    };
    assert_eq!(read(1), read(1));
    assert_ne!(read(1), read(2));
}

#[test]
fn nexmark_kinds_share_the_events() {
    let rows = |table, events| -> usize {
        let batches = nexmark_batches(table, events, 64).unwrap();
        batches.iter().map(RecordBatch::num_rows).sum()
    };
    assert_eq!(rows(NexmarkTable::Person, 1_000), 20);
    assert_eq!(rows(NexmarkTable::Auction, 1_000), 60);
    assert_eq!(rows(NexmarkTable::Bid, 1_000), 920);
}

#[test]
fn nexmark_splits_hold_the_same_rows_as_one() {
    let lines = |splits: u64| {
        let source = build(&format!("dataset=nexmark table=bid rows=500 splits={splits}")).unwrap();
        let mut lines: Vec<_> = source
            .splits()
            .unwrap()
            .iter()
            .flat_map(|split| read_all(source.as_ref(), split, Position::Number(0), 100).rows)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(1).len(), 460);
    assert_eq!(lines(1), lines(3));
}

#[test]
fn nexmark_gives_declared_columns_with_their_types() {
    let declared: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("price", DataType::Int32, true),
        Field::new("channel", DataType::Utf8View, true),
    ]));
    let options = options("dataset=nexmark table=bid rows=100");
    let source = build_generator(options, Arc::clone(&declared), None).unwrap();
    let mut reader = source.open(&source.start_positions().unwrap()).unwrap();
    let SourcePoll::Batch(batch) = reader.poll(10, Duration::ZERO).unwrap() else {
        panic!("a batch is due")
    };
    let Decoded::Changes(changes) = batch.data else { panic!("nexmark gives changes") };
    assert_eq!(changes.schema(), declared);
    let all = nexmark_batches(NexmarkTable::Bid, 14, 10).unwrap();
    let prices = all[0].column_by_name("price").unwrap();
    let prices = arrow::compute::cast(prices, &DataType::Int32).unwrap();
    let seen = changes.rows().column(0).as_primitive::<Int32Type>();
    assert_eq!(seen, prices.as_primitive::<Int32Type>());
}

#[test]
fn wrong_options_are_config_errors() {
    let wrong = [
        "table=orders",
        "dataset=shop",
        "dataset=mall table=orders",
        "dataset=shop table=bid",
        "dataset=nexmark table=orders",
        "dataset=shop table=orders rows=many",
        "dataset=shop table=orders rate=-1",
        "dataset=shop table=orders splits=0",
        "dataset=shop table=products splits=6",
        "dataset=shop table=orders scale=0",
        "dataset=nexmark table=bid seed=1",
        "dataset=nexmark table=bid raet=1",
    ];
    for text in wrong {
        assert_eq!(build(text).unwrap_err().kind, ConnectorErrorKind::Config, "{text}");
    }
}

#[test]
fn unknown_column_and_wrong_format_are_config_errors() {
    let schema = |name: &str, kind| -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new(name, kind, true)]))
    };
    let bid = || options("dataset=nexmark table=bid");
    let format: Arc<dyn Format> = Arc::new(TextFormat);
    let wrong = [
        build_generator(bid(), schema("pric", DataType::Int64), None),
        build_generator(bid(), schema("channel", DataType::Int64), None),
        build_generator(bid(), nexmark_schema(NexmarkTable::Bid), Some(format)),
        build_generator(options("dataset=shop table=orders"), schema("id", DataType::Int64), None),
    ];
    for result in wrong {
        assert_eq!(result.unwrap_err().kind, ConnectorErrorKind::Config);
    }
}

#[test]
fn offset_past_the_end_is_refused() {
    let source = build("dataset=shop table=orders rows=10").unwrap();
    let error =
        source.open(&Positions::from([(SplitId("0".into()), Position::Number(11))])).err().unwrap();
    assert_eq!(error.kind, ConnectorErrorKind::Target);
}

#[test]
fn rate_holds_back_what_is_not_due() {
    let source = build("dataset=nexmark table=bid rows=100000 rate=1000").unwrap();
    let started = Instant::now();
    let mut reader = source.open(&source.start_positions().unwrap()).unwrap();
    let mut rows = 0;
    while rows < 100 {
        if let SourcePoll::Batch(batch) = reader.poll(1_000, Duration::from_secs(1)).unwrap() {
            rows += batch.data.num_rows();
        }
        let due = started.elapsed().as_secs_f64() * 1_000.0;
        assert!(rows as f64 <= due + 1.0, "{rows} rows when {due} were due");
    }
}

#[test]
fn nothing_due_within_the_timeout_is_idle() {
    let source = build("dataset=shop table=orders rate=0.001").unwrap();
    let mut reader = source.open(&source.start_positions().unwrap()).unwrap();
    let poll = reader.poll(10, Duration::from_millis(5)).unwrap();
    assert!(matches!(poll, SourcePoll::Idle));
    assert!(source.end_positions().unwrap().is_none(), "without rows there is no end");
}
