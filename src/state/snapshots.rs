//! [`SnapshotStore`]: the readable versions of all tables and views of this process.

use std::collections::{BTreeMap, VecDeque};
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
    pub relations: BTreeMap<RelationId, Vec<RowsSnapshot>>,
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
    }

    /// Every worker has finished `epoch`: reads see it from now on.
    pub fn finish(&self, epoch: u64) {
        let mut inner = self.lock();
        inner.epoch = inner.epoch.max(epoch);
        let finished = inner.epoch;
        for versions in inner.versions.values_mut().filter(|it| it.shards.len() > 1) {
            versions.prune(finished);
        }
    }

    /// Rows of a worker's shards have been moved: those who read them from now on find them there.
    pub fn follow(&self, relation: RelationId, worker: usize, moved: &MovedRows) {
        let pairs = moved.pairs.iter();
        let moved = pairs.map(|(before, after)| (Arc::as_ptr(before), Arc::clone(after))).collect();
        if let Some(versions) = self.lock().versions.get_mut(&(relation, worker)) {
            versions.shards.iter_mut().for_each(|(_, shard)| shard.follow(&moved));
        }
    }

    /// The relation is dropped.
    pub fn remove(&self, relation: RelationId) {
        self.lock().versions.retain(|(id, _), _| *id != relation);
    }

    /// A worker's newest shard of a relation, for the backfill of a new fragment.
    pub fn newest(&self, relation: RelationId, worker: usize) -> Option<RowsSnapshot> {
        let inner = self.lock();
        let newest = inner.versions.get(&(relation, worker)).and_then(|it| it.shards.back());
        newest.map(|(_, snapshot)| snapshot.clone())
    }

    /// All relations at the newest finished epoch.
    pub fn read(&self) -> Snapshots {
        let inner = self.lock();
        let mut snapshots = Snapshots { epoch: inner.epoch, relations: BTreeMap::new() };
        for ((relation, _), versions) in &inner.versions {
            let visible = versions.shards.iter().rev().find(|(epoch, _)| *epoch <= inner.epoch);
            let shards = snapshots.relations.entry(*relation).or_default();
            shards.extend(visible.map(|(_, snapshot)| snapshot.clone()));
        }
        snapshots
    }
}
