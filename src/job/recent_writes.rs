//! [`RecentWrites`]: keys of own tables that were written since a statement read them.
//!
//! ```text
//! UPDATE reads at epoch 7 ──► INSERT of key k, epoch 8 ──► the UPDATE's write of k is refused
//! ```
//!
//! **Invariant:** of two writes of one key, the later one in the coordinator's order read the
//! earlier one, or read nothing at all (INSERT). So no acknowledged write is undone by a statement
//! that has not seen it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::catalog::RelationId;

/// Hashes of the keys that a statement writes: ascending, each once.
#[derive(Debug, Clone)]
pub(super) struct WrittenKeys(Arc<[u64]>);

impl WrittenKeys {
    pub(super) fn new(mut hashes: Vec<u64>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        Self(hashes.into())
    }

    /// Two keys of one hash count as one: that costs a statement a second read, no more.
    fn meets(&self, other: &Self) -> bool {
        let (few, many) = match self.0.len() <= other.0.len() {
            true => (&self.0, &other.0),
            false => (&other.0, &self.0),
        };
        few.iter().any(|key| many.binary_search(key).is_ok())
    }
}

/// Keys of own tables that were written since the oldest statement under way read its table.
#[derive(Debug, Default)]
pub(super) struct RecentWrites {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the epoch in which a write becomes visible, at the latest.
    written: BTreeMap<u64, Vec<(RelationId, WrittenKeys)>>,
    /// Number of statements under way by the finished epoch at which they began.
    reading: BTreeMap<u64, usize>,
    finished: u64,
}

/// A statement that reads a table in order to write it; the keys written since are kept for it.
#[derive(Debug)]
pub(super) struct Reading {
    writes: Arc<RecentWrites>,
    since: u64,
}

impl RecentWrites {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a statement; it takes its snapshot after this.
    pub(super) fn begin(self: &Arc<Self>) -> Reading {
        let mut inner = self.lock();
        let since = inner.finished;
        *inner.reading.entry(since).or_default() += 1;
        Reading { writes: Arc::clone(self), since }
    }

    /// Admits a write into the open epoch. `read_epoch` is that of the snapshot from which it was
    /// computed, `None` if it depends on no row.
    ///
    /// # Errors
    /// The epoch after which the statement can read what it has missed.
    pub(super) fn admit(
        &self,
        table: RelationId,
        keys: WrittenKeys,
        read_epoch: Option<u64>,
        open_epoch: u64,
    ) -> Result<(), u64> {
        let mut inner = self.lock();
        if let Some(read_epoch) = read_epoch {
            let missed = inner.written.range(read_epoch + 1..).rev().find(|(_, writes)| {
                writes.iter().any(|(other, written)| *other == table && keys.meets(written))
            });
            if let Some((epoch, _)) = missed {
                return Err(*epoch);
            }
        }
        inner.written.entry(open_epoch).or_default().push((table, keys));
        Ok(())
    }

    /// Every snapshot from now on sees `epoch`.
    pub(super) fn finish(&self, epoch: u64) {
        let mut inner = self.lock();
        inner.finished = inner.finished.max(epoch);
        inner.forget();
    }
}

impl Inner {
    /// Forgets what every statement under way, and every later one, has in its snapshot.
    fn forget(&mut self) {
        let oldest = self.reading.keys().next().map_or(self.finished, |first| *first);
        self.written = self.written.split_off(&(oldest.min(self.finished) + 1));
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut inner = self.writes.lock();
        if let Some(count) = inner.reading.get_mut(&self.since) {
            *count -= 1;
            if *count == 0 {
                inner.reading.remove(&self.since);
            }
        }
        inner.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: RelationId = RelationId(1);

    fn keys(hashes: &[u64]) -> WrittenKeys {
        WrittenKeys::new(hashes.to_vec())
    }

    #[test]
    fn refuses_a_write_of_a_key_that_was_written_after_the_read() {
        let writes = Arc::new(RecentWrites::default());
        writes.finish(7);
        let _reading = writes.begin();
        assert_eq!(writes.admit(TABLE, keys(&[3, 1, 2]), None, 8), Ok(()));
        assert_eq!(writes.admit(TABLE, keys(&[9, 2]), Some(7), 9), Err(8));
        assert_eq!(writes.admit(RelationId(2), keys(&[2]), Some(7), 9), Ok(()));
        assert_eq!(writes.admit(TABLE, keys(&[4]), Some(7), 9), Ok(()));
        // The epoch is that of the newest write: an older snapshot would be refused once more.
        assert_eq!(writes.admit(TABLE, keys(&[1, 4]), Some(7), 9), Err(9));
        assert_eq!(writes.admit(TABLE, keys(&[2]), Some(8), 9), Ok(()));
    }

    #[test]
    fn keeps_what_a_statement_under_way_has_not_read_and_no_more() {
        let writes = Arc::new(RecentWrites::default());
        let reading = writes.begin();
        assert_eq!(writes.admit(TABLE, keys(&[1]), None, 1), Ok(()));
        writes.finish(1);
        let later = writes.begin();
        assert_eq!(writes.admit(TABLE, keys(&[2]), None, 2), Ok(()));
        writes.finish(2);
        assert_eq!(writes.admit(TABLE, keys(&[1]), Some(0), 3), Err(1));
        drop(reading);
        assert_eq!(writes.lock().written.keys().copied().collect::<Vec<_>>(), [2]);
        drop(later);
        assert!(writes.lock().written.is_empty());
    }
}
