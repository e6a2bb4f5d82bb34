//! What random scripts have found, as the SQL that showed it.

use std::sync::Arc;

use crate::env::faulty_store::FaultyStore;

use super::cluster::{Cluster, Layout};
use super::rows::sorted;

/// Runs the statements, makes a view of the query, runs what comes then, and expects these rows of
/// the view, of its query, and of the view after a restart.
fn check(before: &[&str], query: &str, then: &[&str], expected: &[&str]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Arc::new(FaultyStore::default());
        let layout = |workers| Layout { processes: 1, workers };
        let cluster = Cluster::open(layout(2), &store).await.unwrap();
        for sql in before {
            cluster.run(sql).await.unwrap();
        }
        cluster.run(&format!("CREATE MATERIALIZED VIEW v AS {query}")).await.unwrap();
        for sql in then {
            cluster.run(sql).await.unwrap();
        }
        assert_eq!(sorted(&cluster.run(query).await.unwrap()), expected, "{query}");
        assert_eq!(sorted(&cluster.run("SELECT * FROM v").await.unwrap()), expected, "the view");
        cluster.stop().await.unwrap();
        let cluster = Cluster::open(layout(1), &store).await.unwrap();
        assert_eq!(sorted(&cluster.run("SELECT * FROM v").await.unwrap()), expected, "restarted");
        cluster.stop().await.unwrap();
    });
}

#[test]
fn groups_of_constants_over_nothing_are_none() {
    let table = "CREATE TABLE t (a BIGINT PRIMARY KEY)";
    let query = "SELECT 1.5 AS x, count(*) AS n FROM t GROUP BY 1";
    check(&[table], query, &[], &[]);
    check(&[table], query, &["INSERT INTO t VALUES (1), (2)"], &["1.5 | 2"]);
}

#[test]
fn is_true_in_a_group() {
    let table = "CREATE TABLE t (a BIGINT PRIMARY KEY, s TEXT)";
    let query = "SELECT DISTINCT s = 'a' IS TRUE AS c FROM t";
    check(&[table], query, &["INSERT INTO t VALUES (1, 'a'), (2, NULL)"], &["false", "true"]);
}

#[test]
fn a_join_that_never_matches_is_restored() {
    let table = "CREATE TABLE t (a BIGINT PRIMARY KEY, b BIGINT)";
    let query = "SELECT count(*) AS n FROM t LEFT JOIN (SELECT sum(b) AS m FROM t) x \
                 ON abs(t.b) = x.m + x.m AND CASE WHEN 0 < 1 THEN 0.25 END = 1.5";
    check(&[table], query, &["INSERT INTO t VALUES (1, 1), (2, NULL)"], &["2"]);
}

#[test]
fn is_distinct_from_ends_before_and() {
    let table = "CREATE TABLE t (a BIGINT PRIMARY KEY, f BOOLEAN)";
    let query = "SELECT a FROM t WHERE f IS DISTINCT FROM true AND a > 1";
    let rows = ["INSERT INTO t VALUES (1, false), (2, true), (3, false), (4, NULL)"];
    check(&[table], query, &rows, &["3", "4"]);
}

#[test]
fn a_predicate_without_columns_removes_a_total() {
    let table = "CREATE TABLE t (a BIGINT PRIMARY KEY, b BIGINT)";
    let rows = ["INSERT INTO t VALUES (0, 1), (1, 2)"];
    let null = "SELECT t.a FROM (SELECT count(*) AS n FROM t WHERE b > 10) x JOIN t \
                ON x.n = t.a AND CAST(NULL AS BIGINT) BETWEEN -1 AND 3";
    check(&[table], null, &rows, &[]);
    let literal = "SELECT * FROM (SELECT count(*) AS n, false AS f FROM t) x WHERE f";
    check(&[table], literal, &rows, &[]);
    let subquery = "SELECT * FROM (SELECT count(*) AS n FROM t WHERE b > 0) x \
                    WHERE (SELECT max(b) FROM t) > 100";
    check(&[table], subquery, &rows, &[]);
    let total = "SELECT * FROM (SELECT max(b) AS b FROM t WHERE b > 0) x WHERE b > 1";
    check(&[table], total, &rows, &["2"]);
}

#[test]
fn sides_of_a_union_without_columns_are_as_wide() {
    let table = "CREATE TABLE t (a BIGINT PRIMARY KEY, b BIGINT)";
    let query = "SELECT count(*) AS n FROM (SELECT 2 AS c FROM t \
                 UNION ALL SELECT x.a AS c FROM t AS x JOIN t AS y ON x.a = 1) AS z";
    check(&[table], query, &["INSERT INTO t VALUES (0, 1), (1, 2)"], &["4"]);
}
