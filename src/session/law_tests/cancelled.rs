//! Statements that a client gives up while they run.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::cluster::{Cluster, Layout};
use super::rows::sorted;
use crate::env::faulty_store::FaultyStore;

#[test]
fn a_cancelled_statement_is_done_whole_before_the_next() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let layout = Layout { processes: 1, workers: 2 };
        let cluster = Cluster::open(layout, &Arc::new(FaultyStore::default())).await.unwrap();
        let create = "CREATE TABLE t (a BIGINT)";
        match timeout(Duration::ZERO, cluster.run(create)).await {
            // It was done before the client gave it up, which takes up to a millisecond.
            Ok(created) => _ = created.unwrap(),
            // A CREATE is taken back.
            Err(_) => _ = cluster.run(create).await.unwrap(),
        }
        cluster.run("INSERT INTO t VALUES (1), (2)").await.unwrap();
        cluster.run("CREATE MATERIALIZED VIEW v AS SELECT sum(a) AS a FROM t").await.unwrap();
        let update = "UPDATE t SET a = a * 10";
        let _ = timeout(Duration::ZERO, cluster.run(update)).await;
        cluster.run(update).await.unwrap();
        let delete = "DELETE FROM t WHERE a = 100";
        let _ = timeout(Duration::ZERO, cluster.run(delete)).await;
        cluster.run(delete).await.unwrap();
        // Given up before it had begun, or done whole and before the statement that follows it; a
        // cancelled UPDATE that came later would give 300.
        let found = sorted(&cluster.run("SELECT * FROM v").await.unwrap());
        assert!(found == ["200"] || found == ["30"], "{found:?}");
        cluster.stop().await.unwrap();
    });
}

#[test]
fn a_failed_view_is_resumed_by_a_statement() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // Two processes: one of them plans the text.
        let layout = Layout { processes: 2, workers: 1 };
        let cluster = Cluster::open(layout, &Arc::new(FaultyStore::default())).await.unwrap();
        for sql in [
            "CREATE TABLE t (k BIGINT PRIMARY KEY, a BIGINT)",
            "CREATE MATERIALIZED VIEW v AS SELECT k, 12 / a AS q FROM t",
            "CREATE MATERIALIZED VIEW total AS SELECT sum(q) AS s FROM v",
            "INSERT INTO t VALUES (1, 2), (2, 3)",
        ] {
            cluster.run(sql).await.unwrap();
        }
        let resume = "ALTER MATERIALIZED VIEW v RESUME";
        let refused = |error: crate::error::Error| (error.kind.sqlstate(), error.hint);
        let hint = Some("SHOW JOBS shows what has".to_string());
        assert_eq!(refused(cluster.run(resume).await.unwrap_err()), ("55000", hint));
        for (sql, state) in [
            ("ALTER TABLE v RESUME", "42809"),
            ("ALTER TABLE nothing RESUME", "42P01"),
            ("ALTER TABLE t ADD COLUMN b INT", "0A000"),
        ] {
            assert_eq!(refused(cluster.run(sql).await.unwrap_err()).0, state, "{sql}");
        }
        cluster.run("UPDATE t SET a = 0 WHERE k = 2").await.unwrap();
        let read = || cluster.run("SELECT s FROM total");
        let error = loop {
            match read().await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(error) => break error,
            }
        };
        let hint = "look at SHOW JOBS; ALTER MATERIALIZED VIEW v RESUME starts it again";
        assert_eq!(error.hint.as_deref(), Some(hint));
        cluster.run("UPDATE t SET a = 4 WHERE k = 2").await.unwrap();
        cluster.run(resume).await.unwrap();
        assert_eq!(sorted(&read().await.unwrap()), ["9"]);
        cluster.run("INSERT INTO t VALUES (3, 1)").await.unwrap();
        assert_eq!(sorted(&read().await.unwrap()), ["21"]);
        cluster.stop().await.unwrap();
    });
}
