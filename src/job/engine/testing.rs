//! Engines in memory, and tables of two BIGINT columns `k` and `a`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use frazil_connector_api::ChangeBatch;
use object_store::memory::InMemory;

use crate::config::Config;
use crate::env::Env;
use crate::error::Result;
use crate::job::{Engine, JobState};

pub(in crate::job) const TABLE: &str = "CREATE TABLE t (k BIGINT PRIMARY KEY, a BIGINT)";

/// An outside whose objects are in memory.
pub(in crate::job) fn env() -> Env {
    Env::real(Arc::new(InMemory::new())).unwrap()
}

/// An engine that closes epochs as soon as it can.
pub(in crate::job) async fn open(env: &Env, workers: usize) -> Engine {
    let config = Config { workers, epoch_interval_ms: 0, ..Config::default() };
    Engine::open(config, env.clone()).await.unwrap()
}

pub(in crate::job) async fn apply_all(engine: &Engine, statements: &[&str]) {
    for sql in statements {
        engine.apply(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// Insertions of rows.
pub(in crate::job) fn pairs(rows: impl IntoIterator<Item = (i64, i64)>) -> ChangeBatch {
    let (keys, values): (Vec<i64>, Vec<i64>) = rows.into_iter().unzip();
    let column = |values| Arc::new(Int64Array::from(values)) as ArrayRef;
    let rows = RecordBatch::try_from_iter([("k", column(keys)), ("a", column(values))]);
    ChangeBatch::inserts(rows.unwrap())
}

pub(in crate::job) async fn insert(
    engine: &Engine,
    table: &str,
    rows: impl IntoIterator<Item = (i64, i64)>,
) -> Result<()> {
    let id = engine.catalog().get(table).unwrap().id;
    engine.write(id, vec![pairs(rows)]).await
}

/// The rows of a relation of BIGINT columns, sorted; NULL reads as `i64::MIN`.
pub(in crate::job) fn read(engine: &Engine, name: &str) -> Result<Vec<Vec<i64>>> {
    let id = engine.catalog().get(name).unwrap().id;
    let mut rows = Vec::new();
    for batch in engine.snapshot().relation(id).unwrap().batches_here(None)? {
        for row in 0..batch.num_rows() {
            let value = |column| {
                let values: &Int64Array = batch.column(column).as_primitive::<Int64Type>();
                if values.is_null(row) { i64::MIN } else { values.value(row) }
            };
            rows.push((0..batch.num_columns()).map(value).collect());
        }
    }
    rows.sort_unstable();
    Ok(rows)
}

/// The only value of a relation.
pub(in crate::job) fn only_number(engine: &Engine, name: &str) -> i64 {
    let rows = read(engine, name).unwrap();
    assert_eq!((rows.len(), rows[0].len()), (1, 1), "{name}: {rows:?}");
    rows[0][0]
}

pub(in crate::job) fn state(engine: &Engine, name: &str) -> Option<JobState> {
    engine.jobs().into_iter().find(|job| job.name == name).map(|job| job.state)
}

/// The errors of failed jobs, by name.
pub(in crate::job) fn failed(engine: &Engine) -> BTreeMap<String, String> {
    let failed = engine.jobs().into_iter().filter_map(|job| match job.state {
        JobState::Failed { error } => Some((job.name, error)),
        _ => None,
    });
    failed.collect()
}

/// Waits until something holds.
pub(in crate::job) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let held = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let held = tokio::time::timeout(Duration::from_secs(60), held).await;
    held.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}
