//! Starts with other numbers of workers and processes, one after the other.

use std::sync::Arc;

use crate::env::faulty_store::FaultyStore;

use super::cluster::{Cluster, Layout};
use super::rows::sorted;

const TABLES: [&str; 2] = [
    "CREATE TABLE t (a BIGINT PRIMARY KEY, b BIGINT, s TEXT)",
    "CREATE TABLE log (b BIGINT, s TEXT)",
];

/// Views with state of every kind.
const QUERIES: [&str; 9] = [
    "SELECT t.a, u.a AS c, t.s FROM t JOIN t AS u ON t.b = u.b + 1",
    "SELECT t.a, log.s FROM t LEFT JOIN log ON t.b = log.b AND t.s <> log.s",
    "SELECT l.b, r.s FROM log AS l JOIN log AS r ON l.b = r.b",
    "SELECT b % 7 AS m, count(*) AS n, min(s) AS low, count(DISTINCT s) AS d FROM t GROUP BY 1",
    "SELECT count(*) AS n, max(b) AS b FROM t",
    "SELECT DISTINCT s FROM t",
    "SELECT b, s FROM t",
    "SELECT * FROM t ORDER BY s, a LIMIT 20",
    "SELECT b + 1 AS b, s FROM log",
];

/// Rows that are new, replaced, updated and deleted.
fn changes(round: usize) -> [String; 4] {
    let (first, of_log) = (round * 60, round * 20);
    [
        format!(
            "INSERT INTO t SELECT g, g % 60, 'text ' || (g % 13) \
             FROM generate_series({first}, {}) AS g",
            first + 99
        ),
        format!(
            "INSERT INTO log SELECT g % 50, 'text ' || (g % 5) \
             FROM generate_series({of_log}, {}) AS g",
            of_log + 29
        ),
        format!("UPDATE t SET b = b + 1, s = 'text {round}' WHERE a % 11 = {round}"),
        format!("DELETE FROM t WHERE a % 5 = {}", round % 5),
    ]
}

const LOG: &str = "SELECT * FROM log";
const TABLE: &str = "SELECT * FROM t";

/// What the tables hold; each row is found by its key, too.
async fn tables(cluster: &Cluster, at: &str) -> [Vec<String>; 2] {
    let [t, log] = [TABLE, LOG].map(|sql| async { sorted(&cluster.run(sql).await.unwrap()) });
    let (t, log) = (t.await, log.await);
    for row in t.iter().step_by(7) {
        let (a, _) = row.split_once(" | ").unwrap();
        let found = cluster.run(&format!("{TABLE} WHERE a = {a}")).await.unwrap();
        assert_eq!(sorted(&found), [row.as_str()], "{at}");
    }
    [t, log]
}

async fn check(cluster: &Cluster, at: &str) {
    for (view, query) in QUERIES.iter().enumerate() {
        let found = sorted(&cluster.run(&format!("SELECT * FROM v{view}")).await.unwrap());
        let expected = sorted(&cluster.run(query).await.unwrap());
        assert!(!expected.is_empty(), "{query}");
        assert_eq!(found, expected, "{at}: {query}");
    }
    // By its key, a text, which tells where the row is.
    for text in sorted(&cluster.run("SELECT s FROM v5").await.unwrap()) {
        let found = cluster.run(&format!("SELECT s FROM v5 WHERE s = '{text}'")).await.unwrap();
        assert_eq!(sorted(&found), [text], "{at}");
    }
}

#[test]
fn rows_are_where_their_keys_are_on_any_number_of_workers_and_processes() {
    let layouts = [(1, 1), (2, 1), (1, 3), (3, 1), (1, 2), (2, 2), (2, 1), (1, 1)];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Arc::new(FaultyStore::default());
        let mut before = Default::default();
        for (round, (processes, workers)) in layouts.into_iter().enumerate() {
            let layout = Layout { processes, workers };
            let cluster = Cluster::open(layout, &store).await.unwrap();
            if round == 0 {
                for sql in TABLES {
                    cluster.run(sql).await.unwrap();
                }
                for (view, query) in QUERIES.iter().enumerate() {
                    let create = format!("CREATE MATERIALIZED VIEW v{view} AS {query}");
                    cluster.run(&create).await.unwrap();
                }
            } else {
                let at = format!("{layout}, restarted");
                assert_eq!(tables(&cluster, &at).await, before, "{at}");
                check(&cluster, &at).await;
            }
            for change in changes(round) {
                cluster.run(&change).await.unwrap();
            }
            let at = format!("{layout}, changed");
            check(&cluster, &at).await;
            before = tables(&cluster, &at).await;
            cluster.stop().await.unwrap();
        }
    });
}
