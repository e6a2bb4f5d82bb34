//! Statements that write the same rows at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cluster::{Cluster, Layout};
use super::world::sorted;
use crate::env::faulty_store::FaultyStore;

async fn cluster(create: &str) -> Arc<Cluster> {
    let layout = Layout { processes: 1, workers: 2 };
    let cluster = Cluster::open(layout, &Arc::new(FaultyStore::default())).await.unwrap();
    cluster.run(create).await.unwrap();
    Arc::new(cluster)
}

/// Runs a statement again and again until `done`.
fn repeat(
    cluster: &Arc<Cluster>,
    done: &Arc<AtomicBool>,
    sql: &'static str,
) -> tokio::task::JoinHandle<()> {
    let (cluster, done) = (Arc::clone(cluster), Arc::clone(done));
    tokio::spawn(async move {
        while !done.load(Ordering::SeqCst) {
            cluster.run(sql).await.unwrap();
        }
    })
}

/// Runs `sql` some times in each of some tasks, which race.
async fn race(cluster: &Arc<Cluster>, tasks: usize, times: usize, sql: &'static str) {
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let cluster = Arc::clone(cluster);
            tokio::spawn(async move {
                for _ in 0..times {
                    cluster.run(sql).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// An UPDATE of another column and a DELETE of other values had read before the INSERT: they may
/// not put back what they had read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_insert_is_undone_by_an_update_or_delete_that_had_read_before_it() {
    let cluster = cluster("CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT, x BIGINT)").await;
    cluster.run("INSERT INTO t VALUES (1, 0, 0)").await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let others = [
        repeat(&cluster, &done, "UPDATE t SET x = x + 1 WHERE k = 1"),
        repeat(&cluster, &done, "UPDATE t SET x = x - 1"),
        repeat(&cluster, &done, "DELETE FROM t WHERE v % 2 = 1"),
    ];
    for number in 1..=60 {
        // An odd one may be deleted before the even one comes, but never together with it.
        let odd = format!("INSERT INTO t VALUES (1, {}, 0)", 2 * number - 1);
        cluster.run(&odd).await.unwrap();
        cluster.run(&format!("INSERT INTO t VALUES (1, {}, 0)", 2 * number)).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let found = sorted(&cluster.run("SELECT v FROM t").await.unwrap());
        assert_eq!(found, [(2 * number).to_string()]);
    }
    done.store(true, Ordering::SeqCst);
    for other in others {
        other.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_acknowledged_update_of_a_counter_counts() {
    let cluster = cluster("CREATE TABLE t (k BIGINT PRIMARY KEY, n BIGINT)").await;
    cluster.run("INSERT INTO t VALUES (1, 0), (2, 0)").await.unwrap();
    race(&cluster, 6, 10, "UPDATE t SET n = n + 1").await;
    let found = sorted(&cluster.run("SELECT n FROM t").await.unwrap());
    assert_eq!(found, ["60", "60"]);
}

/// Without a key a row that is retracted twice would fail the table.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_without_a_key_is_replaced_once() {
    let cluster = cluster("CREATE TABLE t (n BIGINT)").await;
    cluster.run("INSERT INTO t VALUES (0)").await.unwrap();
    race(&cluster, 4, 8, "UPDATE t SET n = n + 1").await;
    assert_eq!(sorted(&cluster.run("SELECT n FROM t").await.unwrap()), ["32"]);
    race(&cluster, 4, 1, "DELETE FROM t").await;
    assert!(cluster.run("SELECT n FROM t").await.unwrap().is_empty());
}
