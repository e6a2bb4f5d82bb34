//! A compaction by someone else between the two phases of a commit.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use frazil_connector_api::{ChangeBatch, Committable, Options, Sink, SinkMode};
use futures::TryStreamExt;
use iceberg::spec::MAIN_BRANCH;
use uuid::Uuid;

use super::*;
use crate::catalog::{Catalog, CommitSink, LoadedTable, TableName};
use crate::data_writer::DataWriter;
use crate::options::CatalogOptions;
use crate::partition::Partitioner;
use crate::row_delta::{Marker, stage};
use crate::{IcebergCatalog, build_iceberg_sink_behind, parquet_file};

fn rows_schema() -> SchemaRef {
    let field = |name| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![field("id"), field("value")]))
}

fn changes(rows: &[(i64, i64, i64)]) -> ChangeBatch {
    let column = |of: fn(&(i64, i64, i64)) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<Int64Array>())
    };
    let batch = RecordBatch::try_new(rows_schema(), vec![column(|row| row.0), column(|row| row.1)]);
    let weights = rows.iter().map(|row| Some(row.2)).collect::<Int64Array>();
    ChangeBatch::try_new(batch.unwrap(), weights).unwrap()
}

fn catalog_pairs(folder: &Path) -> Vec<(String, String)> {
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    vec![
        ("catalog.uri".to_string(), format!("sqlite://{}", text(folder.join("catalog.db")))),
        ("warehouse.path".to_string(), text(folder.join("lake"))),
    ]
}

fn table_name() -> TableName {
    TableName { namespace: "shop".to_string(), name: "t".to_string() }
}

/// Writes all live rows into new files, and a snapshot of these alone.
async fn compact(folder: &Path) {
    let options = CatalogOptions::take(&mut Options::new(catalog_pairs(folder))).unwrap();
    let catalog = Catalog::open(&options).await.unwrap();
    let (io, name) = (catalog.io(), table_name());
    let base = catalog.load(&name).await.unwrap().unwrap();
    let metadata = &base.metadata;
    let mut manifests = Manifests::default();
    let schema = metadata.current_schema().clone();
    let arrow_schema = file_schema(&schema).unwrap();
    let spec = metadata.default_partition_spec();
    let mut partitioner = Partitioner::new(spec, &schema).unwrap();
    let folder = DataFolder::new(metadata.location());
    let mut writer = DataWriter::new(io.clone(), folder, schema, spec.spec_id(), &[], 0);
    for live in live_files(io, metadata, &mut manifests).await.unwrap() {
        let path = live.file.file_path();
        let file = parquet_file::open(io, path).await.unwrap();
        let batches = file.project(path, arrow_schema.clone(), &live.deleted).unwrap();
        for batch in batches.try_collect::<Vec<_>>().await.unwrap() {
            for part in partitioner.split(&batch).unwrap() {
                let all = UInt32Array::from_iter_values(0..batch.num_rows() as u32);
                let rows = take_record_batch(&batch, &part.rows.unwrap_or(all)).unwrap();
                writer.write(&part.partition, &rows).await.unwrap();
            }
        }
    }
    let data = writer.close().await.unwrap().into_iter().map(|closed| closed.file).collect();
    let delta = RowDelta { spec_id: spec.spec_id(), data, deletes: Vec::new() };
    let builder = metadata.as_ref().clone().into_builder(Some(base.location.clone()));
    let empty = builder.remove_ref(MAIN_BRANCH).build().unwrap().metadata;
    let empty = LoadedTable { metadata: Arc::new(empty), location: base.location.clone() };
    let marker = Marker { snapshot_id: 4711, summary: HashMap::new(), properties: HashMap::new() };
    let staged = stage(io, &empty, delta, &marker, &mut manifests).await.unwrap();
    assert!(catalog.swap(&name, &base.location, &staged.table.location).await.unwrap());
}

/// Compacts the table before the next swap, if it is armed.
#[derive(Debug)]
struct Compacting {
    inner: Arc<dyn CommitSink>,
    folder: std::path::PathBuf,
    armed: Arc<AtomicBool>,
}

#[async_trait]
impl CommitSink for Compacting {
    async fn swap(&self, table: &TableName, from: &str, to: &str) -> Result<bool> {
        if self.armed.swap(false, Ordering::SeqCst) {
            compact(&self.folder).await;
        }
        self.inner.swap(table, from, to).await
    }
}

struct Lake {
    folder: tempfile::TempDir,
    armed: Arc<AtomicBool>,
    version: &'static str,
    partition_by: Option<&'static str>,
}

impl Lake {
    fn sink(&self) -> Box<dyn Sink> {
        let mut pairs = catalog_pairs(self.folder.path());
        let more = [
            ("database.name", "shop"),
            ("table.name", "t"),
            ("create_table_if_not_exists", "true"),
            ("format_version", self.version),
        ];
        pairs.extend(more.map(|(name, value)| (name.to_string(), value.to_string())));
        pairs.extend(self.partition_by.map(|text| ("partition_by".to_string(), text.to_string())));
        let (folder, armed) = (self.folder.path().to_path_buf(), Arc::clone(&self.armed));
        let door = Arc::new(move |inner| -> Arc<dyn CommitSink> {
            Arc::new(Compacting { inner, folder: folder.clone(), armed: Arc::clone(&armed) })
        });
        let mode = SinkMode::Upsert { key: vec![0] };
        let id = Uuid::from_u128(5);
        build_iceberg_sink_behind(Options::new(pairs), rows_schema(), mode, id, door).unwrap()
    }

    async fn rows(&self) -> Vec<(i64, i64)> {
        let catalog = IcebergCatalog::open(Options::new(catalog_pairs(self.folder.path()))).await;
        let table = catalog.unwrap().load("shop", "t").await.unwrap();
        let batches: Vec<_> = table.scan(None).try_collect().await.unwrap();
        let of = |batch: &RecordBatch, at| batch.column(at).as_primitive::<Int64Type>().clone();
        let pairs = batches.iter().flat_map(|batch| {
            let (ids, values) = (of(batch, 0), of(batch, 1));
            (0..batch.num_rows()).map(move |row| (ids.value(row), values.value(row)))
        });
        let mut rows: Vec<_> = pairs.collect();
        rows.sort_unstable();
        rows
    }
}

async fn prepare(sink: &mut Box<dyn Sink>, number: u64, rows: &[(i64, i64, i64)]) -> Committable {
    sink.write(changes(rows)).await.unwrap();
    sink.prepare(number, 1).await.unwrap().unwrap()
}

/// Law: what is committed after a compaction is what would have been without it, by this process
/// and by the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_under_a_commit_loses_no_delete() {
    for version in ["2", "3"] {
        for partition_by in [None, Some("bucket(3, id)")] {
            for is_restarted in [false, true] {
                let (folder, armed) = (tempfile::tempdir().unwrap(), Arc::default());
                let lake = Lake { folder, armed, version, partition_by };
                let mut sink = lake.sink();
                sink.open(None).await.unwrap();
                let rows: Vec<_> = (0..20).map(|id| (id, id, 1)).collect();
                let first = prepare(&mut sink, 1, &rows).await;
                sink.commit(&first).await.unwrap();
                // The first files have deleted rows already, and one row is in a later file.
                let second = prepare(&mut sink, 2, &[(5, 5, -1), (6, 6, -1), (6, 66, 1)]).await;
                sink.commit(&second).await.unwrap();
                let news =
                    [(1, 1, -1), (1, 11, 1), (2, 2, -1), (6, 66, -1), (6, 67, 1), (30, 30, 1)];
                let third = prepare(&mut sink, 3, &news).await;
                if is_restarted {
                    compact(lake.folder.path()).await;
                    sink = lake.sink();
                    sink.open(Some(&third)).await.unwrap();
                } else {
                    lake.armed.store(true, Ordering::SeqCst);
                    sink.commit(&third).await.unwrap();
                    assert!(!lake.armed.load(Ordering::SeqCst), "the table was compacted");
                }
                let mut expected: Vec<(i64, i64)> = (0..20).map(|id| (id, id)).collect();
                expected.retain(|(id, _)| ![1, 2, 5, 6].contains(id));
                expected.extend([(1, 11), (6, 67), (30, 30)]);
                expected.sort_unstable();
                assert_eq!(lake.rows().await, expected, "v{version} {partition_by:?}");
                // The sink has learned where the rows are now.
                let fourth = prepare(&mut sink, 4, &[(3, 3, -1), (30, 30, -1), (30, 31, 1)]).await;
                sink.commit(&fourth).await.unwrap();
                expected.retain(|(id, _)| ![3, 30].contains(id));
                expected.push((30, 31));
                assert_eq!(lake.rows().await, expected, "v{version} {partition_by:?}");
            }
        }
    }
}
