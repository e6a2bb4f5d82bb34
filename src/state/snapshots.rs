//! [`SnapshotStore`]: the readable versions of all tables and views of this process.
//!
//! ```text
//! process 0   worker 0: rows of epochs 7, 8   worker 1: number of rows at 7, 8     a read: epoch 8
//! process 1                                   worker 1: rows of epochs 7, 8  ◄── epochs in use: 8
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use super::{Charge, MemoryAccount, MemoryKind, MovedRows, RowsSnapshot};
use crate::catalog::RelationId;

/// Versions of arrangements by epoch, published by workers and read by sessions.
///
/// Law: a read sees every relation at the newest finished epoch, the same one for all. In a process
/// that lends its workers a version stays as long as a read of process 0 may ask for it.
#[derive(Debug)]
pub struct SnapshotStore {
    memory: Arc<MemoryAccount>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    versions: BTreeMap<(RelationId, usize), Versions>,
    epoch: u64,
    /// Those with a version that reads do not see yet, or do not see any more.
    moving: BTreeSet<(RelationId, usize)>,
    /// What reads see, but for the changed relations.
    visible: Arc<Snapshots>,
    changed: BTreeSet<RelationId>,
    /// Reads that may not have ended.
    reads: Vec<Weak<u64>>,
    /// Epochs before `epoch` that process 0 reads; `None` in process 0.
    read_elsewhere: Option<Vec<u64>>,
}

impl Inner {
    /// What a read sees of a relation; `None` if nothing is there.
    fn visible_shards(&self, relation: RelationId) -> Option<Arc<[ShardRows]>> {
        let all = self.versions.range((relation, 0)..=(relation, usize::MAX));
        let shards: Vec<Option<ShardRows>> =
            all.map(|(_, versions)| versions.at(self.epoch).cloned()).collect();
        (!shards.is_empty()).then(|| shards.into_iter().flatten().collect())
    }

    /// Reads see `epoch`; drops versions that none can see any more.
    fn finish(&mut self, epoch: u64) {
        self.epoch = epoch.max(self.epoch);
        let Self { versions, moving, epoch: finished, read_elsewhere, .. } = self;
        let read = read_elsewhere.as_deref().unwrap_or(&[]);
        moving.retain(|shard| {
            let Some(kept) = versions.get_mut(shard) else { return false };
            kept.prune(*finished, read);
            if kept.shards.is_empty() {
                versions.remove(shard);
                return false;
            }
            let is_seen = kept.shards.back().is_none_or(|(epoch, _)| epoch <= finished);
            !is_seen || kept.shards.len() > 1
        });
    }
}

/// A worker's shard of a relation.
#[derive(Debug, Clone)]
pub enum ShardRows {
    /// Rows of this process.
    Here(RowsSnapshot),
    /// Rows that a worker of another process keeps.
    There {
        /// The worker.
        worker: usize,
        /// Their number.
        row_count: usize,
    },
}

impl ShardRows {
    /// Number of rows.
    pub fn row_count(&self) -> usize {
        match self {
            Self::Here(rows) => rows.row_count(),
            Self::There { row_count, .. } => *row_count,
        }
    }
}

/// A worker's shard of a relation by epoch, oldest first.
#[derive(Debug)]
struct Versions {
    /// `None` from the epoch on from which the relation is gone; earlier reads may still ask.
    shards: VecDeque<(u64, Option<ShardRows>)>,
    charge: Charge,
}

impl Versions {
    /// What is seen at an epoch.
    fn at(&self, epoch: u64) -> Option<&ShardRows> {
        let mut newest_first = self.shards.iter().rev();
        newest_first.find(|(of, _)| *of <= epoch)?.1.as_ref()
    }

    /// Drops those that no read can see any more: older than the newest finished one, and than that
    /// of each epoch in `read`.
    fn prune(&mut self, finished: u64, read: &[u64]) {
        let mut at = 0;
        while let Some((epoch, _)) = self.shards.get(at) {
            let next = self.shards.get(at + 1).map_or(u64::MAX, |(next, _)| *next);
            if next > finished || read.iter().any(|read| (*epoch..next).contains(read)) {
                at += 1;
            } else {
                self.shards.remove(at);
            }
        }
        if self.shards.front().is_some_and(|(_, shard)| shard.is_none()) {
            self.shards.pop_front();
        }
        self.set_charge();
    }

    fn set_charge(&mut self) {
        let bytes = |(_, shard): &(u64, Option<ShardRows>)| match shard {
            Some(ShardRows::Here(rows)) => rows.own_bytes(),
            _ => 0,
        };
        self.charge.set(self.shards.iter().map(bytes).sum());
    }
}

/// All relations at one epoch: the shards of each.
#[derive(Debug, Clone, Default)]
pub struct Snapshots {
    /// The epoch. While this is held, workers of other processes keep their rows of it.
    pub epoch: Arc<u64>,
    /// Shards by relation.
    pub relations: BTreeMap<RelationId, Arc<[ShardRows]>>,
}

/// The epochs that reads see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadEpochs {
    /// Reads from now on see this one or a later one.
    pub finished: u64,
    /// Earlier ones that are being read, ascending.
    pub earlier: Vec<u64>,
}

impl SnapshotStore {
    /// No versions yet; what they hold is charged. A process that is `lent` has its versions read
    /// by process 0.
    pub fn new(memory: Arc<MemoryAccount>, lent: bool) -> Self {
        let read_elsewhere = lent.then(Vec::new);
        Self { memory, inner: Mutex::new(Inner { read_elsewhere, ..Inner::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's shard of a relation as it is at the end of `epoch`.
    pub fn publish(&self, relation: RelationId, worker: usize, epoch: u64, shard: ShardRows) {
        let mut inner = self.lock();
        let Inner { versions, epoch: finished, read_elsewhere, .. } = &mut *inner;
        let charge = || self.memory.charge(Some(relation), MemoryKind::Snapshots);
        let empty = || Versions { shards: VecDeque::new(), charge: charge() };
        let versions = versions.entry((relation, worker)).or_insert_with(empty);
        versions.shards.push_back((epoch, Some(shard)));
        versions.prune(*finished, read_elsewhere.as_deref().unwrap_or(&[]));
        inner.moving.insert((relation, worker));
        inner.changed.insert(relation);
    }

    /// Every worker has finished `epoch`: reads see it from now on.
    pub fn finish(&self, epoch: u64) {
        self.lock().finish(epoch);
    }

    /// Process 0 reads these epochs and no others; in a process that lends its workers.
    pub fn keep(&self, epochs: ReadEpochs) {
        let mut inner = self.lock();
        inner.read_elsewhere = Some(epochs.earlier);
        inner.finish(epochs.finished);
    }

    /// The epochs that reads of this process see.
    pub fn read_epochs(&self) -> ReadEpochs {
        let mut inner = self.lock();
        let Inner { reads, visible, epoch: finished, .. } = &mut *inner;
        // What the next read gets, unless something changes, is nobody's but the store's.
        let is_read = |read: &Weak<u64>| {
            let is_visible = read.as_ptr() == Arc::as_ptr(&visible.epoch);
            !is_visible || Arc::strong_count(visible) > 1 || read.strong_count() > 1
        };
        reads.retain(|read| read.strong_count() > 0);
        let read = reads.iter().filter(|read| is_read(read)).filter_map(Weak::upgrade);
        let earlier: BTreeSet<u64> = read.map(|it| *it).filter(|it| it < finished).collect();
        ReadEpochs { finished: *finished, earlier: earlier.into_iter().collect() }
    }

    /// Rows of a worker's shard of a relation at an epoch that is read; `None` if the relation has
    /// been dropped.
    pub fn rows_at(&self, relation: RelationId, worker: usize, epoch: u64) -> Option<RowsSnapshot> {
        match self.lock().versions.get(&(relation, worker))?.at(epoch)? {
            ShardRows::Here(rows) => Some(rows.clone()),
            ShardRows::There { .. } => None,
        }
    }

    /// Number of versions that are kept of a relation.
    #[cfg(test)]
    pub fn version_count(&self, relation: RelationId) -> usize {
        let inner = self.lock();
        let versions = inner.versions.range((relation, 0)..=(relation, usize::MAX));
        versions.map(|(_, versions)| versions.shards.len()).sum()
    }

    /// Rows of a worker's shards have been moved: those who read them from now on find them there.
    pub fn follow(&self, relation: RelationId, worker: usize, moved: &MovedRows) {
        let pairs = moved.pairs.iter();
        let moved = pairs.map(|(before, after)| (Arc::as_ptr(before), Arc::clone(after))).collect();
        let mut inner = self.lock();
        inner.changed.insert(relation);
        let Some(versions) = inner.versions.get_mut(&(relation, worker)) else { return };
        for (_, shard) in &mut versions.shards {
            if let Some(ShardRows::Here(rows)) = shard {
                rows.follow(&moved);
            }
        }
    }

    /// The relation is gone from `epoch` on. If another process reads it, its rows go when no read
    /// of an earlier epoch is left.
    pub fn remove(&self, relation: RelationId, epoch: u64) {
        let mut inner = self.lock();
        let Inner { versions, moving, read_elsewhere, .. } = &mut *inner;
        match read_elsewhere {
            None => versions.retain(|(id, _), _| *id != relation),
            Some(_) => {
                let of = (relation, 0)..=(relation, usize::MAX);
                for (shard, versions) in versions.range_mut(of) {
                    // Each worker of the process says it.
                    if versions.shards.back().is_some_and(|(_, shard)| shard.is_some()) {
                        versions.shards.push_back((epoch, None));
                        moving.insert(*shard);
                    }
                }
            }
        }
        inner.changed.insert(relation);
    }

    /// A worker's newest shard of a relation, for the backfill of a new fragment.
    pub fn newest(&self, relation: RelationId, worker: usize) -> Option<RowsSnapshot> {
        let inner = self.lock();
        match inner.versions.get(&(relation, worker))?.shards.back()? {
            (_, Some(ShardRows::Here(rows))) => Some(rows.clone()),
            _ => None,
        }
    }

    /// All relations at the newest finished epoch; O(relations that have changed since the last
    /// read), and a pointer for each other one.
    pub fn read(&self) -> Arc<Snapshots> {
        let mut inner = self.lock();
        if inner.changed.is_empty() && *inner.visible.epoch == inner.epoch {
            return Arc::clone(&inner.visible);
        }
        let mut visible = Arc::clone(&inner.visible);
        let next = Arc::make_mut(&mut visible);
        next.epoch = Arc::new(inner.epoch);
        for relation in std::mem::take(&mut inner.changed) {
            match inner.visible_shards(relation) {
                Some(shards) => _ = next.relations.insert(relation, shards),
                None => _ = next.relations.remove(&relation),
            }
            // A version that is not finished is seen later.
            let mut moving = inner.moving.range((relation, 0)..=(relation, usize::MAX));
            if moving.next().is_some() {
                inner.changed.insert(relation);
            }
        }
        inner.reads.retain(|read| read.strong_count() > 0);
        inner.reads.push(Arc::downgrade(&visible.epoch));
        inner.visible = Arc::clone(&visible);
        visible
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::change::ChangeBatch;
    use crate::state::{Arrangement, Identity};

    fn rows(count: i64) -> RowsSnapshot {
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, false)]));
        let keys = Int64Array::from_iter_values(0..count);
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(keys)]).unwrap();
        let mut arrangement = Arrangement::try_new(schema, Identity::Key(vec![0])).unwrap();
        arrangement.apply(&ChangeBatch::inserts(rows)).unwrap();
        arrangement.snapshot()
    }

    /// However reads, publications and ends of epochs are mixed, a read sees of each shard the
    /// newest version up to the finished epoch, and none that is newer.
    #[test]
    fn reads_see_the_newest_finished_version_of_each_shard() {
        let mut random = StdRng::seed_from_u64(3);
        let account = MemoryAccount::new(0, 0);
        let store = SnapshotStore::new(account, false);
        let mut published: BTreeMap<(u32, usize), Vec<(u64, usize)>> = BTreeMap::new();
        let (mut open, mut finished) = (1_u64, 0_u64);
        for _ in 0..2000 {
            let shard = (random.random_range(0..4), random.random_range(0..2));
            match random.random_range(0..6) {
                0 | 1 => {
                    let count = random.random_range(0..9);
                    let rows = ShardRows::Here(rows(count as i64));
                    store.publish(RelationId(shard.0), shard.1, open, rows);
                    published.entry(shard).or_default().push((open, count));
                }
                2 => open += 1,
                3 if finished + 1 < open => {
                    finished += 1;
                    store.finish(finished);
                }
                4 if random.random_ratio(1, 20) => {
                    store.remove(RelationId(shard.0), open);
                    published.retain(|(relation, _), _| *relation != shard.0);
                }
                _ => {
                    let seen = store.read();
                    assert_eq!(*seen.epoch, finished);
                    let mut wanted: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
                    for ((relation, _), versions) in &published {
                        let visible = versions.iter().rev().find(|(epoch, _)| *epoch <= finished);
                        let counts = wanted.entry(*relation).or_default();
                        counts.extend(visible.map(|(_, count)| *count));
                    }
                    let counts = |shards: &Arc<[ShardRows]>| -> Vec<usize> {
                        shards.iter().map(ShardRows::row_count).collect()
                    };
                    let seen = seen.relations.iter().map(|(id, it)| (id.0, counts(it)));
                    assert_eq!(seen.collect::<BTreeMap<_, _>>(), wanted);
                }
            }
        }
    }

    /// However reads begin and end in process 0, a process that lends its workers has what they
    /// see, also of relations that were dropped meanwhile; and nothing else once they have ended.
    #[test]
    fn a_lent_process_keeps_what_process_0_reads() {
        let mut random = StdRng::seed_from_u64(4);
        let store = |lent| SnapshotStore::new(MemoryAccount::new(0, 0), lent);
        let (own, lent) = (store(false), store(true));
        let relations = (0..3).map(RelationId);
        let mut reads: Vec<(Snapshots, Arc<u64>)> = Vec::new();
        let mut epochs = ReadEpochs::default();
        for epoch in 1..1500 {
            for relation in relations.clone() {
                if random.random_ratio(1, 30) {
                    own.remove(relation, epoch);
                    lent.remove(relation, epoch);
                }
                if random.random_ratio(1, 2) {
                    let row_count = random.random_range(0..9);
                    lent.publish(relation, 1, epoch, ShardRows::Here(rows(row_count as i64)));
                    let shard = ShardRows::There { worker: 1, row_count };
                    own.publish(relation, 1, epoch, shard);
                }
            }
            // What process 0 says comes later than what it has seen.
            lent.keep(epochs);
            own.finish(epoch);
            epochs = own.read_epochs();
            if random.random_ratio(1, 3) {
                let read = own.read();
                // As a scan does, which keeps no other relations.
                reads.push((
                    Snapshots { epoch: Arc::default(), ..Snapshots::clone(&read) },
                    Arc::clone(&read.epoch),
                ));
            }
            while random.random_ratio(1, 3) && !reads.is_empty() {
                reads.swap_remove(random.random_range(0..reads.len()));
            }
            for (read, epoch) in &reads {
                for (relation, shards) in &read.relations {
                    for shard in shards.iter() {
                        let found = lent.rows_at(*relation, 1, **epoch).unwrap();
                        assert_eq!(found.row_count(), shard.row_count(), "epoch {epoch}");
                    }
                }
            }
        }
        reads.clear();
        assert_eq!(own.read_epochs(), ReadEpochs { finished: 1499, earlier: vec![] });
        lent.keep(own.read_epochs());
        let inner = lent.lock();
        let is_live = |kept: &Versions| kept.shards.len() == 1;
        assert!(inner.versions.values().all(is_live), "{:?}", inner.versions);
    }
}
