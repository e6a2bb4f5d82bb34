//! An engine that is started again and again, with other numbers of workers.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use frazil_connector_api::ChangeBatch;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::checkpoint::testing::newest_manifest;
use crate::config::ByteSize;
use crate::job::JobState;

const DDL: [&str; 7] = [
    "CREATE TABLE log (k BIGINT, g BIGINT) APPEND ONLY",
    "CREATE TABLE items (k BIGINT PRIMARY KEY, g BIGINT)",
    "CREATE MATERIALIZED VIEW pairs AS SELECT a.k AS k1, b.k AS k2 FROM log a \
     JOIN log b ON a.g = b.g",
    "CREATE MATERIALIZED VIEW mixed AS SELECT a.k AS k1, b.k AS k2 FROM log a \
     JOIN items b ON a.g = b.g",
    "CREATE MATERIALIZED VIEW padded AS SELECT a.k AS k1, coalesce(b.k, -1) AS k2 FROM items a \
     LEFT JOIN items b ON a.g = b.k",
    "CREATE MATERIALIZED VIEW whole AS SELECT count(*) AS n, max(k) AS m FROM items",
    "CREATE MATERIALIZED VIEW totals AS SELECT g, count(*) AS n FROM items GROUP BY g",
];
/// Enough for segments to be merged.
const WRITES: i64 = 15;

pub(super) type Rows = Vec<(i64, i64)>;

/// What the tables hold.
#[derive(Default)]
struct Model {
    log: Rows,
    items: BTreeMap<i64, i64>,
}

impl Model {
    fn relation(&self, name: &str) -> Rows {
        let items = || self.items.iter().map(|(k, g)| (*k, *g));
        let equal = |rows: Rows| {
            let of = |g| rows.iter().filter(move |row| row.1 == g).map(|row| row.0);
            let pairs = self.log.iter().flat_map(|(k, g)| of(*g).map(|other| (*k, other)));
            pairs.collect()
        };
        let mut rows: Rows = match name {
            "log" => self.log.clone(),
            "items" => items().collect(),
            "pairs" => equal(self.log.clone()),
            "mixed" => equal(items().collect()),
            "padded" => items()
                .map(|(k, g)| (k, if self.items.contains_key(&g) { g } else { -1 }))
                .collect(),
            "whole" => vec![(items().count() as i64, items().map(|(k, _)| k).max().unwrap())],
            _ => {
                let groups: BTreeSet<i64> = self.items.values().copied().collect();
                let count = |g| self.items.values().filter(|other| **other == g).count() as i64;
                groups.into_iter().map(|g| (g, count(g))).collect()
            }
        };
        rows.sort_unstable();
        rows
    }
}

pub(super) fn changes(rows: &[(i64, i64)]) -> ChangeBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
    let groups: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
    ChangeBatch::inserts(RecordBatch::try_from_iter([("k", keys), ("g", groups)]).unwrap())
}

pub(super) async fn write(engine: &Engine, table: &str, rows: ChangeBatch) {
    let id = engine.catalog().get(table).unwrap().id;
    engine.write(id, vec![rows]).await.unwrap();
}

pub(super) fn read(engine: &Engine, name: &str) -> Rows {
    let id = engine.catalog().get(name).unwrap().id;
    let mut rows = Rows::new();
    for batch in engine.snapshot().relation(id).unwrap().batches_here(None).unwrap() {
        let column = |index| batch.column(index).as_primitive::<Int64Type>().values().to_vec();
        rows.extend(std::iter::zip(column(0), column(1)));
    }
    rows.sort_unstable();
    rows
}

/// Appends to `log`; inserts, replaces and deletes in `items`.
async fn write_some(engine: &Engine, model: &mut Model, number: i64) {
    let log: Rows = (0..3).map(|row| (number * 3 + row, (number + row) % 7)).collect();
    write(engine, "log", changes(&log)).await;
    model.log.extend(log);
    let items: Rows = (0..4).map(|row| ((number * 5 + row * 3) % 40, number % 11)).collect();
    write(engine, "items", changes(&items)).await;
    model.items.extend(items);
    let (key, group) = model.items.iter().next().map(|(key, group)| (*key, *group)).unwrap();
    let gone = changes(&[(key, group)]).rows().clone();
    write(engine, "items", ChangeBatch::retractions(gone)).await;
    model.items.remove(&key);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_stays_right_under_other_numbers_of_workers() {
    state_stays_right(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_stays_right_in_scratch_files() {
    state_stays_right(1).await;
}

async fn state_stays_right(memory_soft_limit: u64) {
    let folder = tempfile::tempdir().unwrap();
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let env = env.with_scratch(folder.path().to_path_buf());
    let mut model = Model::default();
    let mut scratch_bytes = 0;
    for (round, workers) in [1, 3, 2, 2, 1].into_iter().enumerate() {
        let config = Config {
            workers,
            epoch_interval_ms: 0,
            memory_soft_limit: ByteSize(memory_soft_limit),
            ..Config::default()
        };
        let engine = Engine::open(config, env.clone()).await.unwrap();
        if round == 0 {
            for sql in DDL {
                engine.apply(sql).await.unwrap();
            }
        }
        for number in 0..WRITES {
            write_some(&engine, &mut model, round as i64 * WRITES + number).await;
            for name in ["log", "items", "pairs", "mixed", "padded", "whole", "totals"] {
                let found = read(&engine, name);
                assert_eq!(found, model.relation(name), "{name}, round {round}, {number}");
            }
            scratch_bytes += engine.memory().uses().iter().map(|used| used.scratch).sum::<u64>();
        }
        stop(engine).await;
        assert_eq!(env.scratch().unwrap().disk_bytes().unwrap(), 0);
    }
    assert_eq!(scratch_bytes > 0, memory_soft_limit > 0);
    // Nothing of it has a name.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Stops an engine and waits until it has given all its memory back.
pub(super) async fn stop(engine: Engine) {
    engine.shutdown().await.unwrap();
    let memory = Arc::clone(engine.memory());
    drop(engine);
    let gone = async {
        while !memory.uses().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let gone = tokio::time::timeout(std::time::Duration::from_secs(20), gone).await;
    assert!(gone.is_ok(), "{:?}", memory.uses());
}

/// A pipeline's runs outlive the process, and a sink has its table to itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_is_remembered_and_its_table_is_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let lake = format!(
        "catalog.type = 'sql', catalog.uri = 'sqlite://{0}/lake.db', warehouse.path = '{0}/lake'",
        folder.path().display()
    );
    let sink = |name: &str, more: &str| {
        format!(
            "CREATE SINK {name} FROM items WITH (connector = 'iceberg', {lake}, \
             database.name = 'd', table.name = 't'{more})"
        )
    };
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let open = || async {
        let config = Config { workers: 2, epoch_interval_ms: 0, ..Config::default() };
        Engine::open(config, env.clone()).await.unwrap()
    };
    let engine = open().await;
    for sql in [
        "CREATE TABLE items (k BIGINT PRIMARY KEY, g BIGINT)",
        &format!("CREATE CATALOG l WITH (type = 'iceberg', {lake})"),
        "CREATE PIPELINE p SCHEDULE '0 0 1 1 *' AS INSERT INTO l.d.t SELECT k, g FROM items",
    ] {
        engine.apply(sql).await.unwrap();
    }
    write(&engine, "items", changes(&[(1, 10), (2, 20)])).await;
    let run = engine.run_pipeline("p").await.unwrap();
    assert!(matches!(run.state, crate::job::PipelineRunState::Committed { .. }), "{run:?}");
    // It is durable soon, though nothing else is to be.
    let remembered = async {
        while !newest_manifest(&env).await.pipelines.values().any(|record| record.runs == 1) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), remembered).await.unwrap();
    let error = engine.apply(&sink("s", "")).await.unwrap_err();
    assert!(error.message.contains("\"p\" writes into table"), "{error}");
    engine.shutdown().await.unwrap();

    let engine = open().await;
    let runs = engine.pipeline_runs();
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].run, &runs[0].state), (1, &run.state));
    let run = engine.run_pipeline("p").await.unwrap();
    assert_eq!((run.run, run.state), (2, crate::job::PipelineRunState::Empty));
    engine.apply("DROP PIPELINE p").await.unwrap();
    let error = engine.apply(&sink("s", "")).await.unwrap_err();
    assert!(error.message.contains("has 2 rows already"), "{error}");
    let error = engine.apply(&sink("s", ", existing_rows = 'drop'")).await.unwrap_err();
    assert!(error.message.contains("\"drop\""), "{error}");
    engine.apply(&sink("s", ", existing_rows = 'keep'")).await.unwrap();
    write(&engine, "items", changes(&[(3, 30)])).await;
    engine.flush().await.unwrap();
    let jobs = engine.jobs();
    let status = jobs.iter().find(|job| job.name == "s").unwrap().sink.as_ref().unwrap();
    assert_eq!(status.row_count, Some(3));
    engine.shutdown().await.unwrap();
}

/// All objects of a data directory, as a backup has them.
pub(super) async fn copy(store: &InMemory) -> Arc<InMemory> {
    let copy = InMemory::new();
    let mut objects = store.list(None);
    while let Some(object) = objects.try_next().await.unwrap() {
        let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        copy.put(&object.location, bytes.into()).await.unwrap();
    }
    Arc::new(copy)
}

async fn lake_rows(lake: &[(String, String)], table: &str) -> u64 {
    let options = frazil_connector_api::Options::new(lake.to_vec());
    let catalog = frazil_iceberg::IcebergCatalog::open(options).await.unwrap();
    catalog.load("d", table).await.unwrap().row_count()
}

/// A data directory is put back from an older copy: its sink is stopped with the reason, instead of
/// taking the commits of the other life for its own; every other job continues, and nothing that
/// the stopped sink should have written is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_from_a_backup_stops_the_sinks_that_are_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    let lake = [
        ("catalog.uri".to_string(), format!("sqlite://{place}/lake.db")),
        ("warehouse.path".to_string(), format!("{place}/lake")),
    ];
    let sink = |name: &str| {
        let [(uri, file), (path, warehouse)] = &lake;
        format!(
            "CREATE SINK {name} FROM items WITH (connector = 'iceberg', type = 'upsert', \
             primary_key = 'k', {uri} = '{file}', {path} = '{warehouse}', database.name = 'd', \
             table.name = '{name}', create_table_if_not_exists = 'true')"
        )
    };
    let open = |store: &Arc<InMemory>| {
        let env = Env::real(Arc::clone(store) as _).unwrap();
        let config = Config { workers: 2, epoch_interval_ms: 0, ..Config::default() };
        async move { Engine::open(config, env).await.unwrap() }
    };
    let store = Arc::new(InMemory::new());
    let engine = open(&store).await;
    engine.apply("CREATE TABLE items (k BIGINT PRIMARY KEY, g BIGINT)").await.unwrap();
    engine.apply(&sink("one")).await.unwrap();
    write(&engine, "items", changes(&[(1, 1)])).await;
    engine.flush().await.unwrap();
    engine.shutdown().await.unwrap();
    let older = copy(&store).await;
    let engine = open(&store).await;
    for key in 2..8 {
        write(&engine, "items", changes(&[(key, key)])).await;
        engine.flush().await.unwrap();
    }
    engine.shutdown().await.unwrap();
    assert_eq!(lake_rows(&lake, "one").await, 7);

    let engine = open(&older).await;
    engine.apply(&sink("two")).await.unwrap();
    for round in 0..3 {
        write(&engine, "items", changes(&[(100 + round, 0)])).await;
        let error = engine.flush().await.unwrap_err();
        assert!(error.message.contains("is ahead of the data directory"), "{error}");
        assert!(error.message.contains("restored from an older copy"), "{error}");
        let jobs = engine.jobs();
        let state = |name: &str| &jobs.iter().find(|job| job.name == name).unwrap().state;
        let stopped = |state: &JobState| match state {
            JobState::Failed { error } => error.contains("is ahead of the data directory"),
            _ => false,
        };
        assert!(stopped(state("one")), "{:?}", state("one"));
        assert_eq!(state("two"), &JobState::Running);
    }
    engine.shutdown().await.unwrap();
    assert_eq!(lake_rows(&lake, "one").await, 7, "the table is as the other life left it");
    assert_eq!(lake_rows(&lake, "two").await, 4, "the other sink has committed");

    // The newest copy continues, as if nothing had been.
    let engine = open(&store).await;
    write(&engine, "items", changes(&[(8, 8)])).await;
    engine.flush().await.unwrap();
    assert_eq!(lake_rows(&lake, "one").await, 8);
    engine.shutdown().await.unwrap();
}
