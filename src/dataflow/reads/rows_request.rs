//! [`RowsRequest`] and [`RowsChunk`]: what process 0 asks a worker of another process, and its
//! answer.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema};
use frazil_connector_api::{ChangeBatch, Decoded};
use serde::{Deserialize, Serialize};

use crate::catalog::RelationId;
use crate::dataflow::packet::Packet;
use crate::error::{Error, ErrorKind, Result};
use crate::state::{RowsSnapshot, ScanPlace, SnapshotStore};

/// Bytes of rows that a scan takes at once.
const CHUNK_BYTES: usize = if cfg!(test) { 256 } else { 1 << 20 };

/// Rows of a worker's shard of a relation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RowsRequest {
    /// The relation.
    pub(crate) relation: RelationId,
    /// The epoch of the statement's snapshot.
    pub(crate) epoch: u64,
    /// Columns that are wanted, or all.
    pub(crate) projection: Option<Vec<usize>>,
    /// Which rows.
    pub(crate) rows: AskedRows,
}

/// Which rows are asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum AskedRows {
    /// The next ones of a scan.
    From(ScanPlace),
    /// Those with one of some keys, as [`RowsSnapshot::lookup`] finds them.
    OfKeys {
        /// Columns of the key.
        key: Vec<usize>,
        /// Their values, a row for each key.
        wanted: Packet,
    },
}

/// Rows that were asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RowsChunk {
    rows: Packet,
    /// Where a scan continues, if there are more rows.
    pub(crate) next: Option<ScanPlace>,
}

impl AskedRows {
    /// The rows of these keys; a column for each column of the key.
    ///
    /// # Errors
    /// Arrow IPC's only.
    pub(crate) fn of_keys(key: &[usize], wanted: &[ArrayRef]) -> Result<Self> {
        let field = |column: &ArrayRef| Field::new("key", column.data_type().clone(), true);
        let schema = Schema::new(wanted.iter().map(field).collect::<Vec<_>>());
        let wanted = RecordBatch::try_new(Arc::new(schema), wanted.to_vec())?;
        Ok(Self::OfKeys { key: key.to_vec(), wanted: packet(wanted)? })
    }
}

impl RowsRequest {
    /// The answer of a worker.
    ///
    /// # Errors
    /// `UndefinedTable` if the relation has been dropped; what cannot be sent.
    pub(crate) fn answer(&self, snapshots: &SnapshotStore, worker: usize) -> Result<RowsChunk> {
        let rows = snapshots.rows_at(self.relation, worker, self.epoch);
        let rows = rows.ok_or_else(|| {
            let message = format!("relation {} has been dropped while it was read", self.relation);
            Error::new(ErrorKind::UndefinedTable, message)
        })?;
        let projection = self.projection.as_deref();
        let (rows, next) = match &self.rows {
            AskedRows::From(place) => rows.scan(*place, CHUNK_BYTES, projection)?,
            AskedRows::OfKeys { key, wanted } => {
                (found(&rows, key, rows_of(wanted)?.columns(), projection)?, None)
            }
        };
        Ok(RowsChunk { rows: packet(rows)?, next })
    }
}

/// The rows of some keys, as one batch.
fn found(
    rows: &RowsSnapshot,
    key: &[usize],
    wanted: &[ArrayRef],
    projection: Option<&[usize]>,
) -> Result<RecordBatch> {
    let schema = rows.projected_schema(projection)?;
    Ok(concat_batches(&schema, &rows.lookup(key, wanted, projection)?)?)
}

impl RowsChunk {
    /// The rows.
    ///
    /// # Errors
    /// `Internal` for what is no batch of rows.
    pub(crate) fn into_rows(self) -> Result<RecordBatch> {
        rows_of(&self.rows).cloned()
    }
}

/// Rows as they travel; encoded here, where an error is the statement's alone.
fn packet(rows: RecordBatch) -> Result<Packet> {
    let packet = Packet::local(ChangeBatch::inserts(rows));
    packet.encode()?;
    Ok(packet)
}

fn rows_of(packet: &Packet) -> Result<&RecordBatch> {
    match &packet.data {
        Decoded::Changes(changes) => Ok(changes.rows()),
        Decoded::Upserts(_) => Err(Error::internal("rows of a table came as upserts")),
    }
}
