//! Kernels of the engine over seeded input: aggregate, join, consolidate, exchange partitioning.
//!
//! Throughput is input rows a second of one core. Bars: `hash_aggregate/1M keys, 64k batches` 5 M
//! rows/s, `hash_join` 3 M rows/s.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::PhysicalExpr;
use frazil::change::{ChangeBatch, concat, consolidate, partition_by_key, with_weights};
use frazil::dataflow::operators::{
    Aggregate, AggregateFunction, AggregateSpec, EpochInfo, HashAggregate, HashJoin, InputKind,
    JoinInput, JoinSpec, Operator, Output,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const SEED: u64 = 42;
const ROWS: usize = 2_000_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::UInt64, false),
        Field::new("x", DataType::Int64, false),
    ]))
}

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

/// `ROWS` rows of random keys below `keys`, and their numbers.
fn batches(keys: u64, batch_rows: usize) -> Vec<ChangeBatch> {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut next = 0;
    (0..ROWS / batch_rows)
        .map(|_| {
            let k: UInt64Array = (0..batch_rows).map(|_| rng.random_range(0..keys)).collect();
            let x: Int64Array = (next..next + batch_rows as i64).collect();
            next += batch_rows as i64;
            let columns: Vec<ArrayRef> = vec![Arc::new(k), Arc::new(x)];
            ChangeBatch::inserts(RecordBatch::try_new(schema(), columns).expect("fits"))
        })
        .collect()
}

/// `SELECT k, count(*), sum(x) GROUP BY k`, or the count only.
fn aggregate(has_sum: bool) -> HashAggregate {
    let mut fields = schema().fields()[..1].to_vec();
    let mut aggregates = Vec::new();
    let mut add = |function, arg, name| {
        let field = Arc::new(Field::new(name, DataType::Int64, true));
        fields.push(Arc::clone(&field));
        aggregates.push(Aggregate { function, arg, distinct: false, filter: None, field });
    };
    add(AggregateFunction::Count, None, "count");
    if has_sum {
        add(AggregateFunction::Sum, Some(column("x", 1)), "sum");
    }
    HashAggregate::try_new(AggregateSpec {
        input_schema: schema(),
        is_append_only: true,
        group: vec![column("k", 0)],
        aggregates,
        schema: Arc::new(Schema::new(fields)),
        emits_empty: true,
    })
    .expect("count and sum take these types")
}

/// Runs batches, one an epoch; gives the number of changes emitted.
fn run(operator: &mut impl Operator, batches: &[(usize, ChangeBatch)]) -> usize {
    let mut out = Output::default();
    let mut emitted = 0;
    for (input, batch) in batches {
        operator.on_changes(*input, batch.clone(), &mut out).expect("no row fails");
        operator.on_epoch_end(&EpochInfo::default(), &mut out).expect("no row fails");
        emitted += out.take().iter().map(ChangeBatch::num_rows).sum::<usize>();
    }
    emitted
}

fn hash_aggregate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hash_aggregate");
    group.sample_size(10).throughput(Throughput::Elements(ROWS as u64));
    let shapes = [
        ("count, 1M keys, 64k batches", false, 1_000_000, 64_000),
        ("count and sum, 1M keys, 64k batches", true, 1_000_000, 64_000),
        ("count and sum, 1M keys, 8k batches", true, 1_000_000, 8_000),
        ("count and sum, 10k keys, 8k batches", true, 10_000, 8_000),
    ];
    for (name, has_sum, keys, batch_rows) in shapes {
        let input: Vec<_> = batches(keys, batch_rows).into_iter().map(|rows| (0, rows)).collect();
        let make = || aggregate(has_sum);
        group.bench_function(name, |bench| {
            let step = |mut operator: HashAggregate| black_box(run(&mut operator, &input));
            bench.iter_batched(make, step, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn join(kind: InputKind) -> HashJoin {
    let input = || JoinInput { schema: schema(), keys: vec![column("k", 0)], kind };
    let fields = [schema().fields().to_vec(), schema().fields().to_vec()].concat();
    HashJoin::try_new(JoinSpec {
        left: input(),
        right: input(),
        filter: None,
        is_left: false,
        schema: Arc::new(Schema::new(fields)),
        writer: 0,
    })
    .expect("keys are of one type")
}

/// Batches of which two rows in five take the place of one that came before: a retraction of the
/// old row and the new one.
fn updates(input: &[(usize, ChangeBatch)]) -> Vec<(usize, ChangeBatch)> {
    let mut updated = Vec::with_capacity(input.len());
    for (index, (side, batch)) in input.iter().enumerate() {
        let count = batch.num_rows() * 2 / 5;
        // Each row of the inputs is retracted once at most: batches of one side, in their order.
        let Some((_, old)) = index.checked_sub(2).map(|before| &input[before]) else {
            updated.push((*side, batch.clone()));
            continue;
        };
        let old = ChangeBatch::retractions(old.rows().slice(0, count));
        let rows = concat(schema(), vec![batch.clone(), old]).expect("one schema");
        updated.push((*side, rows));
    }
    updated
}

fn hash_join(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hash_join");
    group.sample_size(10);
    // About one output row for each input row.
    let input: Vec<_> = batches(500_000, 64_000)
        .into_iter()
        .enumerate()
        .map(|(index, rows)| (index % 2, rows))
        .collect();
    let updated = updates(&input);
    let shapes = [
        ("append-only", InputKind::AppendOnly, &input),
        ("unique rows", InputKind::Unique, &input),
        ("unique rows, 40 % updates", InputKind::Unique, &updated),
        ("rows that may be equal", InputKind::Retracting, &input),
        ("rows that may be equal, 40 % updates", InputKind::Retracting, &updated),
    ];
    for (name, kind, input) in shapes {
        let rows: usize = input.iter().map(|(_, batch)| batch.num_rows()).sum();
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(name, |bench| {
            let step = |mut operator: HashJoin| black_box(run(&mut operator, input));
            bench.iter_batched(|| join(kind), step, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn algebra(criterion: &mut Criterion) {
    let batch = batches(30_000, 64_000).swap_remove(0);
    let weights = (0..batch.num_rows()).map(|row| if row % 3 == 0 { -1 } else { 1 }).collect();
    let keys = batch.rows().project(&[0]).expect("column 0 is there");
    let keys = with_weights(keys, weights).expect("one weight a row");
    let mut group = criterion.benchmark_group("change");
    group.throughput(Throughput::Elements(batch.num_rows() as u64));
    group.bench_function("consolidate, one word", |bench| {
        bench.iter(|| consolidate(keys.schema(), vec![black_box(keys.clone())]));
    });
    group.bench_function("consolidate, two columns", |bench| {
        bench.iter(|| consolidate(schema(), vec![black_box(batch.clone())]));
    });
    group.bench_function("partition by key, 4 parts", |bench| {
        bench.iter(|| partition_by_key(black_box(&batch), &[0], 4));
    });
    group.finish();
}

criterion_group! {
    name = kernels;
    config = Criterion::default().without_plots();
    targets = hash_aggregate, hash_join, algebra
}
criterion_main!(kernels);
