//! What an engine does when memory is short.

use std::time::Duration;

use object_store::memory::InMemory;

use super::tests::{changes, read, stop, write};
use super::*;
use crate::config::ByteSize;
use crate::job::JobState;

const LIMIT: u64 = 600_000;

async fn open(env: &Env) -> Engine {
    let config = Config {
        workers: 2,
        epoch_interval_ms: 0,
        memory_limit: ByteSize(LIMIT),
        ..Config::default()
    };
    Engine::open(config, env.clone()).await.unwrap()
}

fn state(engine: &Engine, name: &str) -> JobState {
    engine.jobs().into_iter().find(|job| job.name == name).unwrap().state
}

async fn until(what: &str, is_true: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_true() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not in time: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_job_fails_and_the_others_continue() {
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let engine = open(&env).await;
    for sql in [
        "CREATE TABLE small (k BIGINT PRIMARY KEY, g BIGINT)",
        "CREATE MATERIALIZED VIEW sums AS SELECT k, sum(g) AS g FROM small GROUP BY k",
        "CREATE TABLE big (k BIGINT PRIMARY KEY, g BIGINT)",
        "CREATE MATERIALIZED VIEW copy AS SELECT k, g + 1 AS g FROM big",
    ] {
        engine.apply(sql).await.unwrap();
    }
    write(&engine, "small", changes(&[(1, 10), (2, 20)])).await;
    let big = engine.catalog().get("big").unwrap().id;
    let mut refused = None;
    for first in (0..1_000_000).step_by(500) {
        let rows: Vec<(i64, i64)> = (first..first + 500).map(|key| (key, key)).collect();
        if let Err(error) = engine.write(big, vec![changes(&rows)]).await {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.unwrap();
    let kinds = [ErrorKind::StateTooLarge, ErrorKind::JobFailed];
    assert!(kinds.contains(&refused.kind), "{refused:?}");
    until("memory comes back", || engine.memory().total() < LIMIT / 4).await;
    until("the job has failed", || matches!(state(&engine, "big"), JobState::Failed { .. })).await;
    let failure = engine.inner.state.failure(big).unwrap();
    assert_eq!(failure.kind.sqlstate(), "53200", "{failure:?}");
    assert!(failure.hint.unwrap().contains("memory_limit"));
    assert!(matches!(state(&engine, "copy"), JobState::Failed { .. }));

    write(&engine, "small", changes(&[(2, 5), (3, 30)])).await;
    assert_eq!(read(&engine, "sums"), [(1, 10), (2, 5), (3, 30)]);
    assert_eq!(state(&engine, "sums"), JobState::Running);
    engine.shutdown().await.unwrap();

    // The failure is in the manifest: the state is not even read.
    let engine = open(&env).await;
    assert!(matches!(state(&engine, "big"), JobState::Failed { .. }));
    assert_eq!(read(&engine, "sums"), [(1, 10), (2, 5), (3, 30)]);
    engine.apply("DROP TABLE big CASCADE").await.unwrap();
    stop(engine).await;
}
