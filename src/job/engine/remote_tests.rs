//! Reads of rows that another process keeps.

use std::net::TcpListener;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;

use super::testing::{TABLE, apply_all, env, insert, until};
use super::*;

const ROWS: i64 = 400;

/// Two processes of one worker each, with a table of [`ROWS`] rows `(k, 0)`.
async fn open() -> [Engine; 2] {
    let addresses: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let hosts = addresses.iter().map(|it| it.local_addr().unwrap().to_string()).collect();
    drop(addresses);
    let config = Config { workers: 1, hosts, epoch_interval_ms: 0, ..Config::default() };
    let env = env();
    let lent = Engine::open(Config { process: 1, ..config.clone() }, env.clone());
    let (own, lent) = tokio::join!(Engine::open(config, env), lent);
    let (own, lent) = (own.unwrap(), lent.unwrap());
    apply_all(&own, &[TABLE]).await;
    insert(&own, "t", (0..ROWS).map(|k| (k, 0))).await.unwrap();
    [own, lent]
}

fn table(engine: &Engine) -> RelationSnapshot {
    let id = engine.catalog().get("t").unwrap().id;
    engine.snapshot().relation(id).unwrap()
}

/// Values of a column, sorted.
fn sorted(batches: &[RecordBatch], column: usize) -> Vec<i64> {
    let values = batches
        .iter()
        .flat_map(|batch| batch.column(column).as_primitive::<Int64Type>().values().to_vec());
    let mut values: Vec<i64> = values.collect();
    values.sort_unstable();
    values
}

async fn stop([own, lent]: [Engine; 2]) {
    own.shutdown().await.unwrap();
    lent.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_by_key_asks_the_owner_of_the_key_alone() {
    let engines = open().await;
    let own = &engines[0];
    let rows = table(own);
    assert_eq!(rows.row_count(), ROWS as usize);
    let here = sorted(&rows.batches_here(None).unwrap(), 0);
    assert!((100..300).contains(&here.len()), "{} rows are here", here.len());
    let asked = || own.inner.remote_rows.as_ref().unwrap().asked_count();
    for k in 0..ROWS {
        let before = asked();
        let wanted: ArrayRef = Arc::new(Int64Array::from(vec![k]));
        let found = rows.lookup(&[0], &[wanted], Some(&[1, 0])).await.unwrap();
        let found: Vec<_> = found.into_iter().filter(|batch| batch.num_rows() > 0).collect();
        assert_eq!((sorted(&found, 0), sorted(&found, 1)), (vec![0], vec![k]));
        assert_eq!(asked() - before, u64::from(!here.contains(&k)), "key {k}");
    }
    let wanted: ArrayRef = Arc::new(Int64Array::from_iter_values(-5..ROWS + 5));
    let found = rows.lookup(&[0], &[wanted], Some(&[])).await.unwrap();
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), ROWS as usize);
    stop(engines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_keeps_the_rows_of_a_read_until_it_ends_and_no_longer() {
    let engines = open().await;
    let [own, lent] = &engines;
    let rows = table(own);
    let before = table(own);
    let mut scan = before.rows(None).unwrap();
    let mut found = vec![scan.try_next().await.unwrap().unwrap()];
    drop(before);
    for a in 1..20 {
        insert(own, "t", (0..ROWS).map(|k| (k, a))).await.unwrap();
    }
    let id = own.catalog().get("t").unwrap().id;
    let kept = || lent.inner.state.snapshots.version_count(id);
    until("other versions are gone", || kept() == 2).await;
    found.extend(scan.try_collect::<Vec<_>>().await.unwrap());
    assert_eq!(sorted(&found, 0), (0..ROWS).collect::<Vec<_>>());
    assert_eq!(sorted(&found, 1), vec![0; ROWS as usize]);
    // A scan that is given up holds nothing either.
    let mut scan = rows.rows(None).unwrap();
    scan.try_next().await.unwrap();
    assert_eq!(kept(), 2);
    drop((scan, rows));
    until("the first version is gone", || kept() == 1).await;
    stop(engines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_dropped_while_it_is_read_is_read_to_its_end() {
    let engines = open().await;
    let [own, lent] = &engines;
    let id = own.catalog().get("t").unwrap().id;
    let mut scan = table(own).rows(Some(&[0])).unwrap();
    let mut found = vec![scan.try_next().await.unwrap().unwrap()];
    apply_all(own, &["DROP TABLE t", "CREATE TABLE other (k BIGINT)"]).await;
    found.extend(scan.try_collect::<Vec<_>>().await.unwrap());
    assert_eq!(sorted(&found, 0), (0..ROWS).collect::<Vec<_>>());
    until("its rows are gone", || lent.inner.state.snapshots.version_count(id) == 0).await;
    stop(engines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_ends_with_an_error_when_the_engine_goes_down() {
    let engines = open().await;
    let scan = table(&engines[0]).rows(None).unwrap();
    stop(engines).await;
    let error = scan.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Shutdown);
}
