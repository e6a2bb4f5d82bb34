//! Statements that write the same rows at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cluster::{Cluster, Layout};
use super::rows::sorted;
use crate::env::faulty_store::FaultyStore;

/// Rows are in one process, or in two of them.
const LAYOUTS: [Layout; 2] =
    [Layout { processes: 1, workers: 2 }, Layout { processes: 2, workers: 1 }];

async fn cluster(layout: Layout, create: &str) -> Arc<Cluster> {
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
async fn check_inserts_stay(layout: Layout) {
    let create = "CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT, x BIGINT)";
    let cluster = cluster(layout, create).await;
    let rows = |v: i64| (1..=4).map(|k| format!("({k}, {v}, 0)")).collect::<Vec<_>>().join(", ");
    cluster.run(&format!("INSERT INTO t VALUES {}", rows(0))).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let others = [
        repeat(&cluster, &done, "UPDATE t SET x = x + 1 WHERE k = 1"),
        repeat(&cluster, &done, "UPDATE t SET x = x - 1"),
        repeat(&cluster, &done, "DELETE FROM t WHERE v % 2 = 1"),
    ];
    for number in 1..=40 {
        // Odd ones may be deleted before the even ones come, but never together with them.
        for v in [2 * number - 1, 2 * number] {
            cluster.run(&format!("INSERT INTO t VALUES {}", rows(v))).await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let found = sorted(&cluster.run("SELECT v FROM t").await.unwrap());
        assert_eq!(found, vec![(2 * number).to_string(); 4], "{layout}");
    }
    done.store(true, Ordering::SeqCst);
    for other in others {
        other.await.unwrap();
    }
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_insert_is_undone_by_an_update_or_delete_that_had_read_before_it() {
    for layout in LAYOUTS {
        check_inserts_stay(layout).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_acknowledged_update_of_a_counter_counts() {
    for layout in LAYOUTS {
        let cluster = cluster(layout, "CREATE TABLE t (k BIGINT PRIMARY KEY, n BIGINT)").await;
        cluster.run("INSERT INTO t SELECT g, 0 FROM generate_series(1, 9) AS g").await.unwrap();
        race(&cluster, 6, 10, "UPDATE t SET n = n + 1").await;
        race(&cluster, 6, 10, "UPDATE t SET n = n + 1 WHERE k IN (2, 3, 4)").await;
        let found = sorted(&cluster.run("SELECT n FROM t").await.unwrap());
        assert_eq!(found, ["120", "120", "120", "60", "60", "60", "60", "60", "60"], "{layout}");
        cluster.stop().await.unwrap();
    }
}

/// Each task counts and is told the new count: no two are told the same, whoever made the row.
async fn told_counts(cluster: &Arc<Cluster>, tasks: usize, sql: &'static str) -> Vec<String> {
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let cluster = Arc::clone(cluster);
            tokio::spawn(async move {
                let mut told = Vec::new();
                for _ in 0..10 {
                    told.extend(sorted(&cluster.run(sql).await.unwrap()));
                }
                told
            })
        })
        .collect();
    let mut told = Vec::new();
    for task in tasks {
        told.extend(task.await.unwrap());
    }
    told.sort_by_key(|count| count.parse::<u64>().unwrap());
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_acknowledged_upsert_counts_and_is_told_its_own_row() {
    for layout in LAYOUTS {
        let cluster = cluster(layout, "CREATE TABLE t (k BIGINT PRIMARY KEY, n BIGINT)").await;
        let upsert = "INSERT INTO t VALUES (1, 1), (2, 1) ON CONFLICT (k)
                      DO UPDATE SET n = t.n + excluded.n RETURNING n";
        let told = told_counts(&cluster, 6, upsert).await;
        let once = (1..=60).map(|count: u64| count.to_string());
        let expected: Vec<String> = once.flat_map(|count| [count.clone(), count]).collect();
        assert_eq!(told, expected, "{layout}");
        let told = told_counts(&cluster, 6, "UPDATE t SET n = n + 1 WHERE k = 2 RETURNING n").await;
        let expected: Vec<String> = (61..=120).map(|count: u64| count.to_string()).collect();
        assert_eq!(told, expected, "{layout}");
        cluster.stop().await.unwrap();
    }
}

/// Of those that want to be first, one is, and its row stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_inserts_that_do_nothing_on_conflict_makes_a_row() {
    for layout in LAYOUTS {
        let cluster = cluster(layout, "CREATE TABLE t (k BIGINT PRIMARY KEY, n BIGINT)").await;
        for round in 0..12 {
            let insert = |n: usize| {
                let sql = format!(
                    "INSERT INTO t VALUES ({round}, {n}) ON CONFLICT DO NOTHING RETURNING n"
                );
                let cluster = Arc::clone(&cluster);
                tokio::spawn(async move { sorted(&cluster.run(&sql).await.unwrap()) })
            };
            let tasks: Vec<_> = (0..6).map(insert).collect();
            let mut told = Vec::new();
            for task in tasks {
                told.extend(task.await.unwrap());
            }
            let found = cluster.run(&format!("SELECT n FROM t WHERE k = {round}")).await.unwrap();
            assert_eq!(told, sorted(&found), "{layout}");
            assert_eq!(told.len(), 1, "{layout}");
        }
        cluster.stop().await.unwrap();
    }
}

/// Without a key a row that is retracted twice would fail the table.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_without_a_key_is_replaced_once() {
    for layout in LAYOUTS {
        let cluster = cluster(layout, "CREATE TABLE t (n BIGINT)").await;
        cluster.run("INSERT INTO t VALUES (0), (100), (200)").await.unwrap();
        race(&cluster, 4, 8, "UPDATE t SET n = n + 1").await;
        let found = sorted(&cluster.run("SELECT n FROM t").await.unwrap());
        assert_eq!(found, ["132", "232", "32"], "{layout}");
        race(&cluster, 4, 1, "DELETE FROM t").await;
        assert!(cluster.run("SELECT n FROM t").await.unwrap().is_empty());
        cluster.stop().await.unwrap();
    }
}

/// Statements move amounts between rows of all shards, and each read of the table and of a view of
/// it sees all of them whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_sees_one_epoch_of_the_shards_of_all_processes() {
    for layout in LAYOUTS {
        let cluster = cluster(layout, "CREATE TABLE t (k BIGINT PRIMARY KEY, n BIGINT)").await;
        cluster.run("INSERT INTO t SELECT g, 100 FROM generate_series(1, 50) AS g").await.unwrap();
        let view = "CREATE MATERIALIZED VIEW v AS SELECT k % 2 AS g, sum(n) AS n FROM t GROUP BY 1";
        cluster.run(view).await.unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let others = [
            repeat(&cluster, &done, "UPDATE t SET n = n + CASE WHEN k % 2 = 0 THEN 1 ELSE -1 END"),
            repeat(&cluster, &done, "UPDATE t SET n = n - 3 + k % 7 WHERE k <= 49"),
        ];
        for round in 0..60 {
            let found = cluster.run(
                "SELECT (SELECT sum(n) FROM t) AS n, (SELECT sum(n) FROM v) AS m, \
                 (SELECT count(*) FROM t WHERE n IS NOT NULL) AS c",
            );
            let found = sorted(&found.await.unwrap());
            assert_eq!(found, ["5000 | 5000 | 50"], "{layout}, {round}");
        }
        done.store(true, Ordering::SeqCst);
        for other in others {
            other.await.unwrap();
        }
        cluster.stop().await.unwrap();
    }
}
