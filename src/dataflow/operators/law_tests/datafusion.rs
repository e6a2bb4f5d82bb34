//! [`HashAggregate`] against DataFusion's batch aggregation, over types that have rules of their
//! own: decimals, floats, text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::prelude::SessionContext;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::change::ChangeBatch;
use crate::dataflow::operators::testing::{Harness, changes, column, schema, zset};
use crate::dataflow::operators::{Aggregate, AggregateFunction, AggregateSpec, HashAggregate};

/// Function, argument's column, DISTINCT, result type.
fn calls() -> [(&'static str, usize, bool, DataType); 11] {
    use DataType::{Decimal128, Float64, Int64, Utf8};
    [
        ("sum", 1, false, Decimal128(20, 2)),
        ("avg", 1, false, Decimal128(14, 6)),
        ("min", 1, false, Decimal128(10, 2)),
        ("sum", 2, false, Float64),
        ("avg", 2, false, Float64),
        ("max", 2, false, Float64),
        ("sum", 2, true, Float64),
        ("min", 3, false, Utf8),
        ("max", 3, false, Utf8),
        ("count", 3, true, Int64),
        ("avg", 2, true, Float64),
    ]
}

fn input() -> SchemaRef {
    schema(&[
        ("k", DataType::Utf8),
        ("d", DataType::Decimal128(10, 2)),
        ("f", DataType::Float64),
        ("s", DataType::Utf8),
    ])
}

fn output() -> SchemaRef {
    let names = ["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10"];
    let mut columns = vec![("k", DataType::Utf8)];
    columns.extend(names.into_iter().zip(calls()).map(|(name, call)| (name, call.3)));
    schema(&columns)
}

fn incremental() -> Harness<HashAggregate> {
    let aggregates = calls().into_iter().map(|(name, arg, distinct, data_type)| Aggregate {
        function: AggregateFunction::from_name(name).unwrap(),
        arg: Some(column(&input(), arg)),
        distinct,
        filter: None,
        field: Arc::new(Field::new(name, data_type, true)),
    });
    let operator = HashAggregate::try_new(AggregateSpec {
        input_schema: input(),
        is_append_only: false,
        group: vec![column(&input(), 0)],
        aggregates: aggregates.collect(),
        schema: output(),
        emits_empty: true,
    });
    Harness::new(operator.unwrap(), &[input()])
}

async fn batch(rows: &[String]) -> Vec<ChangeBatch> {
    let session = SessionContext::new();
    let rows = changes(&input(), &rows.join("\n")).into_parts().0;
    session.register_batch("t", rows).unwrap();
    let names = ["k", "d", "f", "s"];
    let exprs = calls().map(|(name, arg, distinct, _)| {
        format!("{name}({} {})", if distinct { "DISTINCT" } else { "" }, names[arg])
    });
    let sql = format!("SELECT k, {} FROM t GROUP BY k", exprs.join(", "));
    let results = session.sql(&sql).await.unwrap().collect().await.unwrap();
    let schema = output();
    let results = results.into_iter().map(|rows| {
        let types = rows.columns().iter().map(|column| column.data_type().clone());
        let expected = schema.fields().iter().map(|field| field.data_type().clone());
        assert!(types.eq(expected), "{:?}", rows.schema());
        let columns = rows.columns().to_vec();
        ChangeBatch::inserts(arrow::array::RecordBatch::try_new(output(), columns).unwrap())
    });
    results.collect()
}

fn random_row(rng: &mut SmallRng) -> String {
    let cell = |value: String, rng: &mut SmallRng| {
        if rng.random_bool(0.1) { "NULL".to_owned() } else { value }
    };
    let key = cell(format!("k{}", rng.random_range(0..4)), rng);
    let decimal = cell(format!("{}", f64::from(rng.random_range(-999..999)) / 100.0), rng);
    let float = cell(format!("{}", f64::from(rng.random_range(-9..9)) / 2.0), rng);
    let text = cell(format!("t{}", rng.random_range(0..30)), rng);
    format!("+ {key} {decimal} {float} {text}")
}

#[tokio::test]
async fn agrees_with_batch_aggregation() {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut incremental = incremental();
    let (mut rows, mut emitted) = (Vec::new(), Vec::new());
    for _ in 0..25 {
        for _ in 0..rng.random_range(1..12) {
            let row = random_row(&mut rng);
            incremental.push(0, &row);
            rows.push(row);
        }
        for _ in 0..rng.random_range(0..rows.len().min(12)) {
            let row = rows.swap_remove(rng.random_range(0..rows.len()));
            incremental.push(0, &row.replacen('+', "-", 1));
        }
        emitted.extend(incremental.end());
        assert_eq!(zset(&output(), emitted.clone()), zset(&output(), batch(&rows).await));
    }
}
