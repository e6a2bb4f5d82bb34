//! Writes the deltas of a worker's operators, and reads what is stored.

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use tokio::sync::mpsc::{Receiver, channel};

use super::context::OperatorDelta;
use crate::catalog::RelationId;
use crate::change::ShardRange;
use crate::env::Env;
use crate::error::{Error, Result, caught};
use crate::state::{
    BLOCK_BYTES_MIN, Place, SegmentRef, ShardGroup, ShardReader, StoredSegments, encode_delta,
};

/// What a worker has written of a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Segments of all relations.
    pub(crate) stored: StoredSegments,
    /// Relations whose deltas could not be encoded; their state is not complete.
    pub(crate) failures: Vec<(RelationId, Error)>,
}

/// True if deltas are so few that they are encoded at once and need no object of their own: a
/// change of threads takes longer than to encode a block.
pub(crate) fn are_small(deltas: &[OperatorDelta]) -> bool {
    deltas.iter().map(|it| it.delta.bytes()).sum::<usize>() < BLOCK_BYTES_MIN
}

/// Encodes deltas that are small, as segments without an object.
pub(crate) fn encode_small(worker: usize, deltas: &[OperatorDelta]) -> Written {
    let (bytes, mut written) = encode("", worker, deltas);
    written.stored.body = Some(bytes);
    written
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
    // The name is new for every start, so that a stale process never overwrites a live object.
    let object = format!("state/{epoch:020}-{worker}-{}.seg", env.random_id().simple());
    let name = object.clone();
    let encode = move || encode(&name, worker, &deltas);
    let (bytes, written) = tokio::task::spawn_blocking(encode)
        .await
        .map_err(|error| Error::internal(format!("a segment could not be encoded: {error}")))?;
    if !written.stored.segments.is_empty() {
        env.store().put(&Path::from(object.as_str()), PutPayload::from(bytes)).await?;
        env.reach("checkpoint.segments_written");
    }
    Ok(written)
}

/// Reads what a state table has of some shards, beside the worker, which takes it group by group.
pub(crate) fn read(
    env: &Env,
    tokio: &tokio::runtime::Handle,
    segments: Vec<SegmentRef>,
    shards: ShardRange,
) -> Receiver<Result<ShardGroup>> {
    let (groups, taken) = channel(1);
    let env = env.clone();
    tokio.spawn(async move {
        let read = async {
            let mut reader = ShardReader::open(env, segments, shards).await?;
            while let Some(group) = reader.next().await? {
                // The worker is gone if it could not take what came before.
                if groups.send(Ok(group)).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        if let Err(error) = read.await {
            let _ = groups.send(Err(error)).await;
        }
    });
    taken
}

fn encode(object: &str, worker: usize, deltas: &[OperatorDelta]) -> (Vec<u8>, Written) {
    let mut bytes = Vec::new();
    let mut written = Written::default();
    for delta in deltas.iter().filter(|it| it.delta.row_count() > 0) {
        let start = bytes.len();
        let encoded = caught("a checkpoint", || {
            let shards = delta.placement.delta_shards(&delta.delta, worker)?;
            encode_delta(&mut bytes, &delta.delta, shards)
        });
        match encoded {
            Ok(Place { offset, length, directory, rows, crc }) => {
                written.stored.segments.push(SegmentRef {
                    relation: delta.relation,
                    operator: delta.operator,
                    table: delta.delta.table,
                    shards: delta.placement.shards_of(worker),
                    key_columns: delta.placement.key_columns,
                    object: object.to_string(),
                    offset,
                    length,
                    directory,
                    rows,
                    crc: Some(crc),
                });
            }
            Err(error) => {
                bytes.truncate(start);
                written.failures.push((delta.relation, error));
            }
        }
    }
    (bytes, written)
}
