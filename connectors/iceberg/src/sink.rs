//! [`IcebergSink`]: the sink of the contract.
//!
//! ```text
//! write:   net changes ─► keys out of the index, places marked ─► rows into Parquet, keys in
//! prepare: close data files, write deletes (v3 vectors | v2 positions) ─► committable
//! commit:  one Iceberg snapshot with all of it
//! ```
//!
//! **Invariant:** retractions of a batch are taken before its insertions, so that an update, which
//! is both, ends as the insertion; batches are taken in the order in which they are written.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use frazil_connector_api::{
    ChangeBatch, CommitMark, CommitOutcome, Committable, ConnectorError, LastCommit, OptionSpec,
    Options, Result, Resume, Sink, SinkConnector, SinkMode, SinkStatus,
};
use iceberg::TableCreation;
use iceberg::spec::{FormatVersion, TableMetadata};
use uuid::Uuid;

use crate::catalog::{Access, Catalog, CommitSink, LoadedTable, sync_folder};
use crate::columns::Columns;
use crate::commit::{Committer, Landed};
use crate::committable::Payload;
use crate::data_writer::{DataFolder, DataWriter, Written};
use crate::error::target;
use crate::key_index::Place;
use crate::live_files::{Manifests, live_files};
use crate::marker::{check_resume, last_commit};
use crate::options::{OPTIONS, SinkOptions};
use crate::partition::{Partitioner, check_partition_types, parse_partition_by};
use crate::relocate::RowKey;
use crate::row_delta::{RowDelta, remove_files};
use crate::schema::{Conform, check_fits, iceberg_schema};
use crate::upsert::UpsertState;

/// `connector = 'iceberg'`.
#[derive(Debug)]
pub struct Iceberg;

impl SinkConnector for Iceberg {
    fn name(&self) -> &str {
        "iceberg"
    }

    fn options(&self) -> &[OptionSpec] {
        OPTIONS
    }

    fn build(
        &self,
        options: Options,
        schema: SchemaRef,
        mode: SinkMode,
        id: Uuid,
    ) -> Result<Box<dyn Sink>> {
        build_iceberg_sink(options, schema, mode, id)
    }
}

/// Puts another door in front of the catalog; tests lose replies with it.
pub type DoorFactory = Arc<dyn Fn(Arc<dyn CommitSink>) -> Arc<dyn CommitSink> + Send + Sync>;

/// A sink that writes into an Iceberg table.
///
/// Options: `catalog.type` ('sql'), `catalog.uri` ('sqlite://lake/catalog.db'), `catalog.name`,
/// `warehouse.path`, `database.name`, `table.name`, `create_table_if_not_exists`, `format_version`
/// ('3' or '2'), `partition_by`, `table.properties.*`.
///
/// # Errors
/// `Config` for a wrong option, `Unsupported` for another kind of catalog.
pub fn build_iceberg_sink(
    options: Options,
    schema: SchemaRef,
    mode: SinkMode,
    sink_id: Uuid,
) -> Result<Box<dyn Sink>> {
    build_iceberg_sink_behind(options, schema, mode, sink_id, Arc::new(|door| door))
}

/// As [`build_iceberg_sink`], with another door in front of the catalog's compare-and-swap.
///
/// # Errors
/// As [`build_iceberg_sink`].
pub fn build_iceberg_sink_behind(
    options: Options,
    schema: SchemaRef,
    mode: SinkMode,
    sink_id: Uuid,
    door: DoorFactory,
) -> Result<Box<dyn Sink>> {
    let options = SinkOptions::parse(options)?;
    if let SinkMode::Upsert { key } = &mode
        && (key.is_empty() || key.iter().any(|&at| at >= schema.fields().len()))
    {
        return Err(ConnectorError::config("an upsert sink needs a primary key of its columns"));
    }
    let plan = Plan { options, schema, mode, sink_id, door };
    Ok(Box::new(IcebergSink { plan, opened: None, made: None }))
}

struct IcebergSink {
    plan: Plan,
    opened: Option<Opened>,
    /// The metadata of a table that this sink has made.
    made: Option<String>,
}

/// What the sink was told; does not change.
struct Plan {
    options: SinkOptions,
    schema: SchemaRef,
    mode: SinkMode,
    sink_id: Uuid,
    door: DoorFactory,
}

impl fmt::Debug for IcebergSink {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("IcebergSink").field("options", &self.plan.options).finish_non_exhaustive()
    }
}

/// What the writer is made for. A table whose shape changes needs another writer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    version: FormatVersion,
    location: String,
    schema_id: i32,
    spec_id: i32,
}

impl Shape {
    fn of(metadata: &TableMetadata) -> Self {
        Self {
            version: metadata.format_version(),
            location: metadata.location().to_string(),
            schema_id: metadata.current_schema_id(),
            spec_id: metadata.default_partition_spec_id(),
        }
    }
}

/// What an open sink works with.
struct Opened {
    shape: Shape,
    catalog: Arc<Catalog>,
    door: Arc<dyn CommitSink>,
    table: LoadedTable,
    manifests: Manifests,
    conform: Conform,
    partitioner: Partitioner,
    writer: DataWriter,
    upsert: Option<UpsertState>,
}

impl Plan {
    fn key(&self) -> &[usize] {
        match &self.mode {
            SinkMode::AppendOnly => &[],
            SinkMode::Upsert { key } => key,
        }
    }

    fn row_key(&self) -> RowKey {
        let fields = || self.key().iter().map(|&at| self.schema.field(at));
        let names = fields().map(|field| field.name().clone()).collect();
        RowKey { names, nullable: fields().any(|field| field.is_nullable()) }
    }

    /// The table, and whether this call has made it.
    async fn load_or_create(&self, catalog: &Catalog) -> Result<(LoadedTable, bool)> {
        let name = &self.options.table;
        if let Some(table) = catalog.load(name).await? {
            return Ok((table, false));
        }
        if !self.options.create_if_not_exists {
            return Err(target(format!("table \"{name}\" does not exist"))
                .with_hint("bring it back, or create the sink with create_table_if_not_exists"));
        }
        let version = self.options.format_version.unwrap_or(FormatVersion::V3);
        let schema = iceberg_schema(&self.schema, self.key(), version)?;
        let spec = match &self.options.partition_by {
            Some(text) => Some(parse_partition_by(text, &schema)?),
            None => None,
        };
        let defaults = [
            ("write.metadata.delete-after-commit.enabled", "true"),
            ("write.metadata.previous-versions-max", "100"),
            ("write.parquet.compression-codec", "zstd"),
        ];
        let mut properties: std::collections::HashMap<String, String> =
            defaults.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        properties.extend(self.options.properties.clone());
        let creation = TableCreation::builder()
            .name(name.name.clone())
            .location(catalog.table_location(name))
            .schema(schema)
            .partition_spec_opt(spec)
            .properties(properties)
            .format_version(version)
            .build();
        catalog.create(name, creation).await
    }

    /// Checks that a table is as the options say; one that the sink has made is.
    ///
    /// # Errors
    /// `Config` naming the option that says otherwise.
    fn check_options(&self, metadata: &TableMetadata) -> Result<()> {
        let (table, options) = (&self.options.table, &self.options);
        let found = metadata.format_version();
        if let Some(wanted) = options.format_version
            && wanted != found
        {
            return Err(ConnectorError::config(format!(
                "table \"{table}\" has format version {}, but option \"format_version\" says {}",
                found as u8, wanted as u8
            ))
            .with_hint("leave the option out, or write into another table"));
        }
        let Some(text) = &options.partition_by else { return Ok(()) };
        let wanted = parse_partition_by(text, metadata.current_schema())?;
        let found = metadata.default_partition_spec();
        let same = wanted.fields().len() == found.fields().len()
            && wanted.fields().iter().zip(found.fields()).all(|(wanted, found)| {
                (wanted.source_id, wanted.transform) == (found.source_id, found.transform)
            });
        if same {
            return Ok(());
        }
        let fields = found.fields().iter().map(|field| {
            let column = metadata.current_schema().name_by_field_id(field.source_id);
            format!("{}({})", field.transform, column.unwrap_or("?"))
        });
        let fields: Vec<String> = fields.collect();
        Err(ConnectorError::config(format!(
            "table \"{table}\" is partitioned by ({}), but option \"partition_by\" says ({text})",
            fields.join(", ")
        ))
        .with_hint("leave the option out, or write into another table"))
    }

    async fn build(
        &self,
        catalog: Arc<Catalog>,
        door: Arc<dyn CommitSink>,
        table: LoadedTable,
        mut manifests: Manifests,
    ) -> Result<Opened> {
        let metadata = &table.metadata;
        let version = metadata.format_version();
        if version < FormatVersion::V2 {
            return Err(target(format!(
                "table \"{}\" has format version 1, which has no deletes",
                self.options.table
            ))
            .with_hint("upgrade the table to format version 2 or 3"));
        }
        let schema = metadata.current_schema().clone();
        let wanted = iceberg_schema(&self.schema, self.key(), version)?;
        check_fits(&self.options.table.to_string(), &self.schema, &wanted, &schema)?;
        let conform = Conform::new(&self.schema, &schema)?;
        let spec = metadata.default_partition_spec();
        check_partition_types(&self.options.table.to_string(), spec, &schema)?;
        let io = catalog.io();
        let upsert = match &self.mode {
            SinkMode::AppendOnly => None,
            SinkMode::Upsert { .. } => {
                let RowKey { names, nullable } = self.row_key();
                let places = names.iter().map(|name| Ok(conform.schema().index_of(name)?));
                let key = places.collect::<Result<Vec<_>>>()?;
                let live = live_files(io, metadata, &mut manifests).await?;
                let columns = Columns::new(metadata)?;
                Some(UpsertState::load(io, version, &columns, (key, nullable), live).await?)
            }
        };
        let unique: Vec<String> = match self.key() {
            [only] => vec![self.schema.field(*only).name().clone()],
            _ => Vec::new(),
        };
        let writer = DataWriter::new(
            io.clone(),
            DataFolder::new(metadata.location()),
            schema.clone(),
            spec.spec_id(),
            &unique,
            upsert.as_ref().map_or(0, UpsertState::next_number),
        );
        let partitioner = Partitioner::new(spec, &schema)?;
        let shape = Shape::of(metadata);
        Ok(Opened { shape, catalog, door, table, manifests, conform, partitioner, writer, upsert })
    }
}

#[async_trait]
impl Sink for IcebergSink {
    async fn open(&mut self, resume: &Resume) -> Result<()> {
        if let Some(mut before) = self.opened.take() {
            before.writer.discard().await;
        }
        let access = match self.plan.options.create_if_not_exists {
            true => Access::Create,
            false => Access::Write,
        };
        let catalog = Arc::new(Catalog::open(&self.plan.options.catalog, access).await?);
        let door = (self.plan.door)(catalog.clone());
        let mut manifests = Manifests::default();
        let table = match resume.last.committable() {
            None => {
                let (table, is_made) = self.plan.load_or_create(&catalog).await?;
                if is_made {
                    self.made = Some(table.location.clone());
                }
                let name = &self.plan.options.table;
                check_resume(name, &table.metadata, self.plan.sink_id, resume)?;
                if resume.is_new {
                    self.plan.check_options(&table.metadata)?;
                }
                table
            }
            Some(pending) => {
                let (table, key) = (&self.plan.options.table, self.plan.row_key());
                let committer = Committer { catalog: &catalog, door: &*door, table, key };
                committer.commit(pending, None, &mut manifests).await?.table
            }
        };
        self.opened = Some(self.plan.build(catalog, door, table, manifests).await?);
        // A table that vanishes is never made anew: it would lack all that was written before.
        self.plan.options.create_if_not_exists = false;
        Ok(())
    }

    async fn undo_open(&mut self) -> Result<()> {
        let (Some(opened), Some(location)) = (self.opened.take(), self.made.take()) else {
            return Ok(());
        };
        opened.catalog.remove(&self.plan.options.table, &location).await
    }

    async fn write(&mut self, changes: ChangeBatch) -> Result<()> {
        if changes.num_rows() == 0 {
            return Ok(());
        }
        let name = self.plan.options.table.clone();
        let opened = self.opened()?;
        let rows = opened.conform.apply(changes.rows())?;
        if opened.upsert.is_some() {
            return opened.upsert(&changes, rows).await;
        }
        let Some(weights) = changes.weights() else {
            return opened.append(&rows).await.map(drop);
        };
        if let Some(row) = weights.values().iter().position(|&weight| weight < 0) {
            return Err(target(format!(
                "row {row} of a batch retracts, but the sink into \"{name}\" is append-only"
            ))
            .with_hint("use type = 'upsert' with a primary_key"));
        }
        let repeats = weights.values().iter().enumerate();
        let repeats = repeats.flat_map(|(row, &n)| std::iter::repeat_n(row as u32, n as usize));
        let rows = take_record_batch(&rows, &UInt32Array::from_iter_values(repeats))?;
        opened.append(&rows).await.map(drop)
    }

    async fn prepare(&mut self, mark: CommitMark) -> Result<Option<Committable>> {
        let sink_id = self.plan.sink_id;
        let opened = self.opened()?;
        let Some(delta) = opened.finish().await? else { return Ok(None) };
        let metadata = &opened.table.metadata;
        let previous = last_commit(metadata, sink_id)?.map(|last| last.id);
        let payload = Payload::new(metadata, sink_id, mark.id, previous, delta)?;
        Ok(Some(Committable { mark, payload: payload.to_text()? }))
    }

    async fn commit(&mut self, committable: &Committable) -> Result<CommitOutcome> {
        if self.opened.is_none() {
            // An earlier try has committed, and could not read the table after that.
            let last = LastCommit::Prepared(committable.clone());
            let fence = committable.mark.fence;
            self.open(&Resume { is_new: false, fence, last }).await?;
            return Ok(CommitOutcome::AlreadyVisible);
        }
        let (name, key) = (self.plan.options.table.clone(), self.plan.row_key());
        let opened = self.opened()?;
        let committer =
            Committer { catalog: &opened.catalog, door: &*opened.door, table: &name, key };
        let known = Some(opened.table.metadata.current_snapshot_id());
        let landed = committer.commit(committable, known, &mut opened.manifests).await?;
        let Landed { outcome, table, foreign } = landed;
        opened.table = table;
        let is_reshaped = Shape::of(&opened.table.metadata) != opened.shape;
        if is_reshaped || (foreign && opened.upsert.is_some()) {
            self.rebuild().await?;
        }
        Ok(outcome)
    }

    fn status(&self) -> SinkStatus {
        let opened = self.opened.as_ref();
        let metadata = opened.map(|opened| &opened.table.metadata);
        let snapshot = metadata.and_then(|metadata| metadata.current_snapshot());
        let rows_told = || {
            let summary = &snapshot?.summary().additional_properties;
            summary.get("total-records")?.parse().ok()
        };
        let upsert = opened.and_then(|opened| opened.upsert.as_ref());
        SinkStatus {
            target: self.plan.options.table.to_string(),
            location: metadata.map(|it| it.location().to_string()).unwrap_or_default(),
            snapshot: snapshot.map(|snapshot| snapshot.snapshot_id().to_string()),
            row_count: upsert.map(UpsertState::row_count).or_else(rows_told),
            state_bytes: upsert.map_or(0, UpsertState::memory_bytes),
        }
    }
}

impl IcebergSink {
    fn opened(&mut self) -> Result<&mut Opened> {
        self.opened.as_mut().ok_or_else(|| ConnectorError::internal("the sink is not open"))
    }

    /// Learns a table that someone else has changed as well: its rows, or its shape.
    async fn rebuild(&mut self) -> Result<()> {
        let Some(opened) = self.opened.take() else { return Ok(()) };
        if !opened.is_empty() {
            return Err(ConnectorError::unavailable(format!(
                "table \"{}\" was changed by another writer",
                self.plan.options.table
            )));
        }
        let Opened { catalog, door, table, manifests, upsert, .. } = opened;
        // The old index goes before the new one comes.
        drop(upsert);
        self.opened = Some(self.plan.build(catalog, door, table, manifests).await?);
        Ok(())
    }
}

/// Rows of a batch that went into one file.
struct Appended {
    written: Written,
    /// Their numbers in the batch; none for all.
    rows: Option<UInt32Array>,
}

impl Opened {
    fn is_empty(&self) -> bool {
        self.writer.is_empty() && self.upsert.as_ref().is_none_or(UpsertState::is_unmarked)
    }

    /// Writes rows, which are in the files' schema, into the files of their partitions.
    async fn append(&mut self, rows: &RecordBatch) -> Result<Vec<Appended>> {
        let mut appended = Vec::new();
        for part in self.partitioner.split(rows)? {
            let written = match &part.rows {
                None => self.writer.write(&part.partition, rows).await?,
                Some(numbers) => {
                    let rows = take_record_batch(rows, numbers)?;
                    self.writer.write(&part.partition, &rows).await?
                }
            };
            appended.push(Appended { written, rows: part.rows });
        }
        Ok(appended)
    }

    /// Takes net changes by key; `rows` are their rows in the files' schema.
    async fn upsert(&mut self, changes: &ChangeBatch, rows: RecordBatch) -> Result<()> {
        let not_open = || ConnectorError::internal("the sink has no index");
        let keys = self.upsert.as_ref().ok_or_else(not_open)?.keys(&rows)?;
        let (rows, kept) = match changes.weights() {
            None => (rows, None),
            Some(weights) => {
                let weights = weights.values();
                let state = self.upsert.as_mut().ok_or_else(not_open)?;
                state.remove(&keys, (0..weights.len()).filter(|&row| weights[row] < 0));
                let kept = (0..weights.len() as u32).filter(|&row| weights[row as usize] > 0);
                let kept = UInt32Array::from_iter_values(kept);
                (take_record_batch(&rows, &kept)?, Some(kept))
            }
        };
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let appended = self.append(&rows).await?;
        let state = self.upsert.as_mut().ok_or_else(not_open)?;
        for Appended { written, rows: part } in appended {
            if written.opened {
                state.open_file(written.number);
            }
            let count = part.as_ref().map_or(rows.num_rows(), |part| part.len());
            let places = (0..count).map(|at| {
                let row = part.as_ref().map_or(at, |part| part.value(at) as usize);
                let row = kept.as_ref().map_or(row, |kept| kept.value(row) as usize);
                (row, Place { file: written.number, pos: written.base + at as u32 })
            });
            state.insert(&keys, places);
        }
        Ok(())
    }

    /// Ends a checkpoint; none if nothing was written. All files are durable on return.
    async fn finish(&mut self) -> Result<Option<RowDelta>> {
        if self.is_empty() {
            return Ok(None);
        }
        let io = self.catalog.io();
        let Shape { spec_id, schema_id, .. } = self.shape;
        let mut closed = self.writer.close().await?;
        let (mut deletes, mut dead) = (Vec::new(), Vec::new());
        if let Some(state) = &mut self.upsert {
            let folder = self.writer.folder().clone();
            let ended = state.delete_files(io, spec_id, &mut closed, &folder).await?;
            remove_files(io, &ended.unused).await;
            (deletes, dead) = (ended.files, ended.dead);
        }
        if closed.is_empty() && deletes.is_empty() && dead.is_empty() {
            return Ok(None);
        }
        if !closed.is_empty() || !deletes.is_empty() {
            sync_folder(&self.writer.folder().new_path("parquet"))?;
        }
        let data = closed.into_iter().map(|closed| closed.file).collect();
        let (written, superseded) = (Vec::new(), Vec::new());
        Ok(Some(RowDelta { spec_id, schema_id, data, deletes, dead, written, superseded }))
    }
}
