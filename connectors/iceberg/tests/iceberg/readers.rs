//! Other engines read what the sink writes: PyIceberg and DuckDB, from PyPI.
//!
//! Set `FRAZIL_SKIP_READERS=1` where Python packages cannot be installed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use frazil_connector_api::Resume;
use frazil_iceberg::IcebergTable;
use futures::TryStreamExt;
use serde_json::Value;

use crate::harness::{Door, Layout, Model, Row, assert_holds, changes, load, mark, prepared, sink};

/// Several checkpoints of inserts, updates and deletes, with vectors that are replaced, keys that
/// change twice in a checkpoint, and a process that starts anew.
async fn fill(folder: &Path, table: &str, layout: Layout) -> Model {
    let mut model = Model::default();
    let mut fence = 1;
    let mut writer = sink(folder, table, layout, &Door::default());
    writer.open(&Resume::default()).await.unwrap();
    for checkpoint in 1..=8_u64 {
        let n = checkpoint as i64;
        let fresh: Vec<_> = (0..40).map(|i| (n * 20 + i, Some(n + i))).collect();
        let updates: Vec<_> = (0..n * 20).step_by(7).map(|id| (id, Some(id + n))).collect();
        let deletes: Vec<_> = (0..n * 20).step_by(11).map(|id| (id, None)).collect();
        let again: Vec<_> = (n * 20..n * 20 + 9).map(|id| (id, Some(id * 3))).collect();
        for sets in [fresh, updates, deletes, again] {
            writer.write(changes(&model.apply(&sets))).await.unwrap();
        }
        let committable = writer.prepare(mark(checkpoint, fence)).await.unwrap().unwrap();
        if checkpoint % 3 == 0 {
            fence += 1;
            writer = sink(folder, table, layout, &Door::default());
            writer.open(&prepared(&committable, fence)).await.unwrap();
        }
        writer.commit(&committable).await.unwrap();
    }
    model
}

fn python() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers_venv.sh");
    let made = Command::new(script).output().expect("the shell runs");
    assert!(
        made.status.success(),
        "cannot make the Python environment (FRAZIL_SKIP_READERS=1 leaves the test out): {}",
        String::from_utf8_lossy(&made.stderr)
    );
    String::from_utf8(made.stdout).unwrap().trim().to_string()
}

fn are_skipped() -> bool {
    std::env::var("FRAZIL_SKIP_READERS").is_ok_and(|value| value == "1")
}

/// PyIceberg changes spec, schema and files of a table while a sink writes it.
#[tokio::test(flavor = "multi_thread")]
async fn pyiceberg_changes_a_table_under_its_sink() {
    if are_skipped() {
        return;
    }
    let python = python();
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout { version: "2", partition_by: None, key: &[0] };
    let change = |step: &str| {
        let out = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/evolve.py"))
            .arg(folder.path().join("lake/catalog.db"))
            .arg(folder.path().join("lake"))
            .args(["shop.t", step])
            .output()
            .unwrap();
        assert!(out.status.success(), "{step}: {}", String::from_utf8_lossy(&out.stderr));
    };
    let mut model = Model::default();
    let mut writer = sink(folder.path(), "t", layout, &Door::default());
    writer.open(&Resume::default()).await.unwrap();
    // It cannot upgrade a table to version 3; `foreign::tests` does.
    let steps = ["partition", "rewrite", "partition again", "column"];
    for checkpoint in 1..=10_u64 {
        let n = checkpoint as i64;
        let sets = (0..20).map(|id| (id * n % 37, (id % 5 != n % 5).then_some(id + n)));
        let mut sets: Vec<_> = sets.collect();
        sets.push((3, Some(n)));
        writer.write(changes(&model.apply(&sets))).await.unwrap();
        let committable = writer.prepare(mark(checkpoint, 1)).await.unwrap().unwrap();
        // Every other change comes between the two phases.
        let step = (checkpoint % 2 == 0).then(|| steps.get(checkpoint as usize / 2 - 1)).flatten();
        let is_between = checkpoint % 4 == 0;
        if is_between && let Some(step) = step {
            change(step);
        }
        writer.commit(&committable).await.unwrap();
        if !is_between && let Some(step) = step {
            change(step);
        }
        let table = load(folder.path(), "t").await;
        if step == Some(&"rewrite") {
            // It deleted the row before the sink set it again, and that deleted row was ours.
            let ids = read_ids(&table).await;
            if !ids.contains(&3) {
                model.rows.remove(&3);
            }
        }
        let expected: Vec<i64> = model.rows.keys().copied().collect();
        assert_eq!(read_ids(&table).await, expected, "after {step:?}");
        assert_eq!(writer.status().row_count, Some(expected.len() as u64));
    }
    assert_eq!(load(folder.path(), "t").await.schema().field(0).name(), "remark");
}

async fn read_ids(table: &IcebergTable) -> Vec<i64> {
    let at = table.schema().index_of("id").unwrap();
    let batches: Vec<_> = table.scan(Some(&[at])).try_collect().await.unwrap();
    let ids = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    let mut ids: Vec<i64> = batches.iter().flat_map(ids).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn pyiceberg_and_duckdb_read_every_layout() {
    if are_skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut models = BTreeMap::new();
    for (number, layout) in Layout::all().into_iter().enumerate() {
        let table = format!("t{number}");
        let model = fill(folder.path(), &table, layout).await;
        assert_holds(folder.path(), &table, &model).await;
        models.insert(format!("shop.{table}"), (layout, model));
    }
    let out = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers.py"))
        .arg(folder.path().join("lake/catalog.db"))
        .arg(folder.path().join("lake"))
        .args(models.keys())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut lines = 0;
    for line in String::from_utf8(out.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (layout, model) = &models[line["table"].as_str().unwrap()];
        let what = format!("{} of {layout:?}", line["reader"]);
        assert_eq!(line["error"], Value::Null, "{what}");
        let expected: Vec<_> =
            model.rows.iter().map(|(&id, &value)| Row { id, value }.texts()).collect();
        let found: Vec<Vec<Option<String>>> = serde_json::from_value(line["rows"].clone()).unwrap();
        assert_eq!(found.len(), expected.len(), "{what}");
        assert_eq!(found, expected, "{what}");
        lines += 1;
    }
    assert_eq!(lines, 2 * models.len());
}
