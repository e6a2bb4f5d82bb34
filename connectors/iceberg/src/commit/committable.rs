//! [`Payload`]: what a committable says about an Iceberg table, as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frazil_connector_api::{Committable, ConnectorError, Result};
use iceberg::spec::{StructType, TableMetadata};
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{ErrorContext, target};
use crate::partition::spec_and_schema;
use crate::row_delta::{DeadFile, DeleteFile, RowDelta};
use crate::stored_file::StoredFile;

/// The files of one checkpoint; they exist, and no snapshot names them yet.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payload {
    /// The table that the files were written for.
    pub(crate) table_uuid: Uuid,
    /// The sink that wrote them.
    pub(crate) sink_id: Uuid,
    /// The Iceberg snapshot that will show them; follows from the commit's id.
    pub(crate) snapshot_id: i64,
    /// The sink's commit that the table had when the files were written: they are only good as
    /// the next one after it.
    pub(crate) previous: Option<Uuid>,
    /// Schema that the files' bounds refer to.
    schema_id: i32,
    /// Partition spec of the data files.
    spec_id: i32,
    data: Vec<StoredFile>,
    deletes: Vec<StoredDelete>,
    dead: Vec<StoredDead>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredDead {
    spec_id: i32,
    path: String,
    vector: Option<String>,
    /// A roaring bitmap in base64.
    deleted: String,
}

impl StoredDead {
    fn new(dead: DeadFile) -> Result<Self> {
        let mut bytes = Vec::new();
        dead.deleted
            .serialize_into(&mut bytes)
            .context(|| "cannot describe the rows of a dead file".to_string())?;
        let DeadFile { spec_id, path, vector, .. } = dead;
        Ok(Self { spec_id, path, vector, deleted: STANDARD.encode(bytes) })
    }

    fn dead_file(&self) -> Result<DeadFile> {
        let broken = || ConnectorError::internal("a committable has broken rows of a dead file");
        let bytes = STANDARD.decode(&self.deleted).map_err(|it| broken().with_source(it))?;
        let deleted = RoaringTreemap::deserialize_from(&bytes[..]);
        Ok(DeadFile {
            spec_id: self.spec_id,
            path: self.path.clone(),
            vector: self.vector.clone(),
            deleted: deleted.map_err(|it| broken().with_source(it))?,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredDelete {
    spec_id: i32,
    /// The deletion vector that this one is a superset of and takes the place of.
    replaces: Option<String>,
    /// The data files that it deletes from, as far as an earlier checkpoint made them.
    targets: Vec<String>,
    file: StoredFile,
}

/// The Iceberg snapshot of a commit: 63 random bits, never 0.
fn snapshot_id(commit: Uuid) -> i64 {
    let (high, low) = commit.as_u64_pair();
    (((high ^ low) >> 1) as i64).max(1)
}

impl Payload {
    /// Describes the files of a checkpoint.
    pub(crate) fn new(
        metadata: &TableMetadata,
        sink_id: Uuid,
        commit: Uuid,
        previous: Option<Uuid>,
        delta: RowDelta,
    ) -> Result<Self> {
        let RowDelta { spec_id, schema_id, data, deletes, dead, .. } = delta;
        let partition = partition_type(metadata, spec_id)?;
        let data = data.iter().map(|file| StoredFile::new(file, &partition));
        let data = data.collect::<Result<_>>()?;
        let deletes = deletes.into_iter().map(|delete| {
            let DeleteFile { spec_id, replaces, targets, file } = delete;
            let file = StoredFile::new(&file, &partition_type(metadata, spec_id)?)?;
            Ok(StoredDelete { spec_id, replaces, targets, file })
        });
        Ok(Self {
            table_uuid: metadata.uuid(),
            sink_id,
            snapshot_id: snapshot_id(commit),
            previous,
            schema_id,
            spec_id,
            data,
            deletes: deletes.collect::<Result<_>>()?,
            dead: dead.into_iter().map(StoredDead::new).collect::<Result<_>>()?,
        })
    }

    /// Reads the payload of a committable.
    pub(crate) fn parse(committable: &Committable) -> Result<Self> {
        serde_json::from_str(&committable.payload).map_err(|source| {
            ConnectorError::internal("a committable of an Iceberg sink cannot be read")
                .with_source(source)
        })
    }

    /// The payload as text.
    pub(crate) fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|source| {
            ConnectorError::internal("a committable cannot be written").with_source(source)
        })
    }

    /// The files again. They keep the partition spec and schema that they were written with,
    /// whatever the table has become since: Iceberg allows files of any spec that the table still
    /// has.
    ///
    /// # Errors
    /// `Target` if the table is another one or has lost the files' schema or partition spec.
    pub(crate) fn delta(&self, metadata: &TableMetadata) -> Result<RowDelta> {
        if self.table_uuid != metadata.uuid() {
            return Err(target("the table was dropped and created again")
                .with_hint("drop the sink and create it again"));
        }
        let Some(schema) = metadata.schema_by_id(self.schema_id) else {
            return Err(target("the table has lost the schema of files to be committed"));
        };
        let read = |file: &StoredFile, spec_id| {
            file.data_file(spec_id, &partition_type(metadata, spec_id)?, schema)
        };
        let data = self.data.iter().map(|file| read(file, self.spec_id));
        let deletes = self.deletes.iter().map(|delete| {
            Ok(DeleteFile {
                spec_id: delete.spec_id,
                replaces: delete.replaces.clone(),
                targets: delete.targets.clone(),
                file: read(&delete.file, delete.spec_id)?,
            })
        });
        Ok(RowDelta {
            spec_id: self.spec_id,
            schema_id: self.schema_id,
            data: data.collect::<Result<_>>()?,
            deletes: deletes.collect::<Result<_>>()?,
            dead: self.dead.iter().map(StoredDead::dead_file).collect::<Result<_>>()?,
            written: Vec::new(),
            superseded: Vec::new(),
        })
    }
}

/// The type of the partitions of a spec that the table has.
pub(crate) fn partition_type(metadata: &TableMetadata, spec_id: i32) -> Result<StructType> {
    let (spec, schema) = spec_and_schema(metadata, spec_id)?;
    spec.partition_type(&schema)
        .context(|| format!("partition spec {spec_id} does not fit the table's schema"))
}
