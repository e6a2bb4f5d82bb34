//! The log of a sink's pending changes: net changes as objects on the object store.
//!
//! ```text
//! object = [Arrow IPC batches, with a column of weights][CRC-32 of them]
//! ```

use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use frazil_connector_api::{ChangeBatch, CheckpointNumber};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use uuid::Uuid;

use crate::catalog::RelationId;
use crate::change::{batch_bytes, concat};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::state::{Packing, append_batches, read_batches};

const WEIGHT: &str = "$weight";

/// Changes beyond this are not put together: a batch has at most 2 GiB of text.
pub(super) const MERGE_BYTES_MAX: usize = 1 << 29;

/// Pending changes that are put together at least.
const MERGED_MIN: usize = if cfg!(test) { 2 } else { 8 };

/// Net changes that are not committed, and the object that holds them as of the last manifest.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    /// The first of what it was made from has this number in the slot: it tells them apart.
    pub(super) number: u64,
    /// `None` if only the object has them.
    kept: Option<ChangeBatch>,
    pub(super) rows: usize,
    /// Their memory, when they are read.
    pub(super) bytes: usize,
    pub(super) object: Option<String>,
    /// The first checkpoint that has some of them; 0 if that was before the process started.
    pub(super) first: CheckpointNumber,
}

impl Pending {
    /// Changes that are not logged yet.
    pub(super) fn new(number: u64, changes: ChangeBatch, first: CheckpointNumber) -> Self {
        let (rows, bytes) = (changes.num_rows(), batch_bytes(changes.rows()));
        Self { number, kept: Some(changes), rows, bytes, object: None, first }
    }

    /// What an object of the log holds. It is read to see that it can be.
    ///
    /// # Errors
    /// `Unavailable` or `Corrupt`.
    pub(super) async fn restore(
        number: u64,
        object: &str,
        schema: &SchemaRef,
        env: &Env,
    ) -> Result<Self> {
        let mut pending =
            Self::new(number, read(object, schema, env).await?, CheckpointNumber::default());
        pending.set_object(object.to_string());
        pending.release();
        Ok(pending)
    }

    /// The changes.
    ///
    /// # Errors
    /// `Unavailable` or `Corrupt` if their object cannot be read.
    pub(super) async fn changes(&self, schema: &SchemaRef, env: &Env) -> Result<ChangeBatch> {
        match (&self.kept, &self.object) {
            (Some(changes), _) => Ok(changes.clone()),
            (None, Some(object)) => read(object, schema, env).await,
            (None, None) => Err(Error::internal("pending changes are neither kept nor logged")),
        }
    }

    /// They are logged as an object.
    pub(super) fn set_object(&mut self, object: String) {
        self.object = Some(object);
    }

    /// Forgets changes that their object has: they are read when they are needed.
    pub(super) fn release(&mut self) {
        if self.object.is_some() {
            self.kept = None;
        }
    }

    /// Bytes that are in memory.
    pub(super) fn kept_bytes(&self) -> usize {
        if self.kept.is_some() { self.bytes } else { 0 }
    }
}

/// Reads an object of the log.
async fn read(object: &str, schema: &SchemaRef, env: &Env) -> Result<ChangeBatch> {
    let path = Path::from(object);
    let bytes = env.store().get(&path).await?.bytes().await?;
    // Version 4 wrote no checksums, and names with an extension.
    let body = match path.extension() {
        Some(_) => Some(&*bytes),
        None => bytes
            .split_last_chunk()
            .filter(|(body, crc)| crc32fast::hash(body).to_le_bytes() == **crc)
            .map(|(body, _)| body),
    };
    let body = body.ok_or_else(|| {
        let message = format!("pending changes in \"{object}\" have another checksum");
        Error::new(ErrorKind::Corrupt, message)
    })?;
    let batches = read_batches(body)?;
    drop(bytes);
    let changes = batches.iter().map(decode).collect::<Result<Vec<_>>>()?;
    concat(Arc::clone(schema), changes)
}

/// The newest changes and those before them that are to be put together, oldest first; empty if
/// none are. Each of them has at most twice the rows of all that are newer, so that of n pending
/// changes there are about [`MERGED_MIN`] times log n objects. A merge of fewer would cost more
/// than it saves: most changes are committed before it pays.
pub(super) fn to_merge(pending: &[Pending]) -> &[Pending] {
    let Some((newest, older)) = pending.split_last() else { return &[] };
    if newest.object.is_some() {
        return &[];
    }
    let (mut rows, mut bytes) = (newest.rows, newest.bytes);
    let merged = older.iter().rev().take_while(|before| {
        let fits = before.rows <= 2 * rows && bytes + before.bytes <= MERGE_BYTES_MAX;
        rows += before.rows;
        bytes += before.bytes;
        fits
    });
    let count = merged.count() + 1;
    if count < MERGED_MIN { &[] } else { &pending[pending.len() - count..] }
}

/// Writes changes into the log; gives the object.
///
/// # Errors
/// `Unavailable`.
pub(super) async fn write(
    changes: &ChangeBatch,
    relation: RelationId,
    sequence: CheckpointNumber,
    env: &Env,
) -> Result<String> {
    let schema = changes.schema();
    let mut fields: Vec<Field> =
        schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(WEIGHT, DataType::Int64, false));
    let mut columns = changes.rows().columns().to_vec();
    columns.push(Arc::new(changes.weight_column()));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let mut bytes = Vec::new();
    append_batches(&mut bytes, &[batch], Packing::Fast)?;
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    let name = Uuid::new_v4().simple();
    let object = format!("state/pending-{}-{:012}-{name}", relation.0, sequence.0);
    env.store().put(&Path::from(object.as_str()), PutPayload::from(bytes)).await?;
    Ok(object)
}

fn decode(batch: &RecordBatch) -> Result<ChangeBatch> {
    let width = batch.num_columns().saturating_sub(1);
    // A column of the sink may have its name.
    let weights = batch.columns().last();
    let weights = weights.and_then(|column| column.as_any().downcast_ref::<Int64Array>());
    let weights = weights.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "an object of pending changes has no weights")
    })?;
    let rows = batch.project(&(0..width).collect::<Vec<_>>())?;
    Ok(ChangeBatch::try_new(rows, weights.clone())?)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn a_changed_or_missing_byte_is_noticed() {
        let env = Env::real(Arc::new(InMemory::new())).unwrap();
        let keys: Arc<Int64Array> = Arc::new(Int64Array::from_iter_values(0..20));
        let rows = RecordBatch::try_from_iter([("k", keys as _)]).unwrap();
        let changes = ChangeBatch::inserts(rows);
        let object = write(&changes, RelationId(1), CheckpointNumber(7), &env).await.unwrap();
        let schema = changes.schema();
        let read_back = read(&object, &schema, &env).await.unwrap();
        assert_eq!((read_back.rows(), read_back.num_rows()), (changes.rows(), 20));
        let path = Path::from(object.as_str());
        let bytes = env.store().get(&path).await.unwrap().bytes().await.unwrap();
        for at in 0..bytes.len() {
            let mut other = bytes.to_vec();
            other[at] ^= 4;
            let short = bytes[..at].to_vec();
            for other in [other, short] {
                env.store().put(&path, other.into()).await.unwrap();
                let error = read(&object, &schema, &env).await.unwrap_err();
                assert_eq!(error.kind, ErrorKind::Corrupt, "byte {at}");
            }
        }
    }
}
