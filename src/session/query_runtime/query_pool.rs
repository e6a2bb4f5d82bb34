//! [`QueryPool`]: memory of clients' queries.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::DataFusionError;
use datafusion::common::Result;
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

use crate::state::{Charge, MemoryAccount, MemoryKind};

/// Memory of all queries: shared fairly up to its own limit, charged to the account of the process,
/// and refused while that is above its limit, so that a query spills or fails before a job does.
#[derive(Debug)]
pub(super) struct QueryPool {
    fair: FairSpillPool,
    charge: Mutex<Charge>,
}

impl QueryPool {
    /// A pool of `limit` bytes at most.
    pub(super) fn new(limit: usize, account: &Arc<MemoryAccount>) -> Self {
        let charge = Mutex::new(account.charge(None, MemoryKind::Queries));
        Self { fair: FairSpillPool::new(limit), charge }
    }

    fn charge(&self) {
        let mut charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        charge.set(self.fair.reserved());
    }

    fn check_room(&self, additional: usize) -> Result<()> {
        let charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        let account = charge.account();
        let wanted = account.total().saturating_add(additional as u64);
        if wanted <= account.limit() {
            return Ok(());
        }
        let message = format!("{additional} bytes are beyond memory_limit of the process");
        Err(DataFusionError::ResourcesExhausted(message))
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.fair, out)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        self.fair.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.fair.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.fair.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.fair.grow(reservation, additional);
        self.charge();
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.fair.shrink(reservation, shrink);
        self.charge();
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.check_room(additional)?;
        self.fair.try_grow(reservation, additional)?;
        self.charge();
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.fair.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.fair.memory_limit()
    }
}
