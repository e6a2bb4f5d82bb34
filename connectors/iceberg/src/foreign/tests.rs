//! A sink beside other engines: whatever they do and whenever, the table has the sink's rows and
//! theirs, and its metadata is sound.

use std::collections::BTreeMap;

use frazil_connector_api::ConnectorErrorKind;
use iceberg::spec::{
    DataFileFormat, FormatVersion, ManifestContentType, ManifestEntry, ManifestFile,
    ManifestStatus, TableMetadata,
};

use super::*;
use crate::live_files::{manifest_list, read_manifest};

type Rows = BTreeMap<i64, i64>;

/// Sets keys to values (`None` deletes), and gives the net changes.
fn set(rows: &mut Rows, sets: &[(i64, Option<i64>)]) -> Vec<(i64, i64, i64)> {
    let mut net = Vec::new();
    for &(id, value) in sets {
        let before = match value {
            Some(value) => rows.insert(id, value),
            None => rows.remove(&id),
        };
        net.extend(before.map(|before| (id, before, -1)));
        net.extend(value.map(|value| (id, value, 1)));
    }
    net
}

/// A sink, and what its table must hold.
struct Run {
    lake: Lake,
    sink: SinkRun,
    rows: Rows,
    checkpoint: u64,
    last: Resume,
}

impl Run {
    async fn new(version: &'static str, partition_by: Option<&'static str>) -> Self {
        let lake = Lake::new(version, partition_by);
        let sink = lake.upsert_sink().await;
        let mut run =
            Self { lake, sink, rows: Rows::new(), checkpoint: 0, last: Resume::default() };
        let sets: Vec<_> = (0..12).map(|id| (id, Some(id))).collect();
        run.commit(&sets).await;
        // Some files have deleted rows, and some rows are in a later file.
        run.commit(&[(5, None), (6, Some(66)), (12, Some(12))]).await;
        run
    }

    async fn prepare(&mut self, sets: &[(i64, Option<i64>)]) -> Committable {
        self.checkpoint += 1;
        let changes = set(&mut self.rows, sets);
        prepare(&mut self.sink, self.checkpoint, &changes).await
    }

    async fn commit(&mut self, sets: &[(i64, Option<i64>)]) {
        let committable = self.prepare(sets).await;
        self.sink.commit(&committable).await.unwrap();
        self.last = visible(&committable);
        self.check().await;
    }

    async fn check(&mut self) {
        self.rows.extend(self.lake.take_appended());
        let expected: Vec<_> = self.rows.iter().map(|(id, value)| (*id, *value)).collect();
        assert_eq!(self.lake.rows().await, expected, "{:?}", self.lake);
        assert_eq!(self.sink.status().row_count, Some(expected.len() as u64));
        self.lake.check_partitions().await;
        check_metadata(&self.lake).await;
    }

    /// Changes that touch every kind of row: old, updated, new, and those of other engines.
    fn news(&self, n: i64) -> Vec<(i64, Option<i64>)> {
        let mut sets = vec![
            (1, Some(n)),
            (6, Some(n + 1)),
            (12, Some(n + 2)),
            (20 + n, Some(n)),
            (7 + n % 3, None),
        ];
        sets.extend(self.rows.keys().filter(|id| **id < 0).map(|id| (*id, Some(n))));
        sets
    }
}

/// Asserts what Iceberg says of a table's metadata: sequence numbers, row ids, counts and totals.
async fn check_metadata(lake: &Lake) {
    let (catalog, table) = (lake.catalog().await, lake.load().await);
    let (io, metadata) = (catalog.io(), &table.metadata);
    let snapshot = metadata.current_snapshot().unwrap();
    assert_eq!(snapshot.sequence_number(), metadata.last_sequence_number());
    let is_v3 = metadata.format_version() >= FormatVersion::V3;
    let mut totals = [0_u64; 5];
    let mut row_ids: Vec<(u64, u64)> = Vec::new();
    for file in manifest_list(io, metadata).await.unwrap() {
        let manifest = read_manifest(io, &file).await.unwrap();
        let mut counts = [0_u32; 3];
        let mut rows = [0_u64; 3];
        for entry in manifest.entries() {
            let at = match entry.status() {
                ManifestStatus::Added => 0,
                ManifestStatus::Existing => 1,
                ManifestStatus::Deleted => 2,
            };
            counts[at] += 1;
            rows[at] += entry.record_count();
            check_sequence(entry, &file);
            if entry.is_alive() {
                let is_data = file.content == ManifestContentType::Data;
                totals[usize::from(!is_data)] += 1;
                totals[2 + usize::from(!is_data)] += entry.record_count();
                let part = entry.data_file().content_size_in_bytes();
                totals[4] += part.map_or(entry.file_size_in_bytes(), |bytes| bytes as u64);
                let is_new = file.added_snapshot_id == snapshot.snapshot_id()
                    && entry.status() == ManifestStatus::Added;
                if is_v3 && is_new && !is_data {
                    assert_eq!(entry.file_format(), DataFileFormat::Puffin);
                    assert!(entry.data_file().referenced_data_file().is_some());
                }
            }
        }
        assert_eq!(Some(counts[0]), file.added_files_count);
        assert_eq!(Some(counts[1]), file.existing_files_count);
        assert_eq!(Some(counts[2]), file.deleted_files_count);
        assert_eq!(Some(rows[0]), file.added_rows_count);
        assert_eq!(Some(rows[1]), file.existing_rows_count);
        assert_eq!(Some(rows[2]), file.deleted_rows_count);
        let live_rows = rows[0] + rows[1];
        match (is_v3, file.content) {
            (true, ManifestContentType::Data) => {
                row_ids.push((file.first_row_id.unwrap(), live_rows));
            }
            _ => assert_eq!(file.first_row_id, None),
        }
    }
    if is_v3 {
        check_row_ids(row_ids, metadata);
    } else {
        assert!(row_ids.is_empty());
    }
    let summary = &snapshot.summary().additional_properties;
    let names = [
        "total-data-files",
        "total-delete-files",
        "total-records",
        "total-position-deletes",
        "total-files-size",
    ];
    for (name, total) in names.into_iter().zip(totals) {
        assert_eq!(summary[name], total.to_string(), "{name}");
    }
}

/// Asserts when a file of a manifest was added.
fn check_sequence(entry: &ManifestEntry, manifest: &ManifestFile) {
    let (sequence, of_file) = (entry.sequence_number(), entry.file_sequence_number);
    assert!(sequence.is_some_and(|it| it > 0 && it <= manifest.sequence_number), "{entry:?}");
    assert_eq!(sequence, of_file, "no file is older than it was added");
    if entry.is_alive() {
        assert!(sequence >= Some(manifest.min_sequence_number), "{entry:?}");
    }
    if entry.status() == ManifestStatus::Added {
        assert_eq!(sequence, Some(manifest.sequence_number));
        assert_eq!(entry.snapshot_id(), Some(manifest.added_snapshot_id));
    }
}

/// Asserts that the row ids of manifests, each a first one and a number, do not meet and end with
/// those of the newest snapshot.
fn check_row_ids(mut row_ids: Vec<(u64, u64)>, metadata: &TableMetadata) {
    row_ids.sort_unstable();
    for pair in row_ids.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "row ids overlap: {row_ids:?}");
    }
    let (first, added) = metadata.current_snapshot().unwrap().row_range().unwrap();
    assert_eq!(first + added, metadata.next_row_id(), "the newest snapshot is the last");
    let end = row_ids.last().map_or(0, |(first, rows)| first + rows);
    assert!(end <= metadata.next_row_id());
}

/// Law: lost replies, other writers' rows and compactions, in any order and at any time of a
/// commit, lose no change, double none, and leave the sink knowing where its rows are.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_never_stale() {
    let acts = [Event::Before(Act::Append), Event::Before(Act::Compact)];
    let lost = [None, Some(Act::Append), Some(Act::Compact)].map(Event::LostThen);
    let events: Vec<Event> = acts.into_iter().chain(lost).collect();
    for version in ["2", "3"] {
        let pairs = events.iter().flat_map(|one| events.iter().map(|two| [*one, *two]));
        let runs = pairs.map(|pair| {
            tokio::spawn(async move {
                let mut run = Run::new(version, None).await;
                run.lake.arm(&pair);
                for n in 0..3 {
                    let news = run.news(n);
                    run.commit(&news).await;
                }
                assert!(run.lake.is_calm(), "{pair:?} has happened");
            })
        });
        for run in runs.collect::<Vec<_>>() {
            run.await.unwrap();
        }
    }
}

/// Other engines change a table's partition spec: between two commits, and between the two phases
/// of one; with and without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn every_file_has_the_partition_of_the_spec_it_was_written_with() {
    let changes = [
        (None, "bucket(8, id)"),
        (Some("bucket(4, id)"), "bucket(8, id)"),
        (Some("bucket(4, id)"), "truncate(5, value)"),
        (Some("id"), "truncate(3, id), bucket(2, value)"),
    ];
    for version in ["2", "3"] {
        for (before, after) in changes {
            let act = Act::Partition(after);
            let mut run = Run::new(version, before).await;
            run.lake.act(act).await;
            for n in 0..3 {
                let news = run.news(n);
                run.commit(&news).await;
            }

            let mut run = Run::new(version, before).await;
            run.lake.arm(&[Event::Before(act)]);
            for n in 0..3 {
                let news = run.news(n);
                run.commit(&news).await;
            }
            assert!(run.lake.is_calm());

            let mut run = Run::new(version, before).await;
            let news = run.news(1);
            let committable = run.prepare(&news).await;
            run.lake.act(act).await;
            run.sink = run.lake.sink(SinkMode::Upsert { key: vec![0] });
            run.sink.open(&prepared(&committable)).await.unwrap();
            run.check().await;
            let news = run.news(2);
            run.commit(&news).await;
        }
    }
}

/// As above for a sink that only appends.
#[tokio::test(flavor = "multi_thread")]
async fn appended_files_follow_the_partition_spec() {
    let lake = Lake::new("3", Some("bucket(4, id)"));
    let mut sink = lake.sink(SinkMode::AppendOnly);
    sink.open(&Resume::default()).await.unwrap();
    let mut expected = Vec::new();
    for n in 0..4 {
        if n == 1 {
            lake.act(Act::Partition("bucket(8, id)")).await;
        }
        let rows: Vec<_> = (0..10).map(|id| (n * 10 + id, id, 1)).collect();
        expected.extend(rows.iter().map(|row| (row.0, row.1)));
        let committable = prepare(&mut sink, n as u64 + 1, &rows).await;
        sink.commit(&committable).await.unwrap();
        lake.check_partitions().await;
        check_metadata(&lake).await;
    }
    assert_eq!(lake.rows().await, expected);
}

/// A table is upgraded to format version 3 while a sink writes it: from then on there are no new
/// position deletes, and every row has a row id.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_turns_position_deletes_into_vectors() {
    for partition_by in [None, Some("bucket(3, id)")] {
        for at in ["between", "at the swap", "before a restart"] {
            let mut run = Run::new("2", partition_by).await;
            match at {
                "between" => run.lake.act(Act::Upgrade).await,
                "at the swap" => run.lake.arm(&[Event::Before(Act::Upgrade)]),
                _ => {
                    let news = run.news(0);
                    let committable = run.prepare(&news).await;
                    run.lake.act(Act::Upgrade).await;
                    run.sink = run.lake.sink(SinkMode::Upsert { key: vec![0] });
                    run.sink.open(&prepared(&committable)).await.unwrap();
                    run.check().await;
                }
            }
            for n in 1..4 {
                let news = run.news(n);
                run.commit(&news).await;
            }
            assert_eq!(run.lake.load().await.metadata.format_version(), FormatVersion::V3);
        }
    }
}

/// A compaction, an upgrade and a new partition spec between the two phases of one commit.
#[tokio::test(flavor = "multi_thread")]
async fn everything_changes_under_a_commit() {
    let all = [Act::Upgrade, Act::Partition("bucket(2, value)"), Act::Compact, Act::Append];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let mut run = Run::new("2", Some("bucket(3, id)")).await;
        run.lake.arm(&order.map(|at| Event::Before(all[at])));
        for n in 0..3 {
            let news = run.news(n);
            run.commit(&news).await;
        }
        assert!(run.lake.is_calm());
    }
}

/// A table whose columns do not fit any more stops the sink, with the column's name; what was
/// prepared before is visible all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_column_stops_the_sink_and_loses_nothing() {
    let mut run = Run::new("3", None).await;
    run.lake.act(Act::Rename("value", "price")).await;
    let news = run.news(1);
    let committable = run.prepare(&news).await;
    let error = run.sink.commit(&committable).await.unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Target, "{error}");
    assert!(error.message.contains("no column \"value\""), "{error}");
    let expected: Vec<_> = run.rows.iter().map(|(id, value)| (*id, *value)).collect();
    assert_eq!(run.lake.rows().await, expected);
    let error = run.sink.open(&prepared(&committable)).await.unwrap_err();
    assert!(error.message.contains("no column \"value\""), "{error}");
    // It continues once the column has its name again.
    run.lake.act(Act::Rename("price", "value")).await;
    run.sink.open(&prepared(&committable)).await.unwrap();
    run.check().await;
    let news = run.news(2);
    run.commit(&news).await;
}

/// New files go where the table says that it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_moves_takes_its_new_files_along() {
    let mut run = Run::new("3", None).await;
    run.lake.act(Act::Relocate).await;
    let files = |lake: &Lake| std::fs::read_dir(lake.data_folder()).unwrap().count();
    let news = run.news(1);
    run.commit(&news).await;
    let before = files(&run.lake);
    let news = run.news(2);
    run.commit(&news).await;
    assert_eq!(files(&run.lake), before);
}

/// Nothing is left in the data folder that no snapshot names, after any of it.
#[tokio::test(flavor = "multi_thread")]
async fn lost_swaps_leave_no_files() {
    let mut run = Run::new("2", None).await;
    let all = [Act::Compact, Act::Upgrade, Act::Append, Act::Compact];
    run.lake.arm(&all.map(Event::Before));
    let news = run.news(1);
    run.commit(&news).await;
    let (catalog, table) = (run.lake.catalog().await, run.lake.load().await);
    let mut named = std::collections::BTreeSet::new();
    for snapshot in table.metadata.snapshots() {
        let bytes = catalog.io().new_input(snapshot.manifest_list()).unwrap().read().await.unwrap();
        let list = iceberg::spec::ManifestList::parse_with_version(&bytes, FormatVersion::V3);
        for file in list.unwrap().entries() {
            let manifest = read_manifest(catalog.io(), file).await.unwrap();
            named.extend(manifest.entries().iter().map(|entry| entry.file_path().to_string()));
        }
    }
    for file in std::fs::read_dir(run.lake.data_folder()).unwrap() {
        let path = file.unwrap().path().to_string_lossy().into_owned();
        assert!(named.contains(&path), "no snapshot names {path}");
    }
}

/// A data directory is put back from a copy that is older than the table: the sink's commits since
/// then are unknown to it, and so is what it would commit under their checkpoints.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_ahead_is_an_error() {
    let mut run = Run::new("3", None).await;
    let old = run.last.clone();
    let news = run.news(1);
    let copied = run.prepare(&news).await;
    run.sink.commit(&copied).await.unwrap();
    let news = run.news(2);
    run.commit(&news).await;
    let rows = run.lake.rows().await;
    // The copy knows checkpoint 2 as visible; or checkpoint 3 as prepared.
    for resume in [
        &old,
        &prepared(&copied),
        &Resume { is_new: false, fence: Fence(9), last: LastCommit::None },
    ] {
        let mut sink = run.lake.sink(SinkMode::Upsert { key: vec![0] });
        let error = sink.open(resume).await.unwrap_err();
        assert_eq!(error.kind, ConnectorErrorKind::Target, "{error}");
        assert!(error.message.contains("has checkpoint 4 of the sink"), "{error}");
        let known = resume.last.mark().map_or("none".to_string(), |it| it.checkpoint.to_string());
        assert!(error.message.ends_with(&format!("the last one there is {known}")), "{error}");
        assert!(error.hint.unwrap().contains("restored from an older copy"));
    }
    // A sink that was opened before notices it at its next commit.
    let late = CommitMark { checkpoint: CheckpointNumber(5), fence: Fence(1), id: Uuid::new_v4() };
    let mut twin = run.lake.sink(SinkMode::Upsert { key: vec![0] });
    twin.open(&run.last).await.unwrap();
    twin.write(changes_of(&[(100, 1, 1)])).await.unwrap();
    let late = twin.prepare(late).await.unwrap().unwrap();
    let news = run.news(3);
    run.commit(&news).await;
    let error = twin.commit(&late).await.unwrap_err();
    assert!(error.message.contains("has checkpoint 5 of the sink"), "{error}");
    assert_ne!(run.lake.rows().await, rows);
    run.check().await;
    // Marks that were removed are noticed as well.
    let names = ["commit", "checkpoint", "fence"].map(|name| format!("frazil.{SINK}.{name}"));
    run.lake.change(|builder| builder.remove_properties(&names).unwrap()).await;
    let error = run.sink.open(&run.last).await.unwrap_err();
    assert!(error.message.contains("has no commit of the sink"), "{error}");
}

/// Deletes that another engine made past the end of a file delete nothing, and harm nobody.
#[tokio::test(flavor = "multi_thread")]
async fn deletes_past_the_end_are_harmless() {
    for version in ["2", "3"] {
        let lake = Lake::new(version, None);
        let mut sink = lake.upsert_sink().await;
        let first = prepare(&mut sink, 1, &[(1, 1, 1), (2, 2, 1), (3, 3, 1)]).await;
        sink.commit(&first).await.unwrap();
        lake.act(Act::DeleteTooMuch).await;
        let table = lake.table().await;
        assert_eq!((table.row_count(), lake.rows().await.len()), (2, 2));
        let mut sink = lake.sink(SinkMode::Upsert { key: vec![0] });
        sink.open(&visible(&first)).await.unwrap();
        assert_eq!(sink.status().row_count, Some(2));
        let second = prepare(&mut sink, 2, &[(1, 10, 1), (2, 20, 1), (3, 30, 1)]).await;
        sink.commit(&second).await.unwrap();
        assert_eq!(lake.rows().await, [(1, 10), (2, 20), (3, 30)]);
    }
}

/// A column that an older partition spec was made of can be dropped: the table can still be read
/// and written.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_column_may_be_dropped() {
    for version in ["2", "3"] {
        let lake = Lake::new(version, Some("extra"));
        // The table has a column that the sink does not write, and is partitioned by it.
        lake.make_with_extra().await;
        let mut sink = lake.upsert_sink().await;
        let first = prepare(&mut sink, 1, &[(1, 1, 1), (2, 2, 1)]).await;
        sink.commit(&first).await.unwrap();
        lake.act(Act::Partition("id")).await;
        lake.act(Act::Drop("extra")).await;
        assert_eq!(lake.rows().await, [(1, 1), (2, 2)]);
        let second = prepare(&mut sink, 2, &[(1, 10, 1), (3, 3, 1)]).await;
        sink.commit(&second).await.unwrap();
        assert_eq!(lake.rows().await, [(1, 10), (2, 2), (3, 3)]);
        let third = prepare(&mut sink, 3, &[(2, 2, -1), (3, 30, 1)]).await;
        sink.commit(&third).await.unwrap();
        assert_eq!(lake.rows().await, [(1, 10), (3, 30)]);
        check_metadata(&lake).await;
    }
}

/// Partition fields may have names that Avro does not take.
#[tokio::test(flavor = "multi_thread")]
async fn partition_fields_may_have_any_name() {
    for name in ["customer id", "1st", "größe", "a-b", "a.b"] {
        let lake = Lake::new("3", None);
        let mut sink = lake.upsert_sink().await;
        lake.rename_partition(name).await;
        let mut rows = Rows::new();
        let mut last = None;
        for n in 0..4 {
            let sets: Vec<_> = (0..6).map(|id| (id, (id != n).then_some(id + n))).collect();
            let changes = set(&mut rows, &sets);
            let committable = prepare(&mut sink, n as u64 + 1, &changes).await;
            sink.commit(&committable).await.unwrap();
            let expected: Vec<_> = rows.iter().map(|(id, value)| (*id, *value)).collect();
            assert_eq!(lake.rows().await, expected, "{name}");
            last = Some(committable);
        }
        lake.check_partitions().await;
        check_metadata(&lake).await;
        let mut sink = lake.sink(SinkMode::Upsert { key: vec![0] });
        sink.open(&visible(&last.unwrap())).await.unwrap();
        assert_eq!(sink.status().row_count, Some(rows.len() as u64));
    }
}

/// Files of other engines: without field ids under a name mapping, and older than a column with
/// defaults.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_others_have_all_their_values() {
    let lake = Lake::new("3", None);
    let mut sink = lake.upsert_sink().await;
    let first = prepare(&mut sink, 1, &[(1, 1, 1)]).await;
    sink.commit(&first).await.unwrap();
    lake.add_file_without_ids(&[(2, 20), (3, 30)]).await;
    let error = lake.table().await.scan(None).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind, ConnectorErrorKind::Target, "{error}");
    let mut again = lake.sink(SinkMode::Upsert { key: vec![0] });
    let error = again.open(&visible(&first)).await.unwrap_err();
    assert!(error.message.contains("has no field ids"), "{error}");
    let names = r#"[{"field-id": 1, "names": ["id"]}, {"field-id": 2, "names": ["value"]}]"#;
    let property = ("schema.name-mapping.default".to_string(), names.to_string());
    lake.change(|builder| builder.set_properties(HashMap::from([property])).unwrap()).await;
    assert_eq!(lake.rows().await, [(1, 1), (2, 20), (3, 30)]);
    again.open(&visible(&first)).await.unwrap();
    let second = prepare(&mut again, 2, &[(2, 20, -1), (3, 30, -1), (3, 31, 1)]).await;
    again.commit(&second).await.unwrap();
    assert_eq!(lake.rows().await, [(1, 1), (3, 31)]);
    check_metadata(&lake).await;

    let long = iceberg::spec::Type::Primitive(iceberg::spec::PrimitiveType::Long);
    let extra = iceberg::spec::NestedField::optional(3, "extra", long)
        .with_initial_default(iceberg::spec::Literal::long(7))
        .with_write_default(iceberg::spec::Literal::long(8));
    lake.change_columns(Some, [extra]).await;
    let third = prepare(&mut again, 3, &[(4, 4, 1)]).await;
    again.commit(&third).await.unwrap();
    let fourth = prepare(&mut again, 4, &[(5, 5, 1)]).await;
    again.commit(&fourth).await.unwrap();
    let batches: Vec<_> = lake.table().await.scan(None).try_collect().await.unwrap();
    let of =
        |batch: &RecordBatch, at| batch.column(at).as_primitive::<Int64Type>().values().to_vec();
    let mut extras: Vec<(i64, i64)> =
        batches.iter().flat_map(|batch| std::iter::zip(of(batch, 0), of(batch, 2))).collect();
    extras.sort_unstable();
    // What was prepared before the column came is as old as the other files.
    assert_eq!(extras, [(1, 7), (3, 7), (4, 7), (5, 8)]);
}

/// A data file none of whose rows is live leaves the table with its deletes, in the commit that
/// deletes the last row; the files beside it in its manifest keep their row ids.
#[tokio::test(flavor = "multi_thread")]
async fn dead_files_leave_the_table() {
    for version in ["2", "3"] {
        let lake = Lake::new(version, Some("bucket(4, id)"));
        let mut sink = lake.upsert_sink().await;
        let mut rows = Rows::new();
        let mut row_ids: BTreeMap<String, i64> = BTreeMap::new();
        for n in 0..12 {
            // Rows of some partitions are all updated; others change a little, or not.
            let ids = (0..8).chain((20..40).filter(|id| id % 5 == n % 5));
            let sets: Vec<_> = ids.map(|id| (id, Some(id + n))).collect();
            let changes = set(&mut rows, &sets);
            let committable = prepare(&mut sink, n as u64 + 1, &changes).await;
            sink.commit(&committable).await.unwrap();
            let expected: Vec<_> = rows.iter().map(|(id, value)| (*id, *value)).collect();
            assert_eq!(lake.rows().await, expected);
            check_metadata(&lake).await;
            for file in lake.table().await.files() {
                assert!(file.row_count() > 0, "a dead file is in the table");
            }
            for (path, id) in lake.row_ids().await {
                assert_eq!(*row_ids.entry(path).or_insert(id), id, "a row id has changed");
            }
        }
        let live = lake.table().await.files().len();
        assert!(live < 30, "{live} files");
        let mut sink = lake.sink(SinkMode::Upsert { key: vec![0] });
        let last = lake.load().await;
        let last = crate::marker::last_commit(&last.metadata, SINK).unwrap().unwrap();
        let resume = Resume { is_new: false, fence: Fence(1), last: LastCommit::Visible(last) };
        sink.open(&resume).await.unwrap();
        assert_eq!(sink.status().row_count, Some(rows.len() as u64));
        // All rows of the table.
        let sets: Vec<_> = rows.keys().map(|id| (*id, None)).collect();
        let changes = set(&mut rows, &sets);
        let committable = prepare(&mut sink, 20, &changes).await;
        sink.commit(&committable).await.unwrap();
        assert_eq!(lake.table().await.files().len(), 0);
        check_metadata(&lake).await;
        let summary = lake.load().await.metadata.current_snapshot().unwrap().summary().clone();
        assert_eq!(summary.operation, iceberg::spec::Operation::Delete);
        assert_eq!(summary.additional_properties["total-records"], "0");
        let again = prepare(&mut sink, 21, &[(1, 1, 1)]).await;
        sink.commit(&again).await.unwrap();
        assert_eq!(lake.rows().await, [(1, 1)]);
    }
}
