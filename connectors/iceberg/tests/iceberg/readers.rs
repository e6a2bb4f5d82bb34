//! Other engines read what the sink writes: PyIceberg and DuckDB, from PyPI.
//!
//! Set `FRAZIL_SKIP_READERS=1` where Python packages cannot be installed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use frazil_connector_api::Resume;
use serde_json::Value;

use crate::harness::{Door, Layout, Model, Row, assert_holds, changes, mark, prepared, sink};

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

#[tokio::test(flavor = "multi_thread")]
async fn pyiceberg_and_duckdb_read_every_layout() {
    if std::env::var("FRAZIL_SKIP_READERS").is_ok_and(|value| value == "1") {
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
