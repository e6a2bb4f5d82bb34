//! [`SnapshotStore`]: the readable versions of all tables and views of this process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::RowsSnapshot;
use crate::catalog::RelationId;

/// Versions of arrangements by epoch, published by workers and read by sessions.
///
/// Law: a read sees every relation at the newest finished epoch, the same one for all.
#[derive(Debug, Default)]
pub struct SnapshotStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    versions: BTreeMap<(RelationId, usize), VecDeque<(u64, RowsSnapshot)>>,
    epoch: u64,
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
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's shard of a relation as it is at the end of `epoch`.
    pub fn publish(&self, relation: RelationId, worker: usize, epoch: u64, snapshot: RowsSnapshot) {
        let mut inner = self.lock();
        let finished = inner.epoch;
        let versions = inner.versions.entry((relation, worker)).or_default();
        versions.push_back((epoch, snapshot));
        prune(versions, finished);
    }

    /// Every worker has finished `epoch`: reads see it from now on.
    pub fn finish(&self, epoch: u64) {
        let mut inner = self.lock();
        inner.epoch = inner.epoch.max(epoch);
        let finished = inner.epoch;
        for versions in inner.versions.values_mut() {
            prune(versions, finished);
        }
    }

    /// The relation is dropped.
    pub fn remove(&self, relation: RelationId) {
        self.lock().versions.retain(|(id, _), _| *id != relation);
    }

    /// A worker's newest shard of a relation, for the backfill of a new fragment.
    pub fn newest(&self, relation: RelationId, worker: usize) -> Option<RowsSnapshot> {
        let inner = self.lock();
        let newest = inner.versions.get(&(relation, worker)).and_then(VecDeque::back);
        newest.map(|(_, snapshot)| snapshot.clone())
    }

    /// All relations at the newest finished epoch.
    pub fn read(&self) -> Snapshots {
        let inner = self.lock();
        let mut snapshots = Snapshots { epoch: inner.epoch, relations: BTreeMap::new() };
        for ((relation, _), versions) in &inner.versions {
            let visible = versions.iter().rev().find(|(epoch, _)| *epoch <= inner.epoch);
            let shards = snapshots.relations.entry(*relation).or_default();
            shards.extend(visible.map(|(_, snapshot)| snapshot.clone()));
        }
        snapshots
    }
}

/// Drops versions that no read can see any more: those older than the newest finished one.
fn prune(versions: &mut VecDeque<(u64, RowsSnapshot)>, finished: u64) {
    while versions.get(1).is_some_and(|(epoch, _)| *epoch <= finished) {
        versions.pop_front();
    }
}
