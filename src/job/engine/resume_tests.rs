//! ALTER … RESUME: what has failed is started again, without a start of the engine.

use std::path::Path;

use super::testing::{
    TABLE, apply_all, env, failed, insert, only_number, open, read, state, until,
};
use super::*;
use crate::job::JobState;

async fn resume(engine: &Engine, name: &str) -> Result<Vec<String>> {
    let relation = engine.catalog().get(name).unwrap().id;
    engine.resume(relation).await
}

fn lake_sink(name: &str, query: &str, folder: &Path) -> String {
    format!(
        "CREATE SINK {name} AS {query} WITH (connector = 'iceberg', type = 'upsert', \
         primary_key = 'k', catalog.type = 'sql', catalog.uri = 'sqlite://{0}/lake.db', \
         warehouse.path = '{0}/lake', database.name = 'd', table.name = '{name}', \
         create_table_if_not_exists = true, commit_interval = '10ms')",
        folder.display()
    )
}

fn lake_rows(engine: &Engine, sink: &str) -> Option<u64> {
    let jobs = engine.jobs();
    jobs.iter().find(|job| job.name == sink)?.sink.as_ref()?.row_count
}

/// The statement that SHOW JOBS tells for a failed job.
fn resumed_by(engine: &Engine, job: &str) -> Option<String> {
    engine.jobs().into_iter().find(|it| it.name == job)?.resumed_by
}

const VIEWS: [&str; 5] = [
    "CREATE MATERIALIZED VIEW v AS SELECT k, 100 / a AS q FROM t",
    // These read nothing else: they continue from their state.
    "CREATE MATERIALIZED VIEW total AS SELECT sum(q)::BIGINT AS s, count(*) AS n FROM v",
    "CREATE MATERIALIZED VIEW twice AS SELECT n * 2 AS n FROM total",
    // These read relations that kept running: they are rebuilt.
    "CREATE MATERIALIZED VIEW both AS SELECT v.k AS k, t.a AS a FROM v JOIN t ON v.k = t.k",
    "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM both",
];

fn check_views(engine: &Engine) {
    assert!(failed(engine).is_empty(), "{:?}", failed(engine));
    let rows = read(engine, "t").unwrap();
    let quotients: Vec<_> = rows.iter().map(|row| vec![row[0], 100 / row[1]]).collect();
    let (sum, count) = (quotients.iter().map(|row| row[1]).sum::<i64>(), rows.len() as i64);
    assert_eq!(read(engine, "v").unwrap(), quotients);
    assert_eq!(read(engine, "total").unwrap(), [[sum, count]]);
    assert_eq!(only_number(engine, "twice"), count * 2);
    assert_eq!(read(engine, "both").unwrap(), rows);
    assert_eq!(only_number(engine, "n"), count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_a_row_has_failed_is_resumed_with_all_that_follows_it() {
    for workers in [1, 2] {
        let (folder, store) = (tempfile::tempdir().unwrap(), env());
        let engine = open(&store, workers).await;
        apply_all(&engine, &[TABLE]).await;
        apply_all(&engine, &VIEWS).await;
        apply_all(&engine, &[&lake_sink("s", "SELECT k, q FROM v", folder.path())]).await;
        insert(&engine, "t", (1..200).map(|key| (key, key))).await.unwrap();
        engine.flush().await.unwrap();
        assert_eq!(lake_rows(&engine, "s"), Some(199));
        insert(&engine, "t", [(200, 0)]).await.unwrap();
        until("v has failed", || failed(&engine).len() == 6).await;
        // The others go on.
        insert(&engine, "t", [(1, 7), (201, 3)]).await.unwrap();
        let before = failed(&engine);
        let error = resume(&engine, "v").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::DivisionByZero, "{error}");
        assert_eq!(failed(&engine).len(), 6, "{before:?}");
        let error = resume(&engine, "total").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::JobFailed, "{error}");
        let hint = error.hint.unwrap();
        assert_eq!(hint, "run ALTER MATERIALIZED VIEW v RESUME");
        for job in engine.jobs().iter().filter(|job| job.name != "t") {
            let resumed_by = job.resumed_by.as_deref();
            assert_eq!(resumed_by, Some("ALTER MATERIALIZED VIEW v RESUME"), "{}", job.name);
        }

        insert(&engine, "t", [(200, 9)]).await.unwrap();
        assert_eq!(resume(&engine, "v").await.unwrap(), Vec::<String>::new());
        check_views(&engine);
        engine.flush().await.unwrap();
        assert_eq!(lake_rows(&engine, "s"), Some(201));
        insert(&engine, "t", [(2, 8), (300, 4)]).await.unwrap();
        check_views(&engine);
        engine.flush().await.unwrap();
        assert_eq!(lake_rows(&engine, "s"), Some(202));
        engine.shutdown().await.unwrap();

        // Its state is that of the new fragments alone.
        let engine = open(&store, 2).await;
        check_views(&engine);
        insert(&engine, "t", [(3, 6), (400, 5)]).await.unwrap();
        check_views(&engine);
        engine.flush().await.unwrap();
        assert_eq!(lake_rows(&engine, "s"), Some(203));
        engine.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_view_catches_up_beside_writes_and_shows_how_far_it_is() {
    const ROWS: i64 = 3_000;
    let store = env();
    let engine = open(&store, 2).await;
    apply_all(&engine, &[TABLE]).await;
    insert(&engine, "t", (1..ROWS).map(|key| (key, key))).await.unwrap();
    apply_all(&engine, &VIEWS).await;
    insert(&engine, "t", [(ROWS, 0)]).await.unwrap();
    until("v has failed", || failed(&engine).len() == 5).await;
    insert(&engine, "t", [(ROWS, 1)]).await.unwrap();
    let resumed = {
        let engine = engine.clone();
        tokio::spawn(async move { resume(&engine, "v").await })
    };
    let (mut shown, mut written, mut refused) = (0, 0, 0);
    while !resumed.is_finished() {
        insert(&engine, "t", [(ROWS + written % 50, 1 + written)]).await.unwrap();
        written += 1;
        if let Some(JobState::CatchingUp(catch_up)) = state(&engine, "v") {
            shown = shown.max(catch_up.rows_total);
            refused += usize::from(read(&engine, "v").is_err());
        }
    }
    assert_eq!(resumed.await.unwrap().unwrap(), Vec::<String>::new());
    assert!(written > 3 && refused > 0, "{written} writes, {refused} reads");
    assert!(shown == 0 || shown >= ROWS as u64, "{shown}");
    check_views(&engine);
    engine.shutdown().await.unwrap();
}

fn append(file: &Path, keys: std::ops::Range<i64>) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
    let lines: String = keys.map(|key| format!("{{\"k\":{key},\"a\":{key}}}\n")).collect();
    file.write_all(lines.as_bytes()).unwrap();
}

/// A table and a view that read a source: neither loses a row nor has it twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reads_a_source_continues_from_its_offsets() {
    for (broken, other) in [("t", "v"), ("v", "t")] {
        let (folder, store) = (tempfile::tempdir().unwrap(), env());
        let file = folder.path().join("a.jsonl");
        let fault = format!("operator.error.{broken}:200");
        let engine = open(&store.clone().with_fault(&fault).unwrap(), 2).await;
        let with = format!(
            "(k BIGINT, a BIGINT) WITH (connector = 'files', path = '{}', follow = 'true') \
             FORMAT PLAIN ENCODE JSON",
            file.display()
        );
        append(&file, 0..10);
        apply_all(
            &engine,
            &[
                &format!("CREATE TABLE t {with}"),
                &format!("CREATE SOURCE s {with}"),
                "CREATE MATERIALIZED VIEW v AS SELECT k, a FROM s",
                "CREATE MATERIALIZED VIEW t_count AS SELECT count(*) AS n FROM t",
                "CREATE MATERIALIZED VIEW v_sum AS SELECT sum(k)::BIGINT AS n FROM v",
                "CREATE MATERIALIZED VIEW both AS SELECT t.k AS k FROM t JOIN v ON t.k = v.k",
                "CREATE MATERIALIZED VIEW both_count AS SELECT count(*) AS n FROM both",
            ],
        )
        .await;
        let mut lines = 10;
        while failed(&engine).is_empty() {
            append(&file, lines..lines + 3);
            lines += 3;
            let _ = engine.flush().await;
            assert!(lines < 3000);
        }
        append(&file, lines..lines + 5);
        lines += 5;
        engine.flush().await.unwrap();
        assert!(read(&engine, broken).is_err());
        assert_eq!(read(&engine, other).unwrap().len() as i64, lines);
        let name = if broken == "v" { "s" } else { "t" };
        assert_eq!(resume(&engine, name).await.unwrap(), Vec::<String>::new());
        for _ in 0..2 {
            engine.flush().await.unwrap();
            assert_eq!(only_number(&engine, "t_count"), lines);
            assert_eq!(only_number(&engine, "v_sum"), lines * (lines - 1) / 2);
            assert_eq!(only_number(&engine, "both_count"), lines);
            append(&file, lines..lines + 4);
            lines += 4;
        }
        engine.shutdown().await.unwrap();
        let engine = open(&store, 1).await;
        engine.flush().await.unwrap();
        assert_eq!(only_number(&engine, "t_count"), lines);
        assert_eq!(only_number(&engine, "v_sum"), lines * (lines - 1) / 2);
        assert_eq!(only_number(&engine, "both_count"), lines);
        engine.shutdown().await.unwrap();
    }
}

/// A sink whose table is gone stops; once the table is back, it continues, also if the view that it
/// reads has failed meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_sink_tries_again() {
    for has_failed_input in [false, true] {
        let (folder, store) = (tempfile::tempdir().unwrap(), env());
        let (catalog, kept) = (folder.path().join("lake.db"), folder.path().join("kept.db"));
        let engine = open(&store, 2).await;
        apply_all(&engine, &[TABLE, VIEWS[0]]).await;
        apply_all(&engine, &[&lake_sink("other", "SELECT k FROM t", folder.path())]).await;
        let without = std::fs::read(&catalog).unwrap();
        apply_all(&engine, &[&lake_sink("s", "SELECT k, q FROM v", folder.path())]).await;
        insert(&engine, "t", [(1, 1)]).await.unwrap();
        engine.flush().await.unwrap();
        assert_eq!(lake_rows(&engine, "s"), Some(1));
        engine.shutdown().await.unwrap();
        std::fs::rename(&catalog, &kept).unwrap();
        std::fs::write(&catalog, without).unwrap();

        let engine = open(&store, 2).await;
        insert(&engine, "t", [(2, 2)]).await.unwrap();
        until("the sinks have stopped", || failed(&engine).len() == 2).await;
        assert!(failed(&engine)["s"].contains("ALTER SINK … RESUME"), "{:?}", failed(&engine));
        assert_eq!(resumed_by(&engine, "s").as_deref(), Some("ALTER SINK s RESUME"));
        std::fs::rename(&kept, &catalog).unwrap();
        resume(&engine, "other").await.unwrap();
        if has_failed_input {
            insert(&engine, "t", [(2, 0)]).await.unwrap();
            until("v has failed", || failed(&engine).contains_key("v")).await;
            insert(&engine, "t", [(2, 5), (3, 3)]).await.unwrap();
            resume(&engine, "v").await.unwrap();
        } else {
            resume(&engine, "s").await.unwrap();
            insert(&engine, "t", [(3, 3)]).await.unwrap();
        }
        engine.flush().await.unwrap();
        assert_eq!(lake_rows(&engine, "s"), Some(3));
        assert!(failed(&engine).is_empty(), "{:?}", failed(&engine));
        let error = resume(&engine, "s").await.unwrap_err();
        assert_eq!((error.kind, error.kind.sqlstate()), (ErrorKind::JobFailed, "55000"));
        engine.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_resumed_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&env(), 2).await;
    apply_all(&engine, &[TABLE, &lake_sink("s", "SELECT k, 10 / a AS q FROM t", folder.path())])
        .await;
    let error = resume(&engine, "t").await.unwrap_err();
    assert_eq!(error.to_string(), "table \"t\" has not failed");
    insert(&engine, "t", [(1, 0)]).await.unwrap();
    until("s has failed", || failed(&engine).contains_key("s")).await;
    let error = resume(&engine, "s").await.unwrap_err();
    assert_eq!(error.kind.sqlstate(), "55000");
    assert!(error.to_string().starts_with("sink \"s\" cannot be resumed"), "{error}");
    assert!(error.hint.unwrap().contains("existing_rows = 'keep'"));
    assert!(failed(&engine).contains_key("s"));
    assert!(engine.jobs().iter().all(|job| job.resumed_by.is_none()));
    engine.shutdown().await.unwrap();
}

/// SHOW JOBS names a RESUME only for what it starts: a sink that also reads what kept running stays
/// failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_a_resume_leaves_out_is_told_of_no_statement() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&env(), 2).await;
    apply_all(&engine, &[TABLE, VIEWS[0]]).await;
    let joined = "SELECT v.k AS k, t.a AS a FROM v JOIN t ON v.k = t.k";
    apply_all(&engine, &[&lake_sink("s", joined, folder.path())]).await;
    insert(&engine, "t", [(1, 0)]).await.unwrap();
    until("both have failed", || failed(&engine).len() == 2).await;
    insert(&engine, "t", [(1, 2)]).await.unwrap();
    assert_eq!(resumed_by(&engine, "v").as_deref(), Some("ALTER MATERIALIZED VIEW v RESUME"));
    assert_eq!(resumed_by(&engine, "s"), None);
    let notices = resume(&engine, "v").await.unwrap();
    assert!(notices[0].starts_with("\"s\" is not resumed"), "{notices:?}");
    assert_eq!((resumed_by(&engine, "v"), resumed_by(&engine, "s")), (None, None));
    assert_eq!(failed(&engine).keys().collect::<Vec<_>>(), ["s"]);
    engine.shutdown().await.unwrap();
}
