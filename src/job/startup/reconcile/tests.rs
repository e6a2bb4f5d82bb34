//! Starts after the program plans a stored query in another way. A test changes the text of a
//! stored statement: the next start finds the state of another plan, as a later version would.

use crate::checkpoint::Manifest;
use crate::checkpoint::testing::edit_manifest;
use crate::env::Env;
use crate::job::Engine;
use crate::job::engine::testing::{apply_all, env, failed, insert, open};

async fn write(engine: &Engine, rows: &[(i64, i64)]) {
    insert(engine, "t", rows.iter().copied()).await.unwrap();
}

fn read(engine: &Engine, name: &str) -> Vec<Vec<i64>> {
    crate::job::engine::testing::read(engine, name).unwrap()
}

/// Replaces text in the statements of the newest manifest.
async fn edit_statements(env: &Env, from: &str, to: &str) {
    let edit = |manifest: &mut Manifest| {
        let mut count = 0;
        for statement in &mut manifest.catalog.edit().statements {
            count += statement.sql.matches(from).count();
            statement.sql = statement.sql.replace(from, to);
        }
        assert_eq!(count, 1, "statements with {from}");
    };
    edit_manifest(env, edit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_of_another_plan_is_rebuilt_and_followers_see_the_difference() {
    let env = env();
    let engine = open(&env, 2).await;
    apply_all(
        &engine,
        &[
            "CREATE TABLE t (k BIGINT PRIMARY KEY, a BIGINT)",
            "CREATE MATERIALIZED VIEW s AS SELECT k % 2 AS g, sum(a) AS x FROM t GROUP BY k % 2",
            "CREATE MATERIALIZED VIEW top AS SELECT max(x) AS m, count(*) AS n FROM s",
            "CREATE MATERIALIZED VIEW other AS SELECT k, a FROM t WHERE a > 2",
        ],
    )
    .await;
    write(&engine, &[(1, 1), (2, 2), (3, 3), (4, 4)]).await;
    assert_eq!(read(&engine, "s"), [[0, 6], [1, 4]]);
    assert_eq!(read(&engine, "top"), [[6, 2]]);
    engine.shutdown().await.unwrap();
    edit_statements(&env, "sum(a)", "min(a)").await;

    for _ in 0..2 {
        let engine = open(&env, 2).await;
        write(&engine, &[(5, 0)]).await;
        assert_eq!(read(&engine, "s"), [[0, 2], [1, 0]]);
        assert_eq!(read(&engine, "top"), [[2, 2]]);
        assert_eq!(read(&engine, "other"), [[3, 3], [4, 4]]);
        engine.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_only_view_of_another_plan_starts_over_with_its_followers() {
    let env = env();
    let engine = open(&env, 2).await;
    apply_all(
        &engine,
        &[
            "CREATE TABLE t (k BIGINT, a BIGINT) APPEND ONLY",
            "CREATE MATERIALIZED VIEW kept AS SELECT k, a FROM t WHERE a > 1",
            "CREATE MATERIALIZED VIEW total AS SELECT sum(a) AS x, count(*) AS n FROM kept",
            "CREATE MATERIALIZED VIEW twice AS SELECT x * 2 AS y FROM total",
        ],
    )
    .await;
    write(&engine, &[(1, 1), (2, 2), (3, 3)]).await;
    assert_eq!(read(&engine, "total"), [[5, 2]]);
    engine.shutdown().await.unwrap();
    edit_statements(&env, "a > 1", "a > 2").await;

    for round in 1..3 {
        let engine = open(&env, 2).await;
        write(&engine, &[(4, 4)]).await;
        assert_eq!(read(&engine, "kept").len(), 1 + round as usize);
        assert_eq!(read(&engine, "total"), [[3 + 4 * round, 1 + round]]);
        assert_eq!(read(&engine, "twice"), [[6 + 8 * round]]);
        engine.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_whose_state_means_something_else_fails_by_name_and_the_rest_runs() {
    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let engine = open(&env, 2).await;
    let sink = format!(
        "CREATE SINK lake_sums AS SELECT k % 2 AS g, sum(a) AS x FROM t GROUP BY k % 2 WITH \
         (connector = 'iceberg', type = 'upsert', primary_key = 'g', catalog.type = 'sql', \
         catalog.uri = 'sqlite://{0}/lake.db', warehouse.path = '{0}/lake', \
         database.name = 'd', table.name = 't', create_table_if_not_exists = true)",
        folder.path().display()
    );
    apply_all(
        &engine,
        &[
            "CREATE TABLE t (k BIGINT PRIMARY KEY, a BIGINT)",
            "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t",
            &sink,
        ],
    )
    .await;
    write(&engine, &[(1, 1), (2, 2)]).await;
    engine.flush().await.unwrap();
    engine.shutdown().await.unwrap();
    edit_statements(&env, "sum(a)", "max(a)").await;

    let engine = open(&env, 2).await;
    let error = failed(&engine).remove("lake_sums").unwrap();
    assert!(error.starts_with("\"lake_sums\" cannot continue"), "{error}");
    write(&engine, &[(3, 3)]).await;
    assert_eq!(read(&engine, "v"), [[3]]);
    engine.apply("DROP SINK lake_sums").await.unwrap();
    engine.shutdown().await.unwrap();
}
