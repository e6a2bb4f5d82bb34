//! [`IcebergSink`]: the committer of the contract; [`crate::writer`] has the writers.
//!
//! ```text
//! writers: net changes ─► keys out of the index, places marked ─► rows into Parquet, keys in
//! merge:   data files of all writers, marks ─► deletes (v3 vectors | v2 positions) ─► committable
//! commit:  one Iceberg snapshot with all of it
//! ```

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use frazil_connector_api::{
    CommitMark, CommitOutcome, Committable, ConnectorError, Fragment, LastCommit, OptionSpec,
    Options, Result, Resume, SinkCommitter, SinkConnector, SinkMode, SinkStatus, SinkWriter,
};
use iceberg::TableCreation;
use iceberg::spec::{FormatVersion, TableMetadata};
use uuid::Uuid;

use crate::catalog::{Access, Catalog, CommitSink, LoadedTable, sync_folder};
use crate::columns::Columns;
use crate::commit::{Committer, Landed, Tried};
use crate::committable::{Payload, partition_type};
use crate::data_writer::{DataFolder, DataWriter, FileNumbers};
use crate::error::target;
use crate::live_files::{Manifests, live_files};
use crate::marker::{check_resume, last_commit};
use crate::options::{OPTIONS, SinkOptions};
use crate::partition::{Partitioner, check_partition_types, parse_partition_by};
use crate::relocate::RowKey;
use crate::row_delta::RowDelta;
use crate::schema::{Conform, check_fits, iceberg_schema};
use crate::table_name::TableName;
use crate::unused_files::remove_files;
use crate::upsert::UpsertState;
use crate::writer::{FilePart, IcebergWriter, SharedState};

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
    ) -> Result<Box<dyn SinkCommitter>> {
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
) -> Result<Box<dyn SinkCommitter>> {
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
) -> Result<Box<dyn SinkCommitter>> {
    let options = SinkOptions::parse(options)?;
    if let SinkMode::Upsert { key } = &mode
        && (key.is_empty() || key.iter().any(|&at| at >= schema.fields().len()))
    {
        return Err(ConnectorError::config("an upsert sink needs a primary key of its columns"));
    }
    let plan = Plan { options, schema, mode, sink_id, door };
    Ok(Box::new(IcebergSink { plan, opened: None, made: None, replaced: Vec::new() }))
}

struct IcebergSink {
    plan: Plan,
    opened: Option<Opened>,
    /// The metadata of a table that this sink has made.
    made: Option<String>,
    /// Files that commits have taken the place of.
    replaced: Vec<String>,
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

/// What writers are made for. A table whose shape changes needs other ones.
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
    conform: Arc<Conform>,
    numbers: FileNumbers,
    upsert: Option<SharedState>,
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
        let next_number = upsert.as_ref().map_or(0, UpsertState::next_number);
        let shape = Shape::of(metadata);
        Ok(Opened {
            shape,
            catalog,
            door,
            table,
            manifests,
            conform: Arc::new(conform),
            numbers: Arc::new(next_number.into()),
            upsert: upsert.map(SharedState::new),
        })
    }

    /// One more writer for an open table.
    fn writer(&self, opened: &Opened) -> Result<IcebergWriter> {
        let metadata = &opened.table.metadata;
        let (schema, spec) = (metadata.current_schema(), metadata.default_partition_spec());
        let Shape { schema_id, spec_id, .. } = opened.shape;
        let unique: Vec<String> = match self.key() {
            [only] => vec![self.schema.field(*only).name().clone()],
            _ => Vec::new(),
        };
        let data = DataWriter::new(
            opened.catalog.io().clone(),
            DataFolder::new(metadata.location()),
            schema.clone(),
            spec_id,
            &unique,
            Arc::clone(&opened.numbers),
        );
        let index = opened.upsert.as_ref().map(|state| {
            let (encoder, key) = state.lock().key_encoder();
            (state.clone(), encoder, key)
        });
        Ok(IcebergWriter {
            table: self.options.table.clone(),
            schema_id,
            spec_id,
            partition: partition_type(metadata, spec_id)?,
            conform: Arc::clone(&opened.conform),
            partitioner: Partitioner::new(spec, schema)?,
            data,
            index,
        })
    }
}

#[async_trait]
impl SinkCommitter for IcebergSink {
    async fn open(&mut self, resume: &Resume) -> Result<()> {
        // The old index goes before the new one comes.
        drop(self.opened.take());
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
                match committer.commit(pending, None, &mut manifests).await? {
                    Tried::Landed(landed) => {
                        self.replaced.extend(landed.replaced);
                        landed.table
                    }
                    Tried::Conflict => return Err(not_committed(table, OTHER_WRITER)),
                    Tried::Unknown(reason) => return Err(not_committed(table, &reason)),
                }
            }
        };
        self.opened = Some(self.plan.build(catalog, door, table, manifests).await?);
        // A table that vanishes is never made anew: it would lack all that was written before.
        self.plan.options.create_if_not_exists = false;
        Ok(())
    }

    async fn drop_target(&mut self) -> Result<()> {
        let (Some(opened), Some(location)) = (self.opened.take(), self.made.take()) else {
            return Ok(());
        };
        opened.catalog.remove(&self.plan.options.table, &location).await
    }

    fn writer(&mut self) -> Result<Box<dyn SinkWriter>> {
        let opened = self.opened.as_ref().ok_or_else(not_open)?;
        Ok(Box::new(self.plan.writer(opened)?))
    }

    async fn merge(
        &mut self,
        mark: CommitMark,
        fragments: Vec<Fragment>,
    ) -> Result<Option<Committable>> {
        let sink_id = self.plan.sink_id;
        let opened = self.opened.as_mut().ok_or_else(not_open)?;
        let Some(delta) = opened.merge(&fragments).await? else { return Ok(None) };
        let metadata = &opened.table.metadata;
        let previous = last_commit(metadata, sink_id)?.map(|last| last.id);
        let payload = Payload::new(metadata, sink_id, mark.id, previous, delta)?;
        Ok(Some(Committable { mark, payload: payload.to_text()? }))
    }

    async fn commit(&mut self, committable: &Committable) -> Result<CommitOutcome> {
        let Some(opened) = &mut self.opened else {
            // An earlier try has committed, and could not read the table after that.
            let last = LastCommit::Prepared(committable.clone());
            let fence = committable.mark.fence;
            self.open(&Resume { is_new: false, fence, last }).await?;
            let snapshot = Payload::parse(committable)?.snapshot_id.to_string();
            return Ok(CommitOutcome::Committed { snapshot });
        };
        let (name, key) = (&self.plan.options.table, self.plan.row_key());
        let committer =
            Committer { catalog: &opened.catalog, door: &*opened.door, table: name, key };
        let known = Some(opened.table.metadata.current_snapshot_id());
        let Landed { snapshot, table, foreign, replaced } =
            match committer.commit(committable, known, &mut opened.manifests).await? {
                Tried::Landed(landed) => landed,
                Tried::Conflict => {
                    return Ok(CommitOutcome::Conflict { reason: OTHER_WRITER.to_string() });
                }
                Tried::Unknown(reason) => return Ok(CommitOutcome::Unknown { reason }),
            };
        self.replaced.extend(replaced);
        opened.table = table;
        let is_reshaped = Shape::of(&opened.table.metadata) != opened.shape;
        if is_reshaped || (foreign && opened.upsert.is_some()) {
            self.rebuild().await?;
        }
        Ok(CommitOutcome::Committed { snapshot })
    }

    async fn abort(&mut self, fragments: Vec<Fragment>) -> Result<()> {
        let opened = self.opened.take().ok_or_else(not_open)?;
        let parts = fragments.iter().map(FilePart::parse).collect::<Result<Vec<_>>>()?;
        let paths = parts.iter().flat_map(FilePart::paths).map(str::to_string);
        remove_files(opened.catalog.io(), &paths.collect::<Vec<_>>()).await;
        Ok(())
    }

    async fn maintain(&mut self) -> Result<()> {
        let opened = self.opened.as_ref().ok_or_else(not_open)?;
        remove_files(opened.catalog.io(), &std::mem::take(&mut self.replaced)).await;
        Ok(())
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
            row_count: upsert.map(|state| state.lock().row_count()).or_else(rows_told),
            state_bytes: upsert.map_or(0, |state| state.lock().memory_bytes()),
        }
    }
}

/// Why a commit meets a conflict.
const OTHER_WRITER: &str = "another writer has changed the table meanwhile";

fn not_open() -> ConnectorError {
    ConnectorError::internal("the sink is not open")
}

fn not_committed(table: &TableName, reason: &str) -> ConnectorError {
    ConnectorError::unavailable(format!("cannot commit to table \"{table}\": {reason}"))
}

impl IcebergSink {
    /// Learns a table that someone else has changed as well: its rows, or its shape.
    async fn rebuild(&mut self) -> Result<()> {
        let Some(mut opened) = self.opened.take() else { return Ok(()) };
        if let Some(state) = &mut opened.upsert
            && !state.sole()?.is_unmarked()
        {
            return Err(ConnectorError::internal("a commit before all changes were merged"));
        }
        let Opened { catalog, door, table, manifests, upsert, .. } = opened;
        // The old index goes before the new one comes.
        drop(upsert);
        self.opened = Some(self.plan.build(catalog, door, table, manifests).await?);
        Ok(())
    }
}

impl Opened {
    /// Puts together what writers made; none if nothing is to be committed. All files are durable
    /// on return.
    async fn merge(&mut self, fragments: &[Fragment]) -> Result<Option<RowDelta>> {
        let io = self.catalog.io();
        let metadata = &self.table.metadata;
        let Shape { spec_id, schema_id, .. } = self.shape;
        let (partition, schema) = (partition_type(metadata, spec_id)?, metadata.current_schema());
        let mut closed = Vec::new();
        for fragment in fragments {
            let part = FilePart::parse(fragment)?;
            if (part.schema_id, part.spec_id) != (schema_id, spec_id) {
                return Err(ConnectorError::internal("a fragment was written for another table"));
            }
            closed.extend(part.closed_files(&partition, schema)?);
        }
        closed.sort_by_key(|file| file.number);
        let folder = DataFolder::new(metadata.location());
        let (mut deletes, mut dead) = (Vec::new(), Vec::new());
        if let Some(state) = &mut self.upsert {
            let state = state.sole()?;
            let ended = state.delete_files(io, spec_id, &mut closed, &folder).await?;
            remove_files(io, &ended.unused).await;
            (deletes, dead) = (ended.files, ended.dead);
        }
        if closed.is_empty() && deletes.is_empty() && dead.is_empty() {
            return Ok(None);
        }
        if !closed.is_empty() || !deletes.is_empty() {
            sync_folder(&folder.new_path("parquet"))?;
        }
        let data = closed.into_iter().map(|closed| closed.file).collect();
        let (written, superseded) = (Vec::new(), Vec::new());
        Ok(Some(RowDelta { spec_id, schema_id, data, deletes, dead, written, superseded }))
    }
}
