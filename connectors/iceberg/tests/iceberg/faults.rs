//! Faults that the law does not draw: fences, other writers, files that vanish.

use frazil_connector_api::conformance::SinkRun;
use frazil_connector_api::{CommitOutcome, ConnectorErrorKind, Options, Resume, SinkMode};
use frazil_iceberg::build_iceberg_sink;
use uuid::Uuid;

use crate::harness::{
    Door, Fault, Layout, Model, assert_holds, batch, changes, mark, options, prepared, schema, sink,
};

const V3: Layout = Layout { version: "3", partition_by: None, key: &[0] };

#[tokio::test(flavor = "multi_thread")]
async fn an_older_process_is_refused() {
    for layout in [V3, Layout { version: "2", ..V3 }] {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let mut old = sink(folder.path(), "t", layout, &Door::default());
        let mut new = sink(folder.path(), "t", layout, &Door::default());
        old.open(&Resume::default()).await.unwrap();
        new.open(&Resume::default()).await.unwrap();
        old.write(changes(&Model::default().apply(&[(7, Some(7))]))).await.unwrap();
        let late = old.prepare(mark(2, 1)).await.unwrap().unwrap();
        new.write(changes(&model.apply(&[(1, Some(1)), (2, Some(2))]))).await.unwrap();
        let committable = new.prepare(mark(1, 2)).await.unwrap().unwrap();
        new.commit(&committable).await.unwrap();
        let error = old.commit(&late).await.unwrap_err();
        assert_eq!(error.kind, ConnectorErrorKind::Fenced, "{error}");
        assert_holds(folder.path(), "t", &model).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_stays_away_is_unavailable_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let door = Door::default();
    let mut model = Model::default();
    let mut writer = sink(folder.path(), "t", V3, &door);
    writer.open(&Resume::default()).await.unwrap();
    writer.write(changes(&model.apply(&[(1, Some(1))]))).await.unwrap();
    let committable = writer.prepare(mark(1, 1)).await.unwrap().unwrap();
    door.next([Fault::FailBefore; 64]);
    let error = writer.commit(&committable).await.unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Unavailable, "{error}");
    door.clear();
    writer.open(&prepared(&committable, 9)).await.unwrap();
    let outcome = writer.try_commit(&committable).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Committed { .. }));
    assert_holds(folder.path(), "t", &model).await;
}

/// Two sinks into one table: each sees what the other does, and no delete is lost.
#[tokio::test(flavor = "multi_thread")]
async fn deletes_of_another_writer_are_kept() {
    for layout in [V3, Layout { version: "2", ..V3 }] {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let mut ours = sink(folder.path(), "t", layout, &Door::default());
        ours.open(&Resume::default()).await.unwrap();
        let sets: Vec<_> = (0..20).map(|id| (id, Some(id))).collect();
        ours.write(changes(&model.apply(&sets))).await.unwrap();
        let committable = ours.prepare(mark(1, 1)).await.unwrap().unwrap();
        ours.commit(&committable).await.unwrap();
        // The other one deletes from the same file.
        let mode = SinkMode::Upsert { key: vec![0] };
        let options = options(folder.path(), "t", layout);
        let other = build_iceberg_sink(options, schema(), mode.clone(), Uuid::from_u128(2));
        let mut other = SinkRun::new(other.unwrap(), &mode, 1);
        other.open(&Resume::default()).await.unwrap();
        other.write(changes(&model.apply(&[(3, None), (4, Some(44))]))).await.unwrap();
        ours.write(changes(&model.apply(&[(5, None), (6, Some(66))]))).await.unwrap();
        for writer in [&mut other, &mut ours] {
            let committable = writer.prepare(mark(2, 1)).await.unwrap().unwrap();
            writer.commit(&committable).await.unwrap();
        }
        assert_holds(folder.path(), "t", &model).await;
        // Ours has learned the other's row, and can replace it.
        ours.write(changes(&model.apply(&[(4, Some(45)), (0, None)]))).await.unwrap();
        let committable = ours.prepare(mark(3, 1)).await.unwrap().unwrap();
        ours.commit(&committable).await.unwrap();
        assert_holds(folder.path(), "t", &model).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_metadata_files_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let mut given = options(folder.path(), "t", V3);
    let mut pairs: Vec<(String, String)> =
        given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    given = {
        let keep = "table.properties.write.metadata.previous-versions-max";
        pairs.push((keep.to_string(), "3".to_string()));
        Options::new(pairs)
    };
    let mode = SinkMode::Upsert { key: vec![0] };
    let writer = build_iceberg_sink(given, schema(), mode.clone(), Uuid::from_u128(9));
    let mut writer = SinkRun::new(writer.unwrap(), &mode, 1);
    writer.open(&Resume::default()).await.unwrap();
    for checkpoint in 1..10 {
        let value = checkpoint as i64;
        writer.write(changes(&model.apply(&[(1, Some(value)), (value, Some(2))]))).await.unwrap();
        let committable = writer.prepare(mark(checkpoint, 1)).await.unwrap().unwrap();
        writer.commit(&committable).await.unwrap();
    }
    let metadata = std::fs::read_dir(folder.path().join("lake/shop/t/metadata")).unwrap();
    let names = metadata.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.ends_with(".metadata.json")).count(), 4);
    assert_holds(folder.path(), "t", &model).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_written_is_nothing_to_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = sink(folder.path(), "t", V3, &Door::default());
    writer.open(&Resume::default()).await.unwrap();
    assert_eq!(writer.prepare(mark(1, 1)).await.unwrap(), None);
    // A row that comes and goes between two checkpoints was never there.
    let mut model = Model::default();
    writer.write(changes(&model.apply(&[(1, Some(1))]))).await.unwrap();
    writer.write(changes(&model.apply(&[(1, None)]))).await.unwrap();
    assert_eq!(writer.prepare(mark(2, 1)).await.unwrap(), None);
    let data = std::fs::read_dir(folder.path().join("lake/shop/t/data")).unwrap();
    assert_eq!(data.count(), 0, "its data file is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_keys_in_the_table_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let given = options(folder.path(), "t", V3);
    let mode = SinkMode::AppendOnly;
    let appender = build_iceberg_sink(given, schema(), mode.clone(), Uuid::from_u128(3));
    let mut appender = SinkRun::new(appender.unwrap(), &mode, 2);
    appender.open(&Resume::default()).await.unwrap();
    let rows = [(1, 1), (2, 2), (1, 3)].map(|(id, value)| crate::harness::Row { id, value });
    appender.write(frazil_connector_api::ChangeBatch::inserts(batch(&rows))).await.unwrap();
    let committable = appender.prepare(mark(1, 1)).await.unwrap().unwrap();
    appender.commit(&committable).await.unwrap();
    assert_eq!(appender.status().row_count, Some(3));
    let mut writer = sink(folder.path(), "t", V3, &Door::default());
    let error = writer.open(&Resume::default()).await.unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Target, "{error}");
}
