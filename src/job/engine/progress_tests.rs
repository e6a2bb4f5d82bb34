//! A new relation catches up while the others continue.

use std::sync::atomic::{AtomicI64, Ordering};

use super::testing::{TABLE, apply_all, env, insert, open, read};
use super::*;

/// In tests a chunk of a backfill has a few rows, so that these backfills have hundreds of epochs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_continue_while_views_are_created_and_none_is_lost() {
    const ROWS: i64 = 6000;
    let env = env();
    let engine = open(&env, 2).await;
    apply_all(&engine, &[TABLE, "CREATE TABLE other (k BIGINT PRIMARY KEY, a BIGINT)"]).await;
    insert(&engine, "t", (0..ROWS).map(|key| (key, key % 10))).await.unwrap();
    let written = Arc::new(AtomicI64::new(0));
    let writer = {
        let (engine, written) = (engine.clone(), Arc::clone(&written));
        tokio::spawn(async move {
            for round in 0.. {
                insert(&engine, "other", [(round, round)]).await.unwrap();
                // Changes of what the new views read: replaced, and new.
                insert(&engine, "t", [(round % ROWS, 11), (ROWS + round, 12)]).await.unwrap();
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
        let rows = read(engine, "t").unwrap();
        let mut groups: Vec<Vec<i64>> = Vec::new();
        for value in 0..13 {
            let keys = || rows.iter().filter(|row| row[1] == value).map(|row| row[0]);
            if let Some(last) = keys().max() {
                groups.push(vec![value, keys().count() as i64, last]);
            }
        }
        assert_eq!(read(engine, "grouped").unwrap(), groups);
        let joined = read(engine, "joined").unwrap();
        let expected: Vec<Vec<i64>> = rows
            .iter()
            .map(|row| match rows.binary_search_by_key(&(row[0] - 1), |other| other[0]) {
                Ok(at) => vec![row[0], rows[at][1]],
                Err(_) => vec![row[0], i64::MIN],
            })
            .collect();
        assert_eq!(joined, expected);
    };
    check(&engine);
    engine.shutdown().await.unwrap();
    let engine = open(&env, 2).await;
    check(&engine);
    insert(&engine, "t", [(0, 5)]).await.unwrap();
    check(&engine);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_late_in_a_backfill_fails_the_create_and_leaves_nothing() {
    let engine = open(&env(), 2).await;
    apply_all(&engine, &[TABLE]).await;
    insert(&engine, "t", (0..2000).map(|key| (key, 1999 - key))).await.unwrap();
    let view = "CREATE MATERIALIZED VIEW v AS SELECT k, 10 / a AS x FROM t";
    let error = engine.apply(view).await.unwrap_err();
    assert!(error.to_string().contains("division by zero"), "{error}");
    assert!(engine.catalog().get("v").is_none());
    insert(&engine, "t", [(1999, 1)]).await.unwrap();
    engine.apply(view).await.unwrap();
    assert_eq!(read(&engine, "v").unwrap().len(), 2000);
    engine.shutdown().await.unwrap();
}
