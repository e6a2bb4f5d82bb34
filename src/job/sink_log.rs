//! The log of a sink's pending changes: net changes as objects on the object store.

use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use frazil_connector_api::ChangeBatch;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use uuid::Uuid;

use crate::catalog::RelationId;
use crate::change::{concat, consolidate};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::state::{Packing, append_batches, read_batches};

const WEIGHT: &str = "$weight";

/// Changes beyond this are not put together: a batch has at most 2 GiB of text.
pub(super) const MERGE_BYTES_MAX: usize = 1 << 29;

/// Net changes that are not committed, and the object that holds them as of the last manifest.
pub(super) struct Pending {
    pub(super) changes: ChangeBatch,
    pub(super) object: Option<String>,
    /// The first checkpoint that has some of them; 0 if that was before the process started.
    pub(super) first: u64,
}

impl Pending {
    /// Reads an object of the log.
    ///
    /// # Errors
    /// `Unavailable` or `Corrupt`.
    pub(super) async fn read(object: &str, schema: &SchemaRef, env: &Env) -> Result<Self> {
        let bytes = env.store().get(&Path::from(object)).await?.bytes().await?;
        let batches = read_batches(&bytes)?;
        let changes = batches.iter().map(decode).collect::<Result<Vec<_>>>()?;
        let changes = concat(Arc::clone(schema), changes)?;
        Ok(Self { changes, object: Some(object.to_string()), first: 0 })
    }

    /// Their memory.
    pub(super) fn bytes(&self) -> usize {
        self.changes.rows().get_array_memory_size()
    }
}

/// Merges the newest changes with those before them, while these are not much more: of n pending
/// changes there are about log2(n) objects, and each was written about as often.
pub(super) fn merge_newest(
    pending: &mut Vec<Pending>,
    schema: &SchemaRef,
    garbage: &mut Vec<String>,
) -> Result<()> {
    while let [.., before, newest] = pending.as_slice() {
        let (rows, rows_before) = (newest.changes.num_rows(), before.changes.num_rows());
        let is_large = before.bytes() + newest.bytes() > MERGE_BYTES_MAX;
        if newest.object.is_some() || is_large || rows_before > rows.saturating_mul(2) {
            return Ok(());
        }
        let both = vec![before.changes.clone(), newest.changes.clone()];
        let first = before.first.min(newest.first);
        let changes = consolidate(Arc::clone(schema), both)?;
        pending.pop();
        garbage.extend(pending.pop().and_then(|before| before.object));
        if changes.num_rows() > 0 {
            pending.push(Pending { changes, object: None, first });
        }
    }
    Ok(())
}

/// Writes changes into the log; gives the object.
///
/// # Errors
/// `Unavailable`.
pub(super) async fn write(
    changes: &ChangeBatch,
    relation: RelationId,
    sequence: u64,
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
    let name = Uuid::new_v4().simple();
    let object = format!("state/pending-{}-{sequence:012}-{name}.seg", relation.0);
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
