//! Merges small segments of a state table, so that a restart reads few of them.
//!
//! ```text
//! sizes, oldest first:  [900][80][9][8][7][9]  ─►  [900][80][33]
//! ```
//!
//! A merge is planned on a durable manifest and runs in a task beside the checkpoints, which it
//! delays by nothing. The next manifest after it names the result in the place of its inputs.
//! **Invariant:** until then the inputs stay, so a crash finds them; a result that no manifest
//! names is garbage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// Merges segments in the background, one run after the other.
#[derive(Clone)]
pub(super) struct Compactor {
    env: Env,
    /// Locked while a task is at work.
    working: Arc<tokio::sync::Mutex<()>>,
    merged: Arc<Mutex<Vec<Merged>>>,
}

impl Compactor {
    pub(super) fn new(env: Env) -> Self {
        Self { env, working: Arc::default(), merged: Arc::default() }
    }

    fn merged(&self) -> MutexGuard<'_, Vec<Merged>> {
        self.merged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the merges that a durable manifest needs, unless others are under way.
    pub(super) fn start(&self, manifest: &Manifest) {
        let Ok(working) = Arc::clone(&self.working).try_lock_owned() else { return };
        // What is merged and not named yet would be merged again.
        if !self.merged().is_empty() {
            return;
        }
        let runs = plan(&manifest.segments);
        if runs.is_empty() {
            return;
        }
        let compactor = self.clone();
        tokio::spawn(async move {
            let _working = working;
            for run in runs {
                match merge_run(&compactor.env, run).await {
                    Ok(merged) => compactor.merged().push(merged),
                    // The segments stay as they are; they are tried again after a later manifest.
                    Err(error) => tracing::warn!(%error, "segments could not be merged"),
                }
            }
        });
    }

    /// Puts the results since the last call into the segments of the next manifest; gives the
    /// objects of those whose inputs have gone, as those of a dropped relation do.
    pub(super) fn name_merged(&self, segments: &mut Vec<SegmentRef>) -> Vec<String> {
        let merged = std::mem::take(&mut *self.merged());
        merged.into_iter().filter_map(|merged| merged.replace_inputs(segments)).collect()
    }
}

/// Segments of one table that follow each other, oldest first.
struct Run {
    segments: Vec<SegmentRef>,
    /// The table has no older segment.
    is_oldest: bool,
}

/// The outcome of a merge.
struct Merged {
    inputs: Vec<SegmentRef>,
    /// None if no row is left.
    output: Option<SegmentRef>,
}

impl Merged {
    /// Replaces the inputs by the output, if all are there; else gives the output's object.
    fn replace_inputs(self, segments: &mut Vec<SegmentRef>) -> Option<String> {
        let places = self.inputs.iter().map(|input| segments.iter().position(|it| it == input));
        let places: Option<BTreeSet<usize>> = places.collect();
        let Some(places) = places else { return self.output.map(|output| output.object) };
        // Newer segments of the table follow the inputs, older ones are before them.
        let mut output = self.output;
        let first = places.first().copied();
        let kept =
            std::mem::take(segments).into_iter().enumerate().filter_map(|(place, it)| match places
                .contains(&place)
            {
                true if Some(place) == first => output.take(),
                true => None,
                false => Some(it),
            });
        *segments = kept.collect();
        None
    }
}

/// The merges that are due: of each table and worker with many segments a run of the newest. Short
/// runs come first.
fn plan(segments: &[SegmentRef]) -> Vec<Run> {
    let table_of = |it: &SegmentRef| (it.relation, it.operator, it.table);
    let is_shared = |it: &&SegmentRef| it.worker.is_none();
    // A worker's newer segments hide rows of those that all share, so they are one list.
    let shared: BTreeSet<TableKey> = segments.iter().filter(is_shared).map(table_of).collect();
    let mut tables: BTreeMap<(TableKey, Option<usize>), Vec<&SegmentRef>> = BTreeMap::new();
    for segment in segments {
        let table = table_of(segment);
        let worker = segment.worker.filter(|_| !shared.contains(&table));
        tables.entry((table, worker)).or_default().push(segment);
    }
    let many = tables.into_values().filter(|segments| segments.len() > SEGMENTS_MAX);
    let mut runs: Vec<Run> = many.map(|segments| newest_run(&segments)).collect();
    runs.sort_by_key(|run| run.segments.iter().map(|segment| segment.rows).sum::<u64>());
    runs
}

fn newest_run(segments: &[&SegmentRef]) -> Run {
    let mut first = segments.len() - 1;
    let mut rows = segments[first].rows;
    while first > 0
        && (segments.len() - first < SEGMENTS_MAX / 2 || segments[first - 1].rows < RATIO * rows)
    {
        first -= 1;
        rows += segments[first].rows;
    }
    let run = segments[first..].iter().map(|segment| (*segment).clone());
    Run { segments: run.collect(), is_oldest: first == 0 }
}

/// Law: the live rows of the table stay the same.
///
/// # Errors
/// `Unavailable` if an object cannot be read or put.
async fn merge_run(env: &Env, run: Run) -> Result<Merged> {
    let Run { segments: inputs, is_oldest } = run;
    let mut batches = Vec::with_capacity(inputs.len());
    for segment in &inputs {
        let path = Path::from(segment.object.as_str());
        let range = segment.offset..segment.offset + segment.length;
        batches.extend(read_batches(&env.store().get_range(&path, range).await?)?);
    }
    let Some(newest) = inputs.last().cloned() else { return Ok(Merged { inputs, output: None }) };
    let key_columns = newest.key_columns;
    let encode = move || encode(key_columns, &batches, is_oldest);
    let (bytes, rows) = tokio::task::spawn_blocking(encode)
        .await
        .map_err(|error| Error::internal(format!("segments could not be merged: {error}")))??;
    if rows == 0 {
        return Ok(Merged { inputs, output: None });
    }
    let object = format!("state/merged-{}.seg", uuid::Uuid::new_v4().simple());
    let length = bytes.len() as u64;
    env.store().put(&Path::from(object.as_str()), PutPayload::from(bytes)).await?;
    env.reach("compaction.merged");
    let worker = newest.worker.filter(|_| inputs.iter().all(|it| it.worker == newest.worker));
    let output = SegmentRef { object, worker, offset: 0, length, rows, ..newest };
    Ok(Merged { inputs, output: Some(output) })
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

#[cfg(test)]
mod tests;
