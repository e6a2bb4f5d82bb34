//! [`TableLocks`]: keeps other writers of a table out while a statement repeats its read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::catalog::RelationId;

/// A lock for each table that was ever written.
///
/// Writers share it. A statement whose write was refused, since it had not read a newer one, takes
/// it alone: then nothing can come between its second read and its write.
#[derive(Debug, Default)]
pub(super) struct TableLocks {
    locks: Mutex<HashMap<RelationId, Arc<RwLock<()>>>>,
}

/// A table's lock, held.
#[derive(Debug)]
pub(super) enum TableLock {
    /// With other writers.
    Shared { _guard: OwnedRwLockReadGuard<()> },
    /// Alone.
    Exclusive { _guard: OwnedRwLockWriteGuard<()> },
}

impl TableLocks {
    /// Waits for a table's lock.
    pub(super) async fn shared(&self, table: RelationId) -> TableLock {
        TableLock::Shared { _guard: self.of(table).read_owned().await }
    }

    /// Waits until no other statement writes the table.
    pub(super) async fn exclusive(&self, table: RelationId) -> TableLock {
        TableLock::Exclusive { _guard: self.of(table).write_owned().await }
    }

    fn of(&self, table: RelationId) -> Arc<RwLock<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(table).or_default())
    }
}
