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
use crate::change::ShardRange;
use crate::checkpoint::{Kept, Manifest, ManifestBody};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::state::{
    NewestRows, OperatorId, Packing, Place, SMALL_BYTES_MAX, SegmentRef, SegmentWriter,
    ShardReader, StoredSegments,
};

/// Segments with rows of one shard of a table beyond which the newest are merged.
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
    /// Relations whose segments have changed since merges were planned for them.
    changed: Arc<Mutex<BTreeSet<RelationId>>>,
}

impl Compactor {
    pub(super) fn new(env: Env) -> Self {
        Self { env, working: Arc::default(), merged: Arc::default(), changed: Arc::default() }
    }

    fn merged(&self) -> MutexGuard<'_, Vec<Merged>> {
        self.merged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the merges that a durable manifest needs since the one `before`, unless others are
    /// under way.
    pub(super) fn start(&self, manifest: &Manifest, before: &Manifest) {
        let is_new = |(relation, segments): &(&RelationId, &Kept<Vec<SegmentRef>>)| {
            before.state.get(relation).is_none_or(|before| !segments.is_same(before))
        };
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.extend(manifest.state.iter().filter(is_new).map(|(relation, _)| *relation));
        let Ok(working) = Arc::clone(&self.working).try_lock_owned() else { return };
        // What is merged and not named yet would be merged again.
        if !self.merged().is_empty() {
            return;
        }
        let changed = std::mem::take(&mut *changed);
        let changed = changed.iter().filter_map(|relation| manifest.state.get(relation));
        let runs = plan(changed.flat_map(|segments| segments.iter()));
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

    /// Puts the results since the last call into the next manifest; gives the objects of those
    /// whose inputs have gone, as those of a dropped relation do.
    pub(super) fn name_merged(&self, next: &mut Manifest, body: &mut ManifestBody) -> Vec<String> {
        let merged = std::mem::take(&mut *self.merged());
        merged.into_iter().filter_map(|merged| merged.replace_inputs(next, body)).collect()
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
    /// Of no segment if no row is left.
    output: StoredSegments,
}

impl Merged {
    /// Replaces the inputs by the output, if all are there; else gives the output's object, if it
    /// has one.
    fn replace_inputs(self, next: &mut Manifest, body: &mut ManifestBody) -> Option<String> {
        let Self { inputs, output } = self;
        let relation = inputs.first()?.relation;
        let place = |segments: &Kept<Vec<SegmentRef>>| {
            let places = inputs.iter().map(|input| segments.iter().position(|it| it == input));
            places.collect::<Option<BTreeSet<usize>>>()
        };
        let Some(places) = next.state.get(&relation).and_then(place) else {
            let written = output.body.is_none().then_some(output.segments);
            return written?.pop().map(|output| output.object);
        };
        // Newer segments of the table follow the inputs, older ones are before them.
        let mut output = body.place(output).pop();
        let first = places.first().copied();
        let segments = next.state.get(&relation)?.iter().cloned().enumerate();
        let segments = segments.filter_map(|(place, it)| match places.contains(&place) {
            true if Some(place) == first => output.take(),
            true => None,
            false => Some(it),
        });
        let segments: Vec<SegmentRef> = segments.collect();
        match segments.is_empty() {
            true => _ = next.state.remove(&relation),
            false => _ = next.state.insert(relation, Kept::new(segments)),
        }
        None
    }
}

/// The merges that are due: of each list of many segments a run of the newest. Short runs come
/// first.
fn plan<'a>(segments: impl IntoIterator<Item = &'a SegmentRef>) -> Vec<Run> {
    let many = lists(segments).into_iter().filter(|list| depth(list) > SEGMENTS_MAX);
    let mut runs: Vec<Run> = many.map(|list| newest_run(&list)).collect();
    runs.sort_by_key(|run| run.segments.iter().map(|segment| segment.rows).sum::<u64>());
    runs
}

/// The segments of each table, in lists that have no shard in common: one for each worker that
/// writes. After a start with other workers their shards are not those of older segments, and all
/// segments that meet are one list.
fn lists<'a>(segments: impl IntoIterator<Item = &'a SegmentRef>) -> Vec<Vec<&'a SegmentRef>> {
    let mut tables: BTreeMap<TableKey, Vec<&SegmentRef>> = BTreeMap::new();
    for segment in segments {
        let table = (segment.relation, segment.operator, segment.table);
        tables.entry(table).or_default().push(segment);
    }
    let mut lists = Vec::new();
    for table in tables.into_values() {
        let mut ranges: Vec<ShardRange> = table.iter().map(|segment| segment.shards).collect();
        ranges.sort_unstable();
        ranges.dedup();
        let mut of_lists: Vec<ShardRange> = Vec::new();
        for range in ranges {
            match of_lists.last_mut() {
                Some(last) if last.meets(range) => *last = last.union(range),
                _ => of_lists.push(range),
            }
        }
        let list = |shards: ShardRange| {
            table.iter().copied().filter(move |segment| shards.meets(segment.shards)).collect()
        };
        lists.extend(of_lists.into_iter().map(list));
    }
    lists
}

/// How many segments have rows of one shard, at most.
fn depth(segments: &[&SegmentRef]) -> usize {
    let with = |shard: u16| {
        segments.iter().filter(|it| it.shards.start <= shard && shard < it.shards.end).count()
    };
    // The most meet where one of them begins.
    segments.iter().map(|segment| with(segment.shards.start)).max().unwrap_or(0)
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

/// Law: the live rows of the table stay the same. Memory is bounded by the rows of a few shards and
/// the bytes of the result.
///
/// # Errors
/// `Unavailable` if an object cannot be read or put.
async fn merge_run(env: &Env, run: Run) -> Result<Merged> {
    let Run { segments: inputs, is_oldest } = run;
    let mut output = StoredSegments::default();
    let Some(newest) = inputs.last().cloned() else { return Ok(Merged { inputs, output }) };
    let shards = inputs.iter().fold(ShardRange::NONE, |all, it| all.union(it.shards));
    let mut reader = ShardReader::open(env.clone(), inputs.clone(), shards).await?;
    let mut rows = NewestRows::new(newest.key_columns, is_oldest);
    let mut writer = SegmentWriter::new(Vec::new(), Packing::Small);
    while let Some(group) = reader.next().await? {
        let write = move || {
            writer.push(&rows.of(group)?)?;
            Ok::<_, Error>((rows, writer))
        };
        let written = tokio::task::spawn_blocking(write).await;
        (rows, writer) = written
            .map_err(|error| Error::internal(format!("segments could not be merged: {error}")))??;
    }
    let (bytes, place) = writer.finish()?;
    let Place { offset, length, directory, rows, crc } = place;
    if rows == 0 {
        return Ok(Merged { inputs, output });
    }
    let mut object = String::new();
    // As what a checkpoint of few rows writes, it becomes part of a manifest.
    if bytes.len() < SMALL_BYTES_MAX {
        output.body = Some(bytes);
    } else {
        object = format!("state/merged-{}.seg", uuid::Uuid::new_v4().simple());
        env.store().put(&Path::from(object.as_str()), PutPayload::from(bytes)).await?;
    }
    env.reach("compaction.merged");
    let crc = Some(crc);
    output.segments =
        vec![SegmentRef { object, shards, offset, length, directory, rows, crc, ..newest }];
    Ok(Merged { inputs, output })
}

#[cfg(test)]
mod tests;
