//! A new relation catches up while the others continue.

use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use object_store::memory::InMemory;

use super::*;

async fn open(env: &Env) -> Engine {
    let config = Config { workers: 2, epoch_interval_ms: 0, ..Config::default() };
    Engine::open(config, env.clone()).await.unwrap()
}

async fn insert(engine: &Engine, table: &str, rows: impl Iterator<Item = (i64, i64)> + Clone) {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| row.0)));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.map(|row| row.1)));
    let rows = RecordBatch::try_from_iter([("k", keys), ("a", values)]).unwrap();
    let id = engine.catalog().get(table).unwrap().id;
    engine.write(id, ChangeBatch::inserts(rows)).await.unwrap();
}

fn read(engine: &Engine, name: &str) -> Vec<Vec<i64>> {
    let id = engine.catalog().get(name).unwrap().id;
    let mut rows = Vec::new();
    for batch in engine.snapshot().relation(id).unwrap().batches(None).unwrap() {
        for row in 0..batch.num_rows() {
            let value = |column| batch.column(column).as_primitive::<Int64Type>().value(row);
            rows.push((0..batch.num_columns()).map(value).collect());
        }
    }
    rows.sort_unstable();
    rows
}

/// In tests a chunk of a backfill has a few rows, so that these backfills have hundreds of epochs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_continue_while_views_are_created_and_none_is_lost() {
    const ROWS: i64 = 20_000;
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let engine = open(&env).await;
    for sql in [
        "CREATE TABLE t (k BIGINT PRIMARY KEY, a BIGINT)",
        "CREATE TABLE other (k BIGINT PRIMARY KEY, a BIGINT)",
    ] {
        engine.apply(sql).await.unwrap();
    }
    insert(&engine, "t", (0..ROWS).map(|key| (key, key % 10))).await;
    let written = Arc::new(AtomicI64::new(0));
    let writer = {
        let (engine, written) = (engine.clone(), Arc::clone(&written));
        tokio::spawn(async move {
            for round in 0.. {
                insert(&engine, "other", std::iter::once((round, round))).await;
                // Changes of what the new views read: replaced, and new.
                insert(&engine, "t", [(round % ROWS, 11), (ROWS + round, 12)].into_iter()).await;
                written.store(round + 1, Ordering::SeqCst);
                if engine.catalog().get("joined").is_some() {
                    return;
                }
            }
        })
    };
    let mut before = 0;
    for sql in [
        "CREATE MATERIALIZED VIEW grouped AS SELECT a, count(*) AS n, max(k) AS m FROM t \
         GROUP BY a",
        "CREATE MATERIALIZED VIEW joined AS SELECT x.k AS k, y.a AS a FROM t x \
         LEFT JOIN t y ON x.k = y.k + 1",
    ] {
        engine.apply(sql).await.unwrap();
        let now = written.load(Ordering::SeqCst);
        assert!(now > before, "{sql}: {} writes meanwhile", now - before);
        before = now;
    }
    writer.await.unwrap();
    let check = |engine: &Engine| {
        let rows = read(engine, "t");
        let mut groups: Vec<Vec<i64>> = Vec::new();
        for value in 0..13 {
            let keys = || rows.iter().filter(|row| row[1] == value).map(|row| row[0]);
            if let Some(last) = keys().max() {
                groups.push(vec![value, keys().count() as i64, last]);
            }
        }
        assert_eq!(read(engine, "grouped"), groups);
        let joined = read(engine, "joined");
        // The NULL of the first key reads as 0.
        let expected: Vec<Vec<i64>> = rows
            .iter()
            .map(|row| match rows.binary_search_by_key(&(row[0] - 1), |other| other[0]) {
                Ok(at) => vec![row[0], rows[at][1]],
                Err(_) => vec![row[0], 0],
            })
            .collect();
        assert_eq!(joined, expected);
    };
    check(&engine);
    engine.shutdown().await.unwrap();
    let engine = open(&env).await;
    check(&engine);
    insert(&engine, "t", std::iter::once((0, 5))).await;
    check(&engine);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_late_in_a_backfill_fails_the_create_and_leaves_nothing() {
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let engine = open(&env).await;
    engine.apply("CREATE TABLE t (k BIGINT PRIMARY KEY, a BIGINT)").await.unwrap();
    insert(&engine, "t", (0..2000).map(|key| (key, 1999 - key))).await;
    let view = "CREATE MATERIALIZED VIEW v AS SELECT k, 10 / a AS x FROM t";
    let error = engine.apply(view).await.unwrap_err();
    assert!(error.to_string().contains("division by zero"), "{error}");
    assert!(engine.catalog().get("v").is_none());
    insert(&engine, "t", std::iter::once((1999, 1))).await;
    engine.apply(view).await.unwrap();
    assert_eq!(read(&engine, "v").len(), 2000);
    engine.shutdown().await.unwrap();
}
