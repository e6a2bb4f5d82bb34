//! Merges small segments of a state table, so that a restart reads few of them.
//!
//! ```text
//! sizes, oldest first:  [900][80][9][8][7][9]  ─►  [900][80][33]
//! ```

use std::collections::{BTreeMap, BTreeSet};

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::catalog::RelationId;
use crate::checkpoint::Manifest;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::state::{OperatorId, Packing, SegmentRef, append_batches, merge, read_batches};

/// Segments of one table and worker beyond which the newest are merged.
const SEGMENTS_MAX: usize = 12;
/// An older segment joins a merge if it has fewer rows than this many times all newer ones.
const RATIO: u64 = 2;

type TableKey = (RelationId, OperatorId, usize);

/// Replaces runs of newest segments by their merge, in a manifest that is about to be put.
///
/// Law: the live rows of every table stay the same.
///
/// # Errors
/// `Unavailable` if an object cannot be read or put.
pub(super) async fn compact(env: &Env, manifest: &mut Manifest) -> Result<()> {
    let table_of = |it: &SegmentRef| (it.relation, it.operator, it.table);
    let is_shared = |it: &&SegmentRef| it.worker.is_none();
    // A worker's newer segments hide rows of those that all share, so they are one list.
    let shared: BTreeSet<TableKey> =
        manifest.segments.iter().filter(is_shared).map(table_of).collect();
    let mut tables: BTreeMap<(TableKey, Option<usize>), Vec<SegmentRef>> = BTreeMap::new();
    for segment in &manifest.segments {
        let table = table_of(segment);
        let worker = segment.worker.filter(|_| !shared.contains(&table));
        tables.entry((table, worker)).or_default().push(segment.clone());
    }
    let mut merged_any = false;
    for segments in tables.values_mut() {
        if segments.len() > SEGMENTS_MAX {
            merge_newest(env, segments).await?;
            merged_any = true;
        }
    }
    if merged_any {
        manifest.segments = tables.into_values().flatten().collect();
    }
    Ok(())
}

async fn merge_newest(env: &Env, segments: &mut Vec<SegmentRef>) -> Result<()> {
    let mut first = segments.len() - 1;
    let mut rows = segments[first].rows;
    while first > 0
        && (segments.len() - first < SEGMENTS_MAX / 2 || segments[first - 1].rows < RATIO * rows)
    {
        first -= 1;
        rows += segments[first].rows;
    }
    let run = segments.split_off(first);
    let mut batches = Vec::with_capacity(run.len());
    for segment in &run {
        let path = Path::from(segment.object.as_str());
        let range = segment.offset..segment.offset + segment.length;
        batches.extend(read_batches(&env.store().get_range(&path, range).await?)?);
    }
    let Some(newest) = run.last() else { return Ok(()) };
    let (key_columns, drop_tombstones) = (newest.key_columns, first == 0);
    let encode = move || encode(key_columns, &batches, drop_tombstones);
    let (bytes, rows) = tokio::task::spawn_blocking(encode)
        .await
        .map_err(|error| Error::internal(format!("segments could not be merged: {error}")))??;
    if rows == 0 {
        return Ok(());
    }
    let object = format!("state/merged-{}.seg", uuid::Uuid::new_v4().simple());
    let length = bytes.len() as u64;
    env.store().put(&Path::from(object.as_str()), PutPayload::from(bytes)).await?;
    let worker = newest.worker.filter(|_| run.iter().all(|it| it.worker == newest.worker));
    segments.push(SegmentRef { object, worker, offset: 0, length, rows, ..newest.clone() });
    Ok(())
}

fn encode(
    key_columns: usize,
    batches: &[arrow::array::RecordBatch],
    drop_tombstones: bool,
) -> Result<(Vec<u8>, u64)> {
    let kept = merge(key_columns, batches, drop_tombstones)?;
    let mut bytes = Vec::new();
    if !kept.is_empty() {
        // As they are: one batch of all could be beyond 2 GiB of text.
        append_batches(&mut bytes, &kept, Packing::Small)?;
    }
    Ok((bytes, kept.iter().map(|batch| batch.num_rows() as u64).sum()))
}
