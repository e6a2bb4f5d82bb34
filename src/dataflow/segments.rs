//! Writes the deltas of a worker's operators as one object.

use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use super::context::OperatorDelta;
use crate::catalog::RelationId;
use crate::change::batch_bytes;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result, caught};
use crate::state::{SegmentRef, encode_delta};

/// Reads of an object before its state counts as lost, and the first pause between them, doubled.
const READ_ATTEMPTS_MAX: u32 = 6;
const READ_PAUSE: Duration = Duration::from_millis(50);

/// Bytes of rows that are encoded at once: a change of threads, as for more, takes longer.
const ENCODED_IN_PLACE_MAX: usize = 64 << 10;

/// What a worker has written of a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Segments of all relations.
    pub(crate) segments: Vec<SegmentRef>,
    /// Relations whose deltas could not be encoded; their state is not complete.
    pub(crate) failures: Vec<(RelationId, Error)>,
}

/// Encodes deltas off the worker's thread and puts them as one object; none if there is nothing.
///
/// # Errors
/// `Unavailable` if the object store is.
pub(crate) async fn write(
    env: &Env,
    worker: usize,
    epoch: u64,
    deltas: Vec<OperatorDelta>,
) -> Result<Written> {
    let deltas: Vec<_> = deltas.into_iter().filter(|it| it.delta.row_count() > 0).collect();
    if deltas.is_empty() {
        return Ok(Written::default());
    }
    // The name is new for every start, so that a stale process never overwrites a live object.
    let object = format!("state/{epoch:020}-{worker}-{}.seg", env.random_id().simple());
    let name = object.clone();
    let batches = deltas.iter().flat_map(|it| it.delta.puts.iter().chain(&it.delta.deletes));
    let is_small = batches.map(batch_bytes).sum::<usize>() < ENCODED_IN_PLACE_MAX;
    let encode = move || encode(&name, worker, &deltas);
    let (bytes, written) = match is_small {
        true => encode(),
        false => tokio::task::spawn_blocking(encode)
            .await
            .map_err(|error| Error::internal(format!("a segment could not be encoded: {error}")))?,
    };
    if !written.segments.is_empty() {
        env.store().put(&Path::from(object.as_str()), PutPayload::from(bytes)).await?;
        env.reach("checkpoint.segments_written");
    }
    Ok(written)
}

/// Reads an object. A store that does not answer is tried some times: what is built on the object
/// would have failed for good.
///
/// # Errors
/// `Corrupt` if it is gone; `Unavailable`.
pub(crate) async fn read(env: &Env, object: &str) -> Result<bytes::Bytes> {
    let path = Path::from(object);
    let mut attempts = 1;
    loop {
        let read = async { env.store().get(&path).await?.bytes().await };
        match read.await {
            Ok(bytes) => return Ok(bytes),
            Err(object_store::Error::NotFound { .. }) => {
                let message = format!("object \"{object}\" is missing");
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            Err(error) if attempts == READ_ATTEMPTS_MAX => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, object, attempts, "an object could not be read, again");
                tokio::time::sleep(READ_PAUSE * 2_u32.pow(attempts)).await;
                attempts += 1;
            }
        }
    }
}

fn encode(object: &str, worker: usize, deltas: &[OperatorDelta]) -> (Vec<u8>, Written) {
    let mut bytes = Vec::new();
    let mut written = Written::default();
    for delta in deltas {
        let start = bytes.len();
        let encoded = caught("a checkpoint", || encode_delta(&mut bytes, &delta.delta));
        match encoded {
            Ok((offset, length)) => written.segments.push(SegmentRef {
                relation: delta.relation,
                operator: delta.operator,
                table: delta.delta.table,
                worker: Some(worker),
                key_columns: delta.key_columns,
                object: object.to_string(),
                offset,
                length,
                rows: delta.delta.row_count() as u64,
            }),
            Err(error) => {
                bytes.truncate(start);
                written.failures.push((delta.relation, error));
            }
        }
    }
    (bytes, written)
}
