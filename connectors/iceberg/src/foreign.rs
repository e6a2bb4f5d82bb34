//! [`Lake`]: a table with a sink, and other engines that change it at the worst moment. For tests.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use frazil_connector_api::conformance::SinkRun;
use frazil_connector_api::{
    ChangeBatch, CheckpointNumber, CommitMark, Committable, ConnectorError, Fence, LastCommit,
    Options, Result, Resume, SinkCommitter, SinkMode,
};
use futures::TryStreamExt;
use iceberg::MetadataLocation;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, FormatVersion, MAIN_BRANCH,
    NestedField, TableMetadataBuilder,
};
use parquet::arrow::ArrowWriter;
use uuid::Uuid;

use crate::catalog::{Access, Catalog, CommitSink, LoadedTable, write_metadata};
use crate::columns::Columns;
use crate::data_writer::{DataFolder, DataWriter};
use crate::live_files::{Manifests, live_files, manifest_list, read_manifest};
use crate::options::CatalogOptions;
use crate::partition::{Partitioner, parse_partition_by, spec_and_schema};
use crate::row_delta::{DeleteFile, Marker, RowDelta, first_row_ids, stage};
use crate::table_name::TableName;
use crate::{
    IcebergCatalog, IcebergTable, build_iceberg_sink, build_iceberg_sink_behind, deletion_vector,
    parquet_file, position_delete,
};

/// What happens at the next swap of the sink under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Another engine is faster.
    Before(Act),
    /// The swap is made, another engine commits after it, and the reply is lost.
    LostThen(Option<Act>),
    /// The request is lost.
    Lost,
}

/// What another engine does to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Appends a row with a key of its own.
    Append,
    /// Writes all live rows into new files.
    Compact,
    /// Sets another partition spec.
    Partition(&'static str),
    /// Upgrades the table to format version 3.
    Upgrade,
    /// Renames a column.
    Rename(&'static str, &'static str),
    /// Moves the table's new files to another folder.
    Relocate,
    /// Drops a column.
    Drop(&'static str),
    /// Deletes the first row of a file, and rows that it does not have.
    DeleteTooMuch,
}

/// A table `shop.t (id, value)` in a catalog of its own.
#[derive(Clone)]
pub(crate) struct Lake {
    folder: Arc<tempfile::TempDir>,
    version: &'static str,
    partition_by: Option<&'static str>,
    events: Arc<Mutex<VecDeque<Event>>>,
    appended: Arc<Mutex<Vec<(i64, i64)>>>,
}

pub(crate) const SINK: Uuid = Uuid::from_u128(5);

/// Writers that share a commit of the sink under test.
const WRITERS: usize = 2;

fn rows_schema() -> SchemaRef {
    let field = |name| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![field("id"), field("value")]))
}

/// Changes as (id, value, weight).
fn changes_of(rows: &[(i64, i64, i64)]) -> ChangeBatch {
    let column = |of: fn(&(i64, i64, i64)) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<Int64Array>())
    };
    let batch = RecordBatch::try_new(rows_schema(), vec![column(|row| row.0), column(|row| row.1)]);
    let weights = rows.iter().map(|row| Some(row.2)).collect::<Int64Array>();
    ChangeBatch::try_new(batch.unwrap(), weights).unwrap()
}

impl Lake {
    pub(crate) fn new(version: &'static str, partition_by: Option<&'static str>) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self { folder, version, partition_by, events: Arc::default(), appended: Arc::default() }
    }

    /// These come at the next swaps of the sink.
    pub(crate) fn arm(&self, events: &[Event]) {
        self.events.lock().unwrap().extend(events);
    }

    /// True if no event is armed any more.
    pub(crate) fn is_calm(&self) -> bool {
        self.events.lock().unwrap().is_empty()
    }

    /// Rows that another engine has appended since the last call.
    pub(crate) fn take_appended(&self) -> Vec<(i64, i64)> {
        std::mem::take(&mut *self.appended.lock().unwrap())
    }

    fn catalog_pairs(&self) -> Vec<(String, String)> {
        let text = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        vec![
            ("catalog.uri".to_string(), format!("sqlite://{}", text("catalog.db"))),
            ("warehouse.path".to_string(), text("lake")),
        ]
    }

    pub(crate) fn data_folder(&self) -> PathBuf {
        self.folder.path().join("lake/shop/t/data")
    }

    fn options(&self) -> Options {
        let mut pairs = self.catalog_pairs();
        let more = [
            ("database.name", "shop"),
            ("table.name", "t"),
            ("create_table_if_not_exists", "true"),
            ("format_version", self.version),
        ];
        pairs.extend(more.map(|(name, value)| (name.to_string(), value.to_string())));
        pairs.extend(self.partition_by.map(|text| ("partition_by".to_string(), text.to_string())));
        Options::new(pairs)
    }

    /// The sink under test.
    pub(crate) fn sink(&self, mode: SinkMode) -> SinkRun {
        SinkRun::new(self.committer(&mode), &mode, WRITERS)
    }

    fn committer(&self, mode: &SinkMode) -> Box<dyn SinkCommitter> {
        let lake = self.clone();
        let door = Arc::new(move |inner| -> Arc<dyn CommitSink> {
            Arc::new(Meddling { inner, lake: lake.clone() })
        });
        build_iceberg_sink_behind(self.options(), rows_schema(), mode.clone(), SINK, door).unwrap()
    }

    /// The sink under test, keyed by `id`, opened for the first time.
    pub(crate) async fn upsert_sink(&self) -> SinkRun {
        let mut sink = self.sink(SinkMode::Upsert { key: vec![0] });
        sink.open(&Resume::default()).await.unwrap();
        sink
    }

    /// The table as a reader sees it.
    pub(crate) async fn table(&self) -> IcebergTable {
        let catalog = IcebergCatalog::open(Options::new(self.catalog_pairs())).await.unwrap();
        catalog.load("shop", "t").await.unwrap()
    }

    pub(crate) async fn rows(&self) -> Vec<(i64, i64)> {
        let table = self.table().await;
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

    pub(crate) async fn catalog(&self) -> Catalog {
        let options = CatalogOptions::take(&mut Options::new(self.catalog_pairs())).unwrap();
        Catalog::open(&options, Access::Write).await.unwrap()
    }

    pub(crate) async fn load(&self) -> LoadedTable {
        self.catalog().await.load(&table_name()).await.unwrap().unwrap()
    }

    /// Another engine changes the table.
    pub(crate) async fn act(&self, act: Act) {
        match act {
            Act::Append => self.append().await,
            Act::Compact => self.compact().await,
            Act::Partition(text) => {
                let schema = self.load().await.metadata.current_schema().clone();
                let spec = parse_partition_by(text, &schema).unwrap();
                self.change(|builder| builder.add_default_partition_spec(spec).unwrap()).await;
            }
            Act::Upgrade => {
                let version = FormatVersion::V3;
                self.change(|builder| builder.upgrade_format_version(version).unwrap()).await;
            }
            Act::Rename(from, to) => {
                let rename = |mut field: NestedField| {
                    if field.name == from {
                        field.name = to.to_string();
                    }
                    Some(field)
                };
                self.change_columns(rename, []).await;
            }
            Act::Drop(name) => {
                self.change_columns(|field| (field.name != name).then_some(field), []).await;
            }
            Act::DeleteTooMuch => self.delete_too_much().await,
            Act::Relocate => {
                let location = self.folder.path().join("elsewhere").to_string_lossy().into_owned();
                self.change(|builder| builder.set_location(location)).await;
            }
        }
    }

    async fn change(&self, change: impl FnOnce(TableMetadataBuilder) -> TableMetadataBuilder) {
        let (catalog, base) = (self.catalog().await, self.load().await);
        let builder = base.metadata.as_ref().clone().into_builder(Some(base.location.clone()));
        let metadata = change(builder).build().unwrap().metadata;
        let place: MetadataLocation = base.location.parse().unwrap();
        let place = place.with_next_version().with_new_metadata(&metadata);
        write_metadata(catalog.io(), &metadata, &place).await.unwrap();
        let to = place.to_string();
        assert!(catalog.swap(&table_name(), &base.location, &to).await.unwrap());
    }

    /// Changes or drops columns, and adds some.
    pub(crate) async fn change_columns(
        &self,
        change: impl Fn(NestedField) -> Option<NestedField>,
        added: impl IntoIterator<Item = NestedField>,
    ) {
        let schema = self.load().await.metadata.current_schema().clone();
        let fields = schema.as_struct().fields().iter();
        let fields = fields.filter_map(|field| change(field.as_ref().clone())).chain(added);
        let changed = iceberg::spec::Schema::builder()
            .with_fields(fields.map(Arc::new))
            .with_identifier_field_ids(schema.identifier_field_ids())
            .build()
            .unwrap();
        self.change(|builder| builder.add_current_schema(changed).unwrap()).await;
    }

    /// Adds a Parquet file whose columns have names only.
    pub(crate) async fn add_file_without_ids(&self, rows: &[(i64, i64)]) {
        let changes: Vec<_> = rows.iter().map(|(id, value)| (*id, *value, 1)).collect();
        let batch = changes_of(&changes);
        let path = self.data_folder().join("theirs.parquet");
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.rows().schema(), None).unwrap();
        writer.write(batch.rows()).unwrap();
        writer.close().unwrap();
        let file = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(path.to_string_lossy().into_owned())
            .file_format(DataFileFormat::Parquet)
            .record_count(rows.len() as u64)
            .file_size_in_bytes(std::fs::metadata(&path).unwrap().len())
            .build()
            .unwrap();
        self.commit(vec![file], Vec::new()).await;
    }

    /// Makes the table with a column `extra`, which is always NULL, and its partition.
    pub(crate) async fn make_with_extra(&self) {
        let field = |name, nullable| Field::new(name, DataType::Int64, nullable);
        let schema =
            Schema::new(vec![field("id", false), field("value", true), field("extra", true)]);
        let mode = SinkMode::Upsert { key: vec![0] };
        let sink = build_iceberg_sink(self.options(), Arc::new(schema), mode, Uuid::new_v4());
        sink.unwrap().open(&Resume::default()).await.unwrap();
    }

    /// The row id of the first row of each data file; none before format version 3.
    pub(crate) async fn row_ids(&self) -> Vec<(String, i64)> {
        let (catalog, base) = (self.catalog().await, self.load().await);
        let mut ids = Vec::new();
        for file in manifest_list(catalog.io(), &base.metadata).await.unwrap() {
            let manifest = read_manifest(catalog.io(), &file).await.unwrap();
            let of_file = first_row_ids(&file, &manifest);
            for (entry, id) in manifest.entries().iter().zip(of_file) {
                if entry.is_alive()
                    && let Some(id) = id
                {
                    ids.push((entry.file_path().to_string(), id));
                }
            }
        }
        ids
    }

    /// Partitions the table by `bucket(3, id)` under a name.
    pub(crate) async fn rename_partition(&self, name: &str) {
        let spec = iceberg::spec::UnboundPartitionSpec::builder()
            .add_partition_field(1, name, iceberg::spec::Transform::Bucket(3))
            .unwrap()
            .build();
        self.change(|builder| builder.add_default_partition_spec(spec).unwrap()).await;
    }

    /// Commits files of another engine on top of the table.
    pub(crate) async fn commit(&self, data: Vec<DataFile>, deletes: Vec<DeleteFile>) {
        let (catalog, base) = (self.catalog().await, self.load().await);
        let metadata = &base.metadata;
        let delta = RowDelta {
            spec_id: metadata.default_partition_spec_id(),
            schema_id: metadata.current_schema_id(),
            data,
            deletes,
            dead: Vec::new(),
            written: Vec::new(),
            superseded: Vec::new(),
        };
        let snapshot_id = Uuid::new_v4().as_u128() as i64 & i64::MAX;
        let marker = Marker { snapshot_id, summary: HashMap::new(), properties: HashMap::new() };
        let (io, mut manifests) = (catalog.io(), Manifests::default());
        let list = manifest_list(io, metadata).await.unwrap();
        let staged = stage(io, &base, list, delta, &marker, &mut manifests).await.unwrap();
        let to = staged.table.location;
        assert!(catalog.swap(&table_name(), &base.location, &to).await.unwrap());
    }

    async fn delete_too_much(&self) {
        let (catalog, base) = (self.catalog().await, self.load().await);
        let (io, metadata) = (catalog.io(), &base.metadata);
        let live = live_files(io, metadata, &mut Manifests::default()).await.unwrap();
        let file = &live[0].file;
        let rows = file.record_count();
        let path = DataFolder::new(metadata.location()).new_path("deletes");
        let (spec_id, partition) = (live[0].spec_id, file.partition().clone());
        let deleted = if metadata.format_version() >= FormatVersion::V3 {
            let positions = [0, rows, rows + 7, 1 << 40].into_iter().collect();
            deletion_vector::write(io, &path, file.file_path(), spec_id, partition, &positions)
                .await
        } else {
            let positions = [(file.file_path(), vec![0, rows, rows + 7, 1 << 40])];
            position_delete::write(io, &path, spec_id, partition, &positions).await
        };
        let delete =
            DeleteFile { spec_id, replaces: None, targets: Vec::new(), file: deleted.unwrap() };
        self.commit(Vec::new(), vec![delete]).await;
    }

    async fn append(&self) {
        let number = Uuid::new_v4().as_u128() as i64 & 0xff_ffff;
        let (id, value) = (-1 - number, number);
        let mode = SinkMode::AppendOnly;
        let sink = build_iceberg_sink(self.options(), rows_schema(), mode.clone(), Uuid::new_v4());
        let mut sink = SinkRun::new(sink.unwrap(), &mode, 1);
        sink.open(&Resume::default()).await.unwrap();
        let committable = prepare(&mut sink, 1, &[(id, value, 1)]).await;
        sink.commit(&committable).await.unwrap();
        self.appended.lock().unwrap().push((id, value));
    }

    /// Writes all live rows into new files, and a snapshot of these alone.
    async fn compact(&self) {
        let (catalog, base) = (self.catalog().await, self.load().await);
        let (io, metadata) = (catalog.io(), &base.metadata);
        let mut manifests = Manifests::default();
        let schema = metadata.current_schema().clone();
        let columns = Columns::new(metadata).unwrap();
        let spec = metadata.default_partition_spec();
        let mut partitioner = Partitioner::new(spec, &schema).unwrap();
        let folder = DataFolder::new(metadata.location());
        let mut writer =
            DataWriter::new(io.clone(), folder, schema, spec.spec_id(), &[], Arc::default());
        for live in live_files(io, metadata, &mut manifests).await.unwrap() {
            let path = live.file.file_path();
            let file = parquet_file::open(io, path).await.unwrap();
            let batches = file.project(path, &columns, &live.constants, &live.deleted).unwrap();
            for batch in batches.try_collect::<Vec<_>>().await.unwrap() {
                for part in partitioner.split(&batch).unwrap() {
                    let all = UInt32Array::from_iter_values(0..batch.num_rows() as u32);
                    let rows = take_record_batch(&batch, &part.rows.unwrap_or(all)).unwrap();
                    writer.write(&part.partition, &rows).await.unwrap();
                }
            }
        }
        let data = writer.close().await.unwrap().into_iter().map(|closed| closed.file).collect();
        let delta = RowDelta {
            spec_id: spec.spec_id(),
            schema_id: metadata.current_schema_id(),
            data,
            deletes: Vec::new(),
            dead: Vec::new(),
            written: Vec::new(),
            superseded: Vec::new(),
        };
        let builder = metadata.as_ref().clone().into_builder(Some(base.location.clone()));
        let empty = builder.remove_ref(MAIN_BRANCH).build().unwrap().metadata;
        let empty = LoadedTable { metadata: Arc::new(empty), location: base.location.clone() };
        let snapshot_id = Uuid::new_v4().as_u128() as i64 & i64::MAX;
        let marker = Marker { snapshot_id, summary: HashMap::new(), properties: HashMap::new() };
        let staged = stage(io, &empty, Vec::new(), delta, &marker, &mut manifests).await.unwrap();
        let to = staged.table.location;
        assert!(catalog.swap(&table_name(), &base.location, &to).await.unwrap());
    }

    /// Asserts that each data file has the partition value of its rows, under the spec that the
    /// table says it was written with.
    pub(crate) async fn check_partitions(&self) {
        let (catalog, table) = (self.catalog().await, self.load().await);
        let (io, metadata) = (catalog.io(), &table.metadata);
        for live in live_files(io, metadata, &mut Manifests::default()).await.unwrap() {
            let (spec, schema) = spec_and_schema(metadata, live.spec_id).unwrap();
            let path = live.file.file_path();
            let file = parquet_file::open(io, path).await.unwrap();
            let columns = Columns::new(metadata).unwrap();
            let none = Default::default();
            let batches = file.project(path, &columns, &live.constants, &none).unwrap();
            let mut partitioner = Partitioner::new(&spec, &schema).unwrap();
            for batch in batches.try_collect::<Vec<_>>().await.unwrap() {
                let parts = partitioner.split(&batch).unwrap();
                assert_eq!(parts.len(), 1, "a file has the rows of one partition");
                assert_eq!(&*parts[0].partition, live.file.partition(), "spec {}", live.spec_id);
            }
        }
    }
}

pub(crate) fn table_name() -> TableName {
    TableName { namespace: "shop".to_string(), name: "t".to_string() }
}

/// What a data directory knows that has prepared this.
pub(crate) fn prepared(committable: &Committable) -> Resume {
    Resume {
        is_new: false,
        fence: committable.mark.fence,
        last: LastCommit::Prepared(committable.clone()),
    }
}

/// What a data directory knows that has committed this.
pub(crate) fn visible(committable: &Committable) -> Resume {
    Resume {
        is_new: false,
        fence: committable.mark.fence,
        last: LastCommit::Visible(committable.mark),
    }
}

/// Writes changes and prepares them.
pub(crate) async fn prepare(
    sink: &mut SinkRun,
    checkpoint: u64,
    rows: &[(i64, i64, i64)],
) -> Committable {
    sink.write(changes_of(rows)).await.unwrap();
    let checkpoint = CheckpointNumber(checkpoint);
    let mark = CommitMark { checkpoint, fence: Fence(1), id: Uuid::new_v4() };
    sink.prepare(mark).await.unwrap().unwrap()
}

/// A door at which other engines are faster.
#[derive(Debug)]
struct Meddling {
    inner: Arc<dyn CommitSink>,
    lake: Lake,
}

impl std::fmt::Debug for Lake {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Lake {{ v{} {:?} }}", self.version, self.partition_by)
    }
}

#[async_trait]
impl CommitSink for Meddling {
    async fn swap(&self, table: &TableName, from: &str, to: &str) -> Result<bool> {
        let event = self.lake.events.lock().unwrap().pop_front();
        match event {
            None => self.inner.swap(table, from, to).await,
            Some(Event::Before(act)) => {
                self.lake.act(act).await;
                self.inner.swap(table, from, to).await
            }
            Some(Event::LostThen(act)) => {
                self.inner.swap(table, from, to).await?;
                if let Some(act) = act {
                    self.lake.act(act).await;
                }
                Err(ConnectorError::unavailable("connection reset"))
            }
            Some(Event::Lost) => Err(ConnectorError::unavailable("connection refused")),
        }
    }
}

#[cfg(test)]
mod law;
#[cfg(test)]
mod tests;
