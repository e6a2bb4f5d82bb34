//! What random scripts have found, as the SQL that showed it.

use std::sync::Arc;

use object_store::memory::InMemory;

use super::cluster::{Cluster, Layout};
use super::world::sorted;

/// Runs the statements, makes a view of the query, runs what comes then, and expects these rows of
/// the view, of its query, and of the view after a restart.
fn check(before: &[&str], query: &str, then: &[&str], expected: &[&str]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Arc::new(InMemory::new());
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
