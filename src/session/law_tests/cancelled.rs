//! Statements that a client gives up while they run.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::cluster::{Cluster, Layout};
use super::world::sorted;
use crate::env::faulty_store::FaultyStore;

#[test]
fn a_cancelled_statement_is_done_whole_before_the_next() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let layout = Layout { processes: 1, workers: 2 };
        let cluster = Cluster::open(layout, &Arc::new(FaultyStore::default())).await.unwrap();
        let create = "CREATE TABLE t (a BIGINT)";
        assert!(timeout(Duration::ZERO, cluster.run(create)).await.is_err());
        let again = cluster.run(create).await.unwrap_err();
        assert!(again.to_string().contains("already exists"), "{again}");
        cluster.run("INSERT INTO t VALUES (1), (2)").await.unwrap();
        cluster.run("CREATE MATERIALIZED VIEW v AS SELECT sum(a) AS a FROM t").await.unwrap();
        let update = "UPDATE t SET a = a * 10";
        assert!(timeout(Duration::ZERO, cluster.run(update)).await.is_err());
        cluster.run(update).await.unwrap();
        let delete = "DELETE FROM t WHERE a = 100";
        assert!(timeout(Duration::ZERO, cluster.run(delete)).await.is_err());
        cluster.run(delete).await.unwrap();
        assert_eq!(sorted(&cluster.run("SELECT * FROM v").await.unwrap()), ["200"]);
        cluster.stop().await.unwrap();
    });
}
