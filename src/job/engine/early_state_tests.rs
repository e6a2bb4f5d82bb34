//! State of a new relation is written while it catches up: nothing of it is left if it comes to
//! nothing. In tests a few rows of state are an object.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use super::testing::{TABLE, apply_all, failed, insert, open, read};
use super::*;
use crate::env::faulty_store::{FaultyStore, StoreFault};

const ROWS: i64 = 2000;
const VIEW: &str = "CREATE MATERIALIZED VIEW v AS SELECT k, 10 / a AS x FROM t";
const JOIN: &str = "CREATE MATERIALIZED VIEW j AS SELECT x.k AS k, y.a AS a FROM t x \
                    JOIN t y ON x.k = y.k";

/// An engine over a table in whose last rows `a` comes to 0.
async fn with_rows(store: &Arc<FaultyStore>, workers: usize) -> (Env, Engine) {
    let env = Env::real(Arc::clone(store) as Arc<dyn ObjectStore>).unwrap();
    let engine = open(&env, workers).await;
    apply_all(&engine, &[TABLE]).await;
    insert(&engine, "t", (0..ROWS).map(|key| (key, ROWS - 1 - key))).await.unwrap();
    (env, engine)
}

async fn state_objects(store: &FaultyStore) -> BTreeSet<String> {
    let objects = store.list(Some(&Path::from("state"))).map_ok(|it| it.location.to_string());
    objects.try_collect().await.unwrap()
}

/// Waits until the state objects are these.
async fn until_state_is(expected: &BTreeSet<String>, store: &FaultyStore) {
    let waiting = async {
        while state_objects(store).await != *expected {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    waited.expect("objects are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_fails_leaves_no_object() {
    for workers in [1, 2] {
        let store = Arc::new(FaultyStore::default());
        let (env, engine) = with_rows(&store, workers).await;
        let (before, puts) = (state_objects(&store).await, store.puts());
        let error = engine.apply(VIEW).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::DivisionByZero, "{error}");
        assert!(store.puts() > puts + 20, "{} objects", store.puts() - puts);
        until_state_is(&before, &store).await;

        insert(&engine, "t", [(ROWS - 1, 1)]).await.unwrap();
        apply_all(&engine, &[VIEW]).await;
        assert_eq!(read(&engine, "v").unwrap().len() as i64, ROWS);
        let rows = read(&engine, "v").unwrap();
        engine.shutdown().await.unwrap();
        let engine = open(&env, 3 - workers).await;
        assert_eq!(read(&engine, "v").unwrap(), rows);
        engine.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_is_given_up_leaves_no_object() {
    let store = Arc::new(FaultyStore::default());
    let (_, engine) = with_rows(&store, 2).await;
    let (before, puts) = (state_objects(&store).await, store.puts());
    let wanted = async {
        while store.puts() < puts + 20 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = wanted => {}
        made = engine.apply(JOIN) => panic!("nothing was written before the end: {made:?}"),
    }
    until_state_is(&before, &store).await;
    apply_all(&engine, &[JOIN, "DROP MATERIALIZED VIEW j"]).await;
    engine.shutdown().await.unwrap();
    assert_eq!(state_objects(&store).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_while_a_view_catches_up_fails_its_create_alone() {
    let store = Arc::new(FaultyStore::default());
    let (env, engine) = with_rows(&store, 2).await;
    let before = state_objects(&store).await;
    for calls in [0, 7, 50] {
        store.fail_after(calls, StoreFault::Once);
        let error = engine.apply(JOIN).await.unwrap_err();
        assert!(error.to_string().contains("the test has this call fail"), "{error}");
        assert!(engine.catalog().get("j").is_none());
        until_state_is(&before, &store).await;
    }
    insert(&engine, "t", [(1, 2)]).await.unwrap();
    apply_all(&engine, &[JOIN]).await;
    let rows = read(&engine, "t").unwrap();
    engine.shutdown().await.unwrap();
    let engine = open(&env, 1).await;
    assert_eq!(read(&engine, "j").unwrap(), rows);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_removes_what_a_crash_in_a_create_has_left() {
    let store = Arc::new(FaultyStore::default());
    let (_, engine) = with_rows(&store, 2).await;
    let (before, puts) = (state_objects(&store).await, store.puts());
    let creating = {
        let engine = engine.clone();
        tokio::spawn(async move { engine.apply(JOIN).await })
    };
    while store.puts() < puts + 20 {
        tokio::task::yield_now().await;
    }
    let crashed = Arc::new(store.fork());
    creating.await.unwrap().unwrap();
    engine.shutdown().await.unwrap();

    assert!(state_objects(&crashed).await.len() > before.len());
    let env = Env::real(Arc::clone(&crashed) as Arc<dyn ObjectStore>).unwrap();
    let engine = open(&env, 2).await;
    assert!(engine.catalog().get("j").is_none());
    until_state_is(&before, &crashed).await;
    apply_all(&engine, &[JOIN]).await;
    assert_eq!(read(&engine, "j").unwrap(), read(&engine, "t").unwrap());
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_that_fails_leaves_the_state_as_it_was() {
    let store = Arc::new(FaultyStore::default());
    let (env, engine) = with_rows(&store, 2).await;
    insert(&engine, "t", [(ROWS - 1, 1)]).await.unwrap();
    let follower = "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n, sum(x) AS s FROM v";
    apply_all(&engine, &[VIEW, follower]).await;
    let id = engine.catalog().get("v").unwrap().id;
    insert(&engine, "t", [(ROWS - 1, 0)]).await.unwrap();
    super::testing::until("it has failed", || failed(&engine).contains_key("v")).await;
    engine.shutdown().await.unwrap();

    // No merge is under way, which also makes objects.
    let engine = open(&env, 2).await;
    let (before, puts) = (state_objects(&store).await, store.puts());
    let error = engine.resume(id).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DivisionByZero, "{error}");
    assert!(store.puts() > puts + 2, "{} objects", store.puts() - puts);
    until_state_is(&before, &store).await;
    insert(&engine, "t", [(ROWS - 1, 1)]).await.unwrap();
    engine.resume(id).await.unwrap();
    let rows = read(&engine, "v").unwrap();
    assert_eq!(rows.len() as i64, ROWS);
    engine.shutdown().await.unwrap();
    let engine = open(&env, 1).await;
    assert!(failed(&engine).is_empty(), "{:?}", failed(&engine));
    assert_eq!(read(&engine, "v").unwrap(), rows);
    assert_eq!(read(&engine, "n").unwrap()[0][0], ROWS);
    engine.shutdown().await.unwrap();
}
