//! Writes the deltas of a worker's operators as one object.

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use super::context::OperatorDelta;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::state::{SegmentRef, encode_delta};

/// Encodes deltas off the worker's thread and puts them as one object; none if there is nothing.
///
/// # Errors
/// `Unavailable` if the object store is.
pub(crate) async fn write(
    env: &Env,
    worker: usize,
    epoch: u64,
    deltas: Vec<OperatorDelta>,
) -> Result<Vec<SegmentRef>> {
    // The name is new for every start, so that a stale process never overwrites a live object.
    let object = format!("state/{epoch:020}-{worker}-{}.seg", uuid::Uuid::new_v4().simple());
    let name = object.clone();
    let encode = move || encode(&name, worker, &deltas);
    let (bytes, segments) = tokio::task::spawn_blocking(encode)
        .await
        .map_err(|error| Error::internal(format!("a segment could not be encoded: {error}")))??;
    if !segments.is_empty() {
        env.store().put(&Path::from(object.as_str()), PutPayload::from(bytes)).await?;
        env.reach("checkpoint.segments_written");
    }
    Ok(segments)
}

/// Reads an object.
///
/// # Errors
/// `Unavailable`, also if it is gone.
pub(crate) async fn read(env: &Env, object: &str) -> Result<bytes::Bytes> {
    Ok(env.store().get(&Path::from(object)).await?.bytes().await?)
}

fn encode(
    object: &str,
    worker: usize,
    deltas: &[OperatorDelta],
) -> Result<(Vec<u8>, Vec<SegmentRef>)> {
    let mut bytes = Vec::new();
    let mut segments = Vec::new();
    for OperatorDelta { relation, operator, key_columns, delta } in deltas {
        let rows = delta.row_count();
        if rows == 0 {
            continue;
        }
        let (offset, length) = encode_delta(&mut bytes, delta)?;
        segments.push(SegmentRef {
            relation: *relation,
            operator: *operator,
            table: delta.table,
            worker: Some(worker),
            key_columns: *key_columns,
            object: object.to_string(),
            offset,
            length,
            rows: rows as u64,
        });
    }
    Ok((bytes, segments))
}
