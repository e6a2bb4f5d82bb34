//! Failure belongs to a job: the engine and all other jobs continue.

use std::time::Duration;

use arrow::array::RecordBatch;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::testing::{TABLE, apply_all, env, failed, insert, only_number, open, pairs};
use super::*;
use crate::checkpoint::Manifests;
use crate::checkpoint::testing::{edit_manifest, newest_manifest};

fn rows(engine: &Engine, name: &str) -> Result<RecordBatch> {
    let catalog = engine.catalog();
    let relation = catalog.get(name).unwrap();
    let batches = engine.snapshot().relation(relation.id).unwrap().batches_here(None)?;
    Ok(arrow::compute::concat_batches(&relation.schema, &batches)?)
}

const COUNT: &str = "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM t";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_cannot_be_made_fails_its_create_alone() {
    let env = env();
    let engine = open(&env, 2).await;
    apply_all(&engine, &[TABLE, COUNT]).await;
    let sql = "CREATE MATERIALIZED VIEW m AS SELECT map(ARRAY['a'], ARRAY[a]) AS m FROM t";
    let error = engine.apply(sql).await.unwrap_err();
    assert_eq!((error.kind, error.hint.is_some()), (ErrorKind::Unsupported, true), "{error}");
    insert(&engine, "t", [(1, 1), (2, 2)]).await.unwrap();
    assert_eq!(only_number(&engine, "n"), 2);
    assert!(engine.catalog().get("m").is_none());
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_an_operator_fails_its_job_and_what_follows_it() {
    let store = env();
    // Within the backfill of the first CREATE.
    let engine = open(&store.clone().with_fault("operator.panic.v:3").unwrap(), 2).await;
    apply_all(&engine, &[TABLE, COUNT]).await;
    insert(&engine, "t", [(1, 1), (2, 2)]).await.unwrap();
    let view = "CREATE MATERIALIZED VIEW v AS SELECT a, count(*) AS n FROM t GROUP BY a";
    let error = engine.apply(view).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert!(error.to_string().contains("panic: fault point"), "{error}");
    assert!(engine.catalog().get("v").is_none());
    apply_all(&engine, &[view, "DROP MATERIALIZED VIEW v"]).await;
    engine.shutdown().await.unwrap();

    // Some epochs after it.
    let engine = open(&store.clone().with_fault("operator.panic.v:60").unwrap(), 2).await;
    apply_all(&engine, &[view, "CREATE MATERIALIZED VIEW w AS SELECT a FROM v"]).await;
    let mut key = 10;
    while failed(&engine).is_empty() {
        insert(&engine, "t", [(key, key)]).await.unwrap();
        key += 1;
        assert!(key < 200);
    }
    insert(&engine, "t", [(key, key)]).await.unwrap();
    assert_eq!(only_number(&engine, "n"), key - 10 + 3);
    let check = |engine: &Engine| {
        let failed = failed(engine);
        assert_eq!(failed.keys().collect::<Vec<_>>(), ["v", "w"]);
        assert!(failed["v"].contains("panic: fault point"), "{failed:?}");
        assert!(failed["w"].contains("\"v\", which it reads, has failed"), "{failed:?}");
        let error = rows(engine, "v").unwrap_err();
        assert_eq!(error.kind, ErrorKind::JobFailed);
        assert_eq!(error.source.unwrap().kind, ErrorKind::Internal);
    };
    check(&engine);
    let error = engine.apply("CREATE MATERIALIZED VIEW x AS SELECT a FROM w").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::JobFailed);
    engine.shutdown().await.unwrap();

    // The failure is remembered, the rest runs, and the view can be made again.
    let engine = open(&store, 1).await;
    check(&engine);
    insert(&engine, "t", [(1000, 1)]).await.unwrap();
    apply_all(&engine, &["DROP MATERIALIZED VIEW v CASCADE", view]).await;
    assert_eq!(rows(&engine, "v").unwrap().num_rows() as i64, only_number(&engine, "n") - 1);
    assert!(failed(&engine).is_empty());
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_whose_backfill_fails_answers_with_the_error_and_leaves_nothing() {
    let env = env();
    for workers in [1, 2] {
        let engine = open(&env, workers).await;
        if workers == 1 {
            apply_all(&engine, &[TABLE, COUNT]).await;
            insert(&engine, "t", [(1, 0), (2, 5)]).await.unwrap();
        }
        let sql = "CREATE MATERIALIZED VIEW v AS SELECT k, 10 / a AS q FROM t";
        for _ in 0..3 {
            let error = engine.apply(sql).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::DivisionByZero, "{error}");
            assert!(error.to_string().starts_with("v: "), "{error}");
            assert!(engine.catalog().get("v").is_none());
            assert!(failed(&engine).is_empty());
        }
        engine.shutdown().await.unwrap();
        let manifest = newest_manifest(&env).await;
        assert_eq!(manifest.catalog.statements.len(), 2);
        assert!(manifest.failed.is_empty(), "{manifest:?}");
    }
    let engine = open(&env, 2).await;
    apply_all(&engine, &["CREATE MATERIALIZED VIEW v AS SELECT k, a FROM t WHERE a > 0"]).await;
    assert_eq!(rows(&engine, "v").unwrap().num_rows(), 1);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_whose_backfill_fails_leaves_no_target() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().display();
    let sink = |query: &str| {
        format!(
            "CREATE SINK s AS {query} WITH (connector = 'iceberg', catalog.type = 'sql', \
             catalog.uri = 'sqlite://{lake}/lake.db', warehouse.path = '{lake}/lake', \
             database.name = 'd', table.name = 't', create_table_if_not_exists = 'true')"
        )
    };
    let engine = open(&env(), 2).await;
    apply_all(&engine, &[TABLE]).await;
    insert(&engine, "t", [(1, 0), (2, 5)]).await.unwrap();
    let error = engine.apply(&sink("SELECT k, 10 / a AS q FROM t")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DivisionByZero, "{error}");
    let metadata = || {
        let folder = folder.path().join("lake/d/t/metadata");
        std::fs::read_dir(folder).map_or(0, std::iter::Iterator::count)
    };
    assert_eq!(metadata(), 0);
    // Of other columns than the first one.
    apply_all(&engine, &[&sink("SELECT k, CAST(a AS TEXT) AS q FROM t")]).await;
    engine.flush().await.unwrap();
    assert!(metadata() > 0);
    let jobs = engine.jobs();
    let status = jobs.iter().find(|job| job.name == "s").unwrap().sink.as_ref().unwrap();
    assert_eq!(status.row_count, Some(2));
    engine.shutdown().await.unwrap();
}

/// A failure may come at any time between the check of a CREATE and the end of its backfill.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_created_over_a_table_that_fails_meanwhile_never_runs() {
    // The creation of the table itself takes the first steps.
    for countdown in (16..52).step_by(3) {
        let store = env();
        let fault = format!("operator.error.t:{countdown}");
        let engine = open(&store.clone().with_fault(&fault).unwrap(), 2).await;
        apply_all(&engine, &["CREATE TABLE u (k BIGINT PRIMARY KEY, a BIGINT)", TABLE]).await;
        let writer = {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut key = 0;
                while insert(&engine, "t", [(key, key)]).await.is_ok() && key < 100 {
                    key += 1;
                }
            })
        };
        let mut created = Vec::new();
        for number in 0.. {
            let sql = format!("CREATE MATERIALIZED VIEW v{number} AS SELECT count(*) AS n FROM t");
            match engine.apply(&sql).await {
                Ok(_) => created.push(format!("v{number}")),
                Err(error) => {
                    assert!(error.to_string().contains("fault point"), "{error}");
                    break;
                }
            }
        }
        writer.await.unwrap();
        let check = |engine: &Engine| {
            let failed: Vec<String> = failed(engine).into_keys().collect();
            assert_eq!(failed[0], "t");
            created.sort_unstable();
            assert_eq!(failed[1..], created[..]);
        };
        let mut check = check;
        check(&engine);
        engine.shutdown().await.unwrap();
        let engine = open(&store, 2).await;
        check(&engine);
        insert(&engine, "u", [(1, 1)]).await.unwrap();
        engine.shutdown().await.unwrap();
    }
}

/// The clock was put back between two starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_epochs_never_goes_back() {
    let env = env();
    let started = env.now_ms();
    let mut times = Vec::new();
    for key in 0..3 {
        let engine = open(&env, 2).await;
        if key == 0 {
            apply_all(&engine, &[TABLE]).await;
        }
        insert(&engine, "t", [(key, key)]).await.unwrap();
        engine.shutdown().await.unwrap();
        times.push(newest_manifest(&env).await.now_ms);
        if key == 0 {
            edit_manifest(&env, |manifest| manifest.now_ms = started + 86_400_000).await;
        }
    }
    assert!(times[0] >= started && times[0] <= env.now_ms(), "{times:?}");
    assert_eq!(times[1..], [started + 86_400_000; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_fails_what_it_cannot_bind_or_read_and_runs_the_rest() {
    let env = env();
    let engine = open(&env, 2).await;
    apply_all(
        &engine,
        &[
            TABLE,
            COUNT,
            "CREATE MATERIALIZED VIEW unbound AS SELECT a FROM t",
            "CREATE MATERIALIZED VIEW over_unbound AS SELECT a FROM unbound",
        ],
    )
    .await;
    insert(&engine, "t", [(1, 1), (2, 1)]).await.unwrap();
    // Its rows are in an object of their own.
    apply_all(&engine, &["CREATE MATERIALIZED VIEW lost AS SELECT a, k FROM t"]).await;
    apply_all(&engine, &["CREATE MATERIALIZED VIEW over_lost AS SELECT sum(k) AS s FROM lost"])
        .await;
    let lost = engine.catalog().get("lost").unwrap().id;
    engine.shutdown().await.unwrap();

    edit_manifest(&env, |manifest| {
        let (bound, unbound) =
            ("unbound AS SELECT a FROM t", "unbound AS SELECT no_function(a) FROM t");
        for statement in &mut manifest.catalog.edit().statements {
            statement.sql = statement.sql.replace(bound, unbound);
        }
    })
    .await;
    let mut removed = 0;
    for segment in newest_manifest(&env).await.state[&lost].iter() {
        let object = Path::from(segment.object.as_str());
        removed += usize::from(env.store().delete(&object).await.is_ok());
    }
    assert!(removed > 0);

    let check = |engine: &Engine| {
        let failed = failed(engine);
        let names: Vec<&str> = failed.keys().map(String::as_str).collect();
        assert_eq!(names, ["lost", "over_lost", "over_unbound", "unbound"], "{failed:?}");
        assert!(failed["unbound"].contains("no_function"), "{failed:?}");
        assert!(failed["lost"].contains("is missing"), "{failed:?}");
    };
    for workers in [2, 1] {
        let engine = open(&env, workers).await;
        check(&engine);
        insert(&engine, "t", [(2 + workers as i64, 7)]).await.unwrap();
        engine.shutdown().await.unwrap();
    }
    let engine = open(&env, 2).await;
    check(&engine);
    assert_eq!(only_number(&engine, "n"), 4);
    let error = engine.apply("CREATE MATERIALIZED VIEW x AS SELECT * FROM unbound").await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::JobFailed);
    apply_all(
        &engine,
        &[
            "DROP MATERIALIZED VIEW unbound",
            "DROP MATERIALIZED VIEW over_unbound",
            "DROP MATERIALIZED VIEW lost CASCADE",
            "CREATE MATERIALIZED VIEW lost AS SELECT a, k FROM t",
        ],
    )
    .await;
    assert!(failed(&engine).is_empty());
    assert_eq!(rows(&engine, "lost").unwrap().num_rows(), 4);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_sees_a_view_before_its_backfill_is_complete() {
    const ROWS: i64 = 50_000;
    let engine = open(&env(), 2).await;
    apply_all(&engine, &[TABLE]).await;
    let all: Vec<(i64, i64)> = (0..ROWS).map(|key| (key, key % 100)).collect();
    insert(&engine, "t", all).await.unwrap();
    let create = {
        let engine = engine.clone();
        tokio::spawn(async move {
            let sql = "CREATE MATERIALIZED VIEW v AS SELECT a, k, k + a AS s FROM t";
            engine.apply(sql).await.unwrap();
        })
    };
    let mut waited = 0;
    while engine.catalog().get("v").is_none() {
        waited += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(waited > 0);
    assert_eq!(rows(&engine, "v").unwrap().num_rows() as i64, ROWS);
    create.await.unwrap();
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_empty_epoch_follows_a_write() {
    let env = env();
    let config = Config { workers: 2, checkpoint_interval_ms: 20, ..Config::default() };
    let engine = Engine::open(config, env.clone()).await.unwrap();
    apply_all(&engine, &[TABLE]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let at = async || (engine.epoch(), newest_manifest(&env).await.sequence);
    for key in 0..5 {
        let before = at().await;
        insert(&engine, "t", [(key, key)]).await.unwrap();
        let after = at().await;
        assert_eq!(after.0, before.0 + 1);
        assert_ne!(after.1, before.1);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(at().await, after);
    }
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_message_is_kept_once_however_many_views_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, "{\"k\":1}\nBROKEN\n{\"k\":2}\n").unwrap();
    let engine = open(&env(), 2).await;
    let source = format!(
        "CREATE SOURCE s (k BIGINT) WITH (connector = 'files', path = '{}', follow = 'true') \
         FORMAT PLAIN ENCODE JSON",
        path.display()
    );
    let view =
        |name: &str| format!("CREATE MATERIALIZED VIEW {name} AS SELECT count(*) AS n FROM s");
    apply_all(&engine, &[&source, &view("v1"), &view("v2")]).await;
    engine.flush().await.unwrap();
    assert_eq!(rows(&engine, "s$errors").unwrap().num_rows(), 1);
    // Another one takes over.
    apply_all(&engine, &["DROP MATERIALIZED VIEW v1"]).await;
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, b"AGAIN\n{\"k\":3}\n").unwrap();
    engine.flush().await.unwrap();
    assert_eq!(only_number(&engine, "v2"), 3);
    assert_eq!(rows(&engine, "s$errors").unwrap().num_rows(), 2);
    engine.shutdown().await.unwrap();
}

/// Tables and views that come and go, and keys that do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_leaves_no_state_and_no_objects() {
    const ROUNDS: i64 = 8;
    let env = env();
    let engine = open(&env, 2).await;
    apply_all(&engine, &[TABLE, COUNT]).await;
    let table = engine.catalog().get("t").unwrap().id;
    let state_bytes = || engine.jobs().iter().map(|job| job.state_bytes).sum::<u64>();
    let mut sizes = Vec::new();
    for round in 0..ROUNDS {
        let many: Vec<(i64, i64)> = (0..1000).map(|key| (round * 1000 + key, key % 7)).collect();
        apply_all(
            &engine,
            &[
                "CREATE TABLE c (k BIGINT PRIMARY KEY, a BIGINT)",
                "CREATE MATERIALIZED VIEW w AS SELECT a, count(*) AS n FROM c GROUP BY a",
            ],
        )
        .await;
        insert(&engine, "c", many.clone()).await.unwrap();
        insert(&engine, "t", many.clone()).await.unwrap();
        let gone = pairs(many).into_parts().0;
        engine.write(table, vec![ChangeBatch::retractions(gone)]).await.unwrap();
        apply_all(&engine, &["DROP TABLE c CASCADE"]).await;
        // Workers report their figures twice a second.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        sizes.push(state_bytes());
    }
    assert!(sizes[ROUNDS as usize - 1] * 2 <= sizes[2] * 3, "{sizes:?}");
    assert_eq!(only_number(&engine, "n"), 0);
    let mut unnamed = Vec::new();
    for key in 0..20 {
        insert(&engine, "t", [(key, key)]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let manifest = newest_manifest(&env).await;
        unnamed = Manifests::reader(env.clone()).unnamed(&manifest).await.unwrap();
        if unnamed.is_empty() {
            break;
        }
    }
    assert!(unnamed.is_empty(), "{unnamed:?}");
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_whose_last_checkpoint_fails_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let env = Env::local(folder.path()).unwrap();
    let engine = open(&env, 1).await;
    apply_all(&engine, &[TABLE]).await;
    let manifests = folder.path().join("manifest");
    std::fs::rename(&manifests, folder.path().join("away")).unwrap();
    std::fs::write(&manifests, "").unwrap();
    let error = engine.shutdown().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
}

/// Whoever waits for an answer is let go before the coordinator has heard the reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_checkpoint_fails_hears_the_reason() {
    for _ in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(&Env::local(folder.path()).unwrap(), 1).await;
        apply_all(&engine, &[TABLE]).await;
        let manifests = folder.path().join("manifest");
        std::fs::rename(&manifests, folder.path().join("away")).unwrap();
        std::fs::write(&manifests, "").unwrap();
        let error = insert(&engine, "t", [(1, 1)]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    }
}

/// A second `frazil` over the same data directory; a kill frees the lock as a stop does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_engine_on_a_data_directory_is_refused_and_the_first_continues() {
    let folder = tempfile::tempdir().unwrap();
    let env = || Env::local(folder.path()).unwrap();
    let engine = open(&env(), 1).await;
    apply_all(&engine, &[TABLE]).await;
    let refused = Engine::open(Config::default(), env()).await.unwrap_err();
    assert_eq!(refused.kind.sqlstate(), "55006", "{refused}");
    assert!(refused.message.contains(&folder.path().display().to_string()), "{refused}");
    assert!(refused.hint.unwrap().contains("--connect"));
    insert(&engine, "t", [(1, 1)]).await.unwrap();
    engine.shutdown().await.unwrap();
    let engine = open(&env(), 1).await;
    assert_eq!(rows(&engine, "t").unwrap().num_rows(), 1);
    engine.shutdown().await.unwrap();
}

/// The second process 0 of a cluster whose peers are busy with the first one.
#[test]
fn a_process_without_its_peers_does_not_take_over() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let env = env();
        let engine = open(&env, 1).await;
        apply_all(&engine, &[TABLE]).await;
        let free = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let config = Config { workers: 1, hosts: vec![free(), free()], ..Config::default() };
        let mistaken = tokio::spawn(Engine::open(config, env.clone()));
        tokio::time::sleep(Duration::from_millis(300)).await;
        insert(&engine, "t", [(1, 1)]).await.unwrap();
        assert!(!mistaken.is_finished());
        engine.shutdown().await.unwrap();
    });
    // Its threads wait for ever.
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_also_with_a_plain_view_of_a_source() {
    let engine = open(&env(), 2).await;
    apply_all(
        &engine,
        &[
            "CREATE SOURCE s WITH (connector = 'generator', dataset = 'nexmark', table = 'bid', \
             rows = 1000)",
            "CREATE VIEW named AS SELECT auction FROM s",
            "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM named",
        ],
    )
    .await;
    let ended = async {
        while !engine.is_finished() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
    // Of the events the other ones are persons and auctions.
    assert_eq!(only_number(&engine, "n"), 920);
    engine.shutdown().await.unwrap();
}
