//! Statements beside a long CREATE.

use std::time::Duration;

use super::testing::{TABLE, apply_all, env, failed, insert, open, read, state, until};
use super::*;
use crate::job::JobState;

const ROWS: i64 = 30_000;
const LONG: &str = "CREATE MATERIALIZED VIEW v AS SELECT x.k AS k, y.a AS a FROM t x \
                    LEFT JOIN t y ON x.k = y.k + 1";

async fn with_rows(env: &Env) -> Engine {
    let engine = open(env, 2).await;
    apply_all(&engine, &[TABLE]).await;
    insert(&engine, "t", (0..ROWS).map(|key| (key, key))).await.unwrap();
    engine
}

type Created = tokio::task::JoinHandle<Result<Vec<Arc<Relation>>>>;

/// Begins with a CREATE and returns while it catches up.
async fn begun(engine: &Engine, sql: &'static str, name: &str) -> Created {
    let creating = engine.clone();
    let create = tokio::spawn(async move { creating.apply(sql).await });
    let catches_up = || matches!(state(engine, name), Some(JobState::CatchingUp(_)));
    until("it catches up", || catches_up() || create.is_finished()).await;
    create
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_statements_do_not_wait_for_a_long_create() {
    let store = env();
    let engine = with_rows(&store).await;
    let create = begun(&engine, LONG, "v").await;
    for round in 0..3 {
        apply_all(
            &engine,
            &[
                "CREATE TABLE u (k BIGINT PRIMARY KEY, a BIGINT)",
                "CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM u",
            ],
        )
        .await;
        insert(&engine, "u", [(round, 1)]).await.unwrap();
        assert_eq!(read(&engine, "w").unwrap(), [[1]]);
        assert!(engine.catalog().get("v").is_none() && !create.is_finished(), "it was not long");
        apply_all(&engine, &["DROP TABLE u CASCADE"]).await;
    }
    apply_all(&engine, &["CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM t"]).await;
    create.await.unwrap().unwrap();
    assert_eq!(read(&engine, "v").unwrap().len() as i64, ROWS);
    engine.shutdown().await.unwrap();
    let engine = open(&store, 1).await;
    assert!(failed(&engine).is_empty());
    assert_eq!(read(&engine, "v").unwrap().len() as i64, ROWS);
    assert_eq!(read(&engine, "n").unwrap(), [[ROWS]]);
    apply_all(&engine, &["CREATE TABLE u (k BIGINT PRIMARY KEY, a BIGINT)"]).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_waits_for_the_create_of_what_it_names() {
    let engine = with_rows(&env()).await;
    for (sql, outcome) in [
        ("CREATE TABLE v (k BIGINT)", Err(ErrorKind::DuplicateTable)),
        ("CREATE TABLE IF NOT EXISTS v (k BIGINT)", Ok(0)),
        ("DROP TABLE t", Err(ErrorKind::DependentObjects)),
        ("CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM v", Ok(1)),
        ("DROP MATERIALIZED VIEW v CASCADE", Ok(2)),
    ] {
        let create = match engine.catalog().get("v") {
            None => Some(begun(&engine, LONG, "v").await),
            Some(_) => None,
        };
        let found = engine.apply(sql).await.map(|changed| changed.len());
        assert_eq!(found.map_err(|error| error.kind), outcome, "{sql}");
        if let Some(create) = create {
            create.await.unwrap().unwrap();
        }
        if sql.contains("VIEW w") {
            assert_eq!(read(&engine, "w").unwrap(), [[ROWS]]);
        } else if engine.catalog().get("v").is_some() {
            apply_all(&engine, &["DROP MATERIALIZED VIEW v"]).await;
        }
    }
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_is_cancelled_leaves_nothing() {
    let (folder, store) = (tempfile::tempdir().unwrap(), env());
    let engine = with_rows(&store).await;
    let create = begun(&engine, LONG, "v").await;
    create.abort();
    until("it is gone", || state(&engine, "v").is_none()).await;
    assert!(engine.catalog().get("v").is_none());
    // Its name is free, and its rows are as they would have been.
    apply_all(&engine, &[LONG]).await;
    assert_eq!(read(&engine, "v").unwrap().len() as i64, ROWS);

    let sink = format!(
        "CREATE SINK s AS SELECT k, a FROM v WITH (connector = 'iceberg', type = 'upsert', \
         primary_key = 'k', catalog.type = 'sql', catalog.uri = 'sqlite://{0}/lake.db', \
         warehouse.path = '{0}/lake', database.name = 'd', table.name = 's', \
         create_table_if_not_exists = true)",
        folder.path().display()
    );
    let creating = engine.clone();
    let create = {
        let sink = sink.clone();
        tokio::spawn(async move { creating.apply(&sink).await })
    };
    until("it catches up", || state(&engine, "s").is_some() || create.is_finished()).await;
    create.abort();
    until("it is gone", || state(&engine, "s").is_none()).await;
    let metadata = std::fs::read_dir(folder.path().join("lake/d/s/metadata"));
    assert_eq!(metadata.map_or(0, std::iter::Iterator::count), 0);
    let created = tokio::time::timeout(Duration::from_secs(60), engine.apply(&sink)).await;
    created.unwrap().unwrap();
    engine.shutdown().await.unwrap();
}
