//! [`SnapshotStore`]: the readable versions of all tables and views of this process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Charge, MemoryAccount, MemoryKind, MovedRows, RowsSnapshot};
use crate::catalog::RelationId;

/// Versions of arrangements by epoch, published by workers and read by sessions.
///
/// Law: a read sees every relation at the newest finished epoch, the same one for all.
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
}

impl Inner {
    /// What a read sees of a relation; `None` if nothing is there.
    fn visible_shards(&self, relation: RelationId) -> Option<Arc<[RowsSnapshot]>> {
        let all = self.versions.range((relation, 0)..=(relation, usize::MAX));
        let shards: Vec<Option<RowsSnapshot>> = all
            .map(|(_, versions)| {
                let mut newest_first = versions.shards.iter().rev();
                let visible = newest_first.find(|(epoch, _)| *epoch <= self.epoch);
                visible.map(|(_, snapshot)| snapshot.clone())
            })
            .collect();
        (!shards.is_empty()).then(|| shards.into_iter().flatten().collect())
    }
}

/// A worker's shard of a relation by epoch, oldest first.
#[derive(Debug)]
struct Versions {
    shards: VecDeque<(u64, RowsSnapshot)>,
    charge: Charge,
}

impl Versions {
    /// Drops those that no read can see any more: older than the newest finished one.
    fn prune(&mut self, finished: u64) {
        while self.shards.get(1).is_some_and(|(epoch, _)| *epoch <= finished) {
            self.shards.pop_front();
        }
        self.charge.set(self.shards.iter().map(|(_, shard)| shard.own_bytes()).sum());
    }
}

/// All relations at one epoch: the shards of each.
#[derive(Debug, Clone, Default)]
pub struct Snapshots {
    /// The epoch.
    pub epoch: u64,
    /// Shards by relation.
    pub relations: BTreeMap<RelationId, Arc<[RowsSnapshot]>>,
}

impl SnapshotStore {
    /// No versions yet; what they hold is charged.
    pub fn new(memory: Arc<MemoryAccount>) -> Self {
        Self { memory, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's shard of a relation as it is at the end of `epoch`.
    pub fn publish(&self, relation: RelationId, worker: usize, epoch: u64, snapshot: RowsSnapshot) {
        let mut inner = self.lock();
        let finished = inner.epoch;
        let charge = || self.memory.charge(Some(relation), MemoryKind::Snapshots);
        let empty = || Versions { shards: VecDeque::new(), charge: charge() };
        let versions = inner.versions.entry((relation, worker)).or_insert_with(empty);
        versions.shards.push_back((epoch, snapshot));
        versions.prune(finished);
        inner.moving.insert((relation, worker));
        inner.changed.insert(relation);
    }

    /// Every worker has finished `epoch`: reads see it from now on.
    pub fn finish(&self, epoch: u64) {
        let mut inner = self.lock();
        let Inner { versions, moving, epoch: finished, .. } = &mut *inner;
        *finished = epoch.max(*finished);
        moving.retain(|shard| {
            let Some(versions) = versions.get_mut(shard) else { return false };
            versions.prune(*finished);
            let is_seen = versions.shards.back().is_none_or(|(epoch, _)| epoch <= finished);
            !is_seen || versions.shards.len() > 1
        });
    }

    /// Rows of a worker's shards have been moved: those who read them from now on find them there.
    pub fn follow(&self, relation: RelationId, worker: usize, moved: &MovedRows) {
        let pairs = moved.pairs.iter();
        let moved = pairs.map(|(before, after)| (Arc::as_ptr(before), Arc::clone(after))).collect();
        let mut inner = self.lock();
        inner.changed.insert(relation);
        if let Some(versions) = inner.versions.get_mut(&(relation, worker)) {
            versions.shards.iter_mut().for_each(|(_, shard)| shard.follow(&moved));
        }
    }

    /// The relation is dropped.
    pub fn remove(&self, relation: RelationId) {
        let mut inner = self.lock();
        inner.versions.retain(|(id, _), _| *id != relation);
        inner.changed.insert(relation);
    }

    /// A worker's newest shard of a relation, for the backfill of a new fragment.
    pub fn newest(&self, relation: RelationId, worker: usize) -> Option<RowsSnapshot> {
        let inner = self.lock();
        let newest = inner.versions.get(&(relation, worker)).and_then(|it| it.shards.back());
        newest.map(|(_, snapshot)| snapshot.clone())
    }

    /// All relations at the newest finished epoch; O(relations that have changed since the last
    /// read), and a pointer for each other one.
    pub fn read(&self) -> Arc<Snapshots> {
        let mut inner = self.lock();
        if inner.changed.is_empty() && inner.visible.epoch == inner.epoch {
            return Arc::clone(&inner.visible);
        }
        let mut visible = Arc::clone(&inner.visible);
        let next = Arc::make_mut(&mut visible);
        next.epoch = inner.epoch;
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
        let store = SnapshotStore::new(account);
        let mut published: BTreeMap<(u32, usize), Vec<(u64, usize)>> = BTreeMap::new();
        let (mut open, mut finished) = (1_u64, 0_u64);
        for _ in 0..2000 {
            let shard = (random.random_range(0..4), random.random_range(0..2));
            match random.random_range(0..6) {
                0 | 1 => {
                    let count = random.random_range(0..9);
                    store.publish(RelationId(shard.0), shard.1, open, rows(count as i64));
                    published.entry(shard).or_default().push((open, count));
                }
                2 => open += 1,
                3 if finished + 1 < open => {
                    finished += 1;
                    store.finish(finished);
                }
                4 if random.random_ratio(1, 20) => {
                    store.remove(RelationId(shard.0));
                    published.retain(|(relation, _), _| *relation != shard.0);
                }
                _ => {
                    let seen = store.read();
                    assert_eq!(seen.epoch, finished);
                    let mut wanted: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
                    for ((relation, _), versions) in &published {
                        let visible = versions.iter().rev().find(|(epoch, _)| *epoch <= finished);
                        let counts = wanted.entry(*relation).or_default();
                        counts.extend(visible.map(|(_, count)| *count));
                    }
                    let counts = |shards: &Arc<[RowsSnapshot]>| -> Vec<usize> {
                        shards.iter().map(RowsSnapshot::row_count).collect()
                    };
                    let seen = seen.relations.iter().map(|(id, it)| (id.0, counts(it)));
                    assert_eq!(seen.collect::<BTreeMap<_, _>>(), wanted);
                }
            }
        }
    }
}
