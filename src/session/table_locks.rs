//! [`TableLocks`]: one writer a table at a time, for statements that read what they change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::catalog::RelationId;

/// A lock for each table that was ever updated.
#[derive(Debug, Default)]
pub(super) struct TableLocks {
    locks: Mutex<HashMap<RelationId, Arc<tokio::sync::Mutex<()>>>>,
}

impl TableLocks {
    /// Waits for a table's lock.
    pub(super) async fn lock(&self, table: RelationId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(table).or_default())
        };
        lock.lock_owned().await
    }
}
