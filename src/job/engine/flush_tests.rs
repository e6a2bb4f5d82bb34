//! FLUSH is exact: what a query and a lake show right after it is all that had come before it.

use std::path::Path;

use arrow::array::{AsArray as _, RecordBatch};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::testing::{TABLE, apply_all, insert};
use super::tests::copy;
use super::*;

async fn open(workers: usize) -> Engine {
    open_over(&Arc::new(InMemory::new()), workers).await
}

async fn open_over(store: &Arc<InMemory>, workers: usize) -> Engine {
    let env = Env::real(Arc::clone(store) as _).unwrap();
    Engine::open(Config { workers, ..Config::default() }, env).await.unwrap()
}

fn lake(folder: &Path) -> String {
    format!(
        "catalog.type = 'sql', catalog.uri = 'sqlite://{0}/lake.db', warehouse.path = '{0}/lake'",
        folder.display()
    )
}

fn sink(name: &str, folder: &Path, interval: &str) -> String {
    format!(
        "CREATE SINK {name} FROM t WITH (connector = 'iceberg', type = 'upsert', \
         primary_key = 'k', {}, database.name = 'd', table.name = '{name}', \
         create_table_if_not_exists = true, commit_interval = '{interval}')",
        lake(folder)
    )
}

/// Rows of a table or view.
fn row_count(engine: &Engine, name: &str) -> usize {
    let id = engine.catalog().get(name).unwrap().id;
    engine.snapshot().relation(id).unwrap().row_count()
}

/// Rows of each sink's table.
fn lake_counts(engine: &Engine) -> Vec<u64> {
    engine.jobs().iter().filter_map(|job| job.sink.as_ref()?.row_count).collect()
}

fn write_lines(file: &Path, keys: std::ops::Range<usize>) {
    let lines: String = keys.map(|key| format!("{{\"k\": {key}}}\n")).collect();
    append(file, &lines);
}

fn append(file: &Path, lines: &str) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
    file.write_all(lines.as_bytes()).unwrap();
}

/// Files appear and grow right before FLUSH; a view and the lake are looked at once after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_covers_the_files_that_appeared_just_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let engine = open(2).await;
    let table = format!(
        "CREATE TABLE t (k BIGINT PRIMARY KEY) WITH (connector = 'files', path = '{}', \
         follow = true) FORMAT PLAIN ENCODE JSON",
        files.display()
    );
    engine.apply(&table).await.unwrap();
    engine.apply("CREATE MATERIALIZED VIEW v AS SELECT k + 1 AS k1 FROM t").await.unwrap();
    engine.apply(&sink("s", folder.path(), "1h")).await.unwrap();
    for number in 0..6 {
        write_lines(&files.join(format!("{number}.json")), number * 10..number * 10 + 7);
        write_lines(&files.join("grows.json"), number * 10 + 7..number * 10 + 10);
        assert!(engine.flush().await.unwrap().is_empty());
        let rows = (number + 1) * 10;
        assert_eq!(row_count(&engine, "v"), rows);
        assert_eq!(lake_counts(&engine), [rows as u64]);
    }
    engine.shutdown().await.unwrap();
}

/// A file that appears while another one grows goes on with its key. Whichever workers read the
/// two, the new file's row is the last; a flush that is called meanwhile covers it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_that_appears_later_keeps_the_order_of_a_key_across_workers() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(2).await;
    let old: String = (0..60_000).map(|n| format!("{{\"k\": 1, \"a\": {n}}}\n")).collect();
    // Of these some are read by the worker of the old file and some by the other one.
    for number in 0..4 {
        let files = folder.path().join(format!("files{number}"));
        std::fs::create_dir(&files).unwrap();
        write_lines(&files.join("old"), 1..2);
        let table = format!(
            "CREATE TABLE t{number} (k BIGINT PRIMARY KEY, a BIGINT) WITH (connector = 'files', \
             path = '{}', follow = true) FORMAT PLAIN ENCODE JSON",
            files.display()
        );
        engine.apply(&table).await.unwrap();
        engine.flush().await.unwrap();
        append(&files.join("old"), &old);
        std::fs::write(files.join(format!("{number}")), "{\"k\": 1, \"a\": -1}\n").unwrap();
        engine.flush().await.unwrap();
        let id = engine.catalog().get(&format!("t{number}")).unwrap().id;
        let rows = engine.snapshot();
        let batches = rows.relation(id).unwrap().batches_here(None).unwrap();
        let rows = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        let values = rows.column(1).as_primitive::<arrow::datatypes::Int64Type>().values();
        assert_eq!(**values, [-1], "table {number}");
    }
    engine.shutdown().await.unwrap();
}

/// With many sinks there is no moment in which none of them is at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_is_not_starved_by_many_busy_sinks() {
    const SINKS: usize = 30;
    let folder = tempfile::tempdir().unwrap();
    let engine = open(1).await;
    engine.apply("CREATE TABLE t (k BIGINT PRIMARY KEY)").await.unwrap();
    for number in 0..SINKS {
        engine.apply(&sink(&format!("s{number}"), folder.path(), "50ms")).await.unwrap();
    }
    let id = engine.catalog().get("t").unwrap().id;
    for round in 0..3_i64 {
        let keys: arrow::array::ArrayRef =
            Arc::new(arrow::array::Int64Array::from_iter_values(round * 10..round * 10 + 10));
        let rows = RecordBatch::try_from_iter([("k", keys)]).unwrap();
        let changes = frazil_connector_api::ChangeBatch::inserts(rows);
        engine.write(id, vec![changes]).await.unwrap();
        engine.flush().await.unwrap();
        assert_eq!(lake_counts(&engine), vec![(round as u64 + 1) * 10; SINKS]);
    }
    engine.shutdown().await.unwrap();
}

/// A pipeline fires, and FLUSH ends, though another table's broker does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_of_another_table_that_is_out_of_reach_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(2).await;
    for sql in [
        "CREATE TABLE t (k BIGINT PRIMARY KEY)",
        &sink("s", folder.path(), "50ms"),
        &format!("CREATE CATALOG l WITH (type = 'iceberg', {})", lake(folder.path())),
        "CREATE PIPELINE p SCHEDULE '0 0 1 1 *' AS INSERT INTO l.d.p SELECT k FROM t",
        // Nobody listens there.
        "CREATE TABLE far (k BIGINT PRIMARY KEY) WITH (connector = 'kafka', topic = 'x', \
         properties.bootstrap.server = '127.0.0.1:9', timeout.ms = 300) \
         FORMAT DEBEZIUM ENCODE JSON",
    ] {
        engine.apply(sql).await.unwrap();
    }
    let began = engine.env().elapsed();
    let took = || (engine.env().elapsed() - began).as_secs();
    let run = engine.run_pipeline("p").await.unwrap();
    assert_eq!(run.state, crate::job::PipelineRunState::Empty);
    assert!(took() < 10, "the run took {} s", took());
    let left_out = engine.flush().await.unwrap();
    assert!(matches!(&left_out[..], [line] if line.starts_with("\"far\" cannot")), "{left_out:?}");
    assert!(took() < 40, "run and flush took {} s", took());
    engine.shutdown().await.unwrap();
}

/// The input of a sink has failed; then a sink's log cannot be read at the start. The other sinks
/// commit all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_fails_that_leaves_out_a_failed_sink() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(InMemory::new()));
    let engine = open_over(&store, 1).await;
    apply_all(&engine, &[TABLE, "CREATE MATERIALIZED VIEW v AS SELECT k, 10 / a AS q FROM t"])
        .await;
    let of_view = sink("of_view", folder.path(), "1h").replace("FROM t ", "FROM v ");
    apply_all(&engine, &[&sink("of_table", folder.path(), "1h"), &of_view]).await;
    insert(&engine, "t", [(1, 1)]).await.unwrap();
    assert!(engine.flush().await.unwrap().is_empty());
    assert_eq!(lake_counts(&engine), [1, 1]);
    insert(&engine, "t", [(2, 0), (3, 1)]).await.unwrap();
    let error = engine.flush().await.unwrap_err();
    assert_eq!((error.kind.sqlstate(), error.retryable), ("55000", false), "{error}");
    assert!(error.message.starts_with("sink \"of_view\": \"v\", which"), "{error}");
    assert_eq!(lake_counts(&engine), [3, 1]);

    // A copy with pending changes, as a kill leaves it.
    insert(&engine, "t", [(4, 1)]).await.unwrap();
    let killed = copy(&store).await;
    engine.shutdown().await.unwrap();
    let mut damaged = 0;
    for object in killed.list(None).try_collect::<Vec<_>>().await.unwrap() {
        if object.location.as_ref().starts_with("state/pending") {
            killed.put(&object.location, "x".into()).await.unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let engine = open_over(&killed, 1).await;
    let error = engine.flush().await.unwrap_err();
    assert!(error.message.contains("sink \"of_table\": "), "{error}");
    assert!(error.message.contains("sink \"of_view\": "), "{error}");
    engine.shutdown().await.unwrap();
}
