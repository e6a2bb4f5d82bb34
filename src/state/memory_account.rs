//! [`MemoryAccount`]: who holds how many bytes of this process, and its limits.
//!
//! **Invariant:** the total is the sum of all charges; a charge that is dropped gives its bytes
//! back, so that nothing of a dropped relation is left in the account.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::catalog::RelationId;
use crate::error::{Error, ErrorKind};

/// How long the account is above its limit, while no rows are moved to scratch files, before a job
/// fails.
const GRACE: Duration = Duration::from_millis(100);

/// Bytes that are moved to scratch files at once: the worker does nothing else meanwhile.
const MOVED_BYTES_MAX: u64 = 16 << 20;

/// Smaller batches are not worth a write: they are merged soon. Less with a small limit, in tests.
const PIECE_BYTES_MIN: u64 = 64 << 10;

/// What bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryKind {
    /// Batches between the thread of a source and its worker.
    SourceQueue,
    /// Input of epochs that are not done.
    Input,
    /// State of operators.
    State,
    /// Changes of state that are not written yet.
    Checkpoint,
    /// Changes that a sink has not made durable.
    SinkChanges,
    /// What readable versions hold beside the rows, which are the operators'.
    Snapshots,
    /// Sorts, joins and groups of clients' queries.
    Queries,
}

impl MemoryKind {
    /// Name for SHOW MEMORY.
    pub fn name(self) -> &'static str {
        match self {
            Self::SourceQueue => "source queue",
            Self::Input => "input",
            Self::State => "state",
            Self::Checkpoint => "checkpoint",
            Self::SinkChanges => "sink changes",
            Self::Snapshots => "snapshots",
            Self::Queries => "queries",
        }
    }
}

/// The bytes of one owner and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// The relation; `None` for queries.
    pub owner: Option<RelationId>,
    /// What they are for.
    pub kind: MemoryKind,
    /// Bytes in memory.
    pub memory: u64,
    /// Bytes in scratch files, which no limit counts.
    pub scratch: u64,
}

/// What a worker is to move to scratch files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToMove {
    /// Bytes, about.
    pub bytes: usize,
    /// Least size of a batch in bytes that is worth it.
    pub least: usize,
}

/// Who holds how many bytes of this process, and its limits.
#[derive(Debug)]
pub struct MemoryAccount {
    soft_limit: u64,
    limit: u64,
    total: AtomicU64,
    /// Bytes by which the process's own memory is above 15/16 of the limit.
    excess: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Memory and scratch bytes.
    sums: BTreeMap<(Option<RelationId>, MemoryKind), (u64, u64)>,
    /// Since when the account has been above its limit, or had a job fail for it.
    above_since: Option<Duration>,
    /// Jobs that were chosen to fail.
    chosen: Vec<RelationId>,
}

impl MemoryAccount {
    /// An empty account with its limits in bytes.
    pub fn new(soft_limit: u64, limit: u64) -> Arc<Self> {
        let (total, excess) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { soft_limit, limit, total, excess, inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes above which rows are moved to scratch files and sources are slowed down.
    pub fn soft_limit(&self) -> u64 {
        self.soft_limit
    }

    /// Bytes above which a job fails.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes in memory.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// True if the account is so high that it may soon be above the soft limit.
    pub fn is_high(&self) -> bool {
        self.total() > self.soft_limit / 2
    }

    /// Takes note of the process's own memory: what nobody charges, such as copies within a step
    /// and what the allocator keeps, counts above 15/16 of the limit, since it grows on between
    /// two looks at it. It makes no job fail.
    pub fn note_resident(&self, bytes: usize) {
        let excess = (bytes as u64).saturating_sub(self.limit / 16 * 15);
        self.excess.store(excess, Ordering::Relaxed);
    }

    /// Bytes that are too much: of the account above the soft limit, or of the process above
    /// 15/16 of the limit while the account is high.
    pub fn surplus(&self) -> u64 {
        let surplus = self.total().saturating_sub(self.soft_limit);
        match self.is_high() {
            true => surplus.max(self.excess.load(Ordering::Relaxed)),
            false => surplus,
        }
    }

    /// What one of so many workers is to move now; `None` below the soft limit.
    pub fn to_move(&self, workers: usize) -> Option<ToMove> {
        let surplus = self.surplus();
        if surplus == 0 {
            return None;
        }
        // A little more, so that it is not asked for each batch.
        let bytes = surplus.div_ceil(workers.max(1) as u64) + self.soft_limit / 64;
        let least = PIECE_BYTES_MIN.min(self.soft_limit / 1024);
        let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        Some(ToMove { bytes: size(bytes.min(MOVED_BYTES_MAX)), least: size(least) })
    }

    /// Bytes of scratch files that may be resident: a sixteenth of the limit.
    pub fn mapped_limit(&self) -> usize {
        usize::try_from(self.limit / 16).unwrap_or(usize::MAX)
    }

    /// A charge of no bytes yet.
    pub fn charge(self: &Arc<Self>, owner: Option<RelationId>, kind: MemoryKind) -> Charge {
        Charge { account: Arc::clone(self), owner, kind, memory: 0, scratch: 0 }
    }

    /// What is charged, by owner and kind.
    pub fn uses(&self) -> Vec<MemoryUse> {
        let used = |(key, sums): (&(Option<RelationId>, MemoryKind), &(u64, u64))| {
            let ((owner, kind), (memory, scratch)) = (*key, *sums);
            MemoryUse { owner, kind, memory, scratch }
        };
        self.lock().sums.iter().map(used).collect()
    }

    /// Refuses new rows while the account is above its limit.
    ///
    /// # Errors
    /// `StateTooLarge`.
    pub fn check_room(&self) -> Result<(), Error> {
        match self.total() > self.limit {
            true => Err(self.exceeded("no memory is left for new rows")),
            false => Ok(()),
        }
    }

    /// Jobs that were chosen to fail, from number `first` on. If the account has been above its
    /// limit for a while, the one with most bytes is added.
    pub fn to_fail(&self, first: usize, now: Duration) -> Vec<RelationId> {
        let is_above = self.total() > self.limit;
        let mut inner = self.lock();
        match inner.above_since {
            _ if !is_above => inner.above_since = None,
            None => inner.above_since = Some(now),
            Some(since) if now.saturating_sub(since) >= GRACE => {
                if let Some(largest) = inner.largest() {
                    inner.chosen.push(largest);
                }
                inner.above_since = Some(now);
            }
            Some(_) => {}
        }
        inner.chosen.get(first..).unwrap_or_default().to_vec()
    }

    /// Rows were moved to scratch files: no job fails as long as more are.
    pub fn moved(&self) {
        self.lock().above_since = None;
    }

    /// Why a job fails.
    pub fn exceeded(&self, message: &str) -> Error {
        let (total, limit) = (self.total(), self.limit);
        Error::new(ErrorKind::StateTooLarge, message)
            .with_detail(format!("memory_limit is {limit} bytes, and {total} are in use"))
            .with_hint("look at SHOW MEMORY; raise memory_limit, or keep fewer rows")
    }
}

impl Inner {
    /// The job with most bytes in memory.
    fn largest(&self) -> Option<RelationId> {
        let mut sums: BTreeMap<RelationId, u64> = BTreeMap::new();
        for ((owner, _), (memory, _)) in &self.sums {
            if let Some(owner) = owner {
                *sums.entry(*owner).or_default() += memory;
            }
        }
        sums.into_iter().max_by_key(|(_, memory)| *memory).map(|(owner, _)| owner)
    }
}

/// Bytes of one owner and kind, given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<MemoryAccount>,
    owner: Option<RelationId>,
    kind: MemoryKind,
    memory: u64,
    scratch: u64,
}

impl Charge {
    /// Sets the bytes in memory.
    pub fn set(&mut self, memory: usize) {
        self.set_both(memory, usize::try_from(self.scratch).unwrap_or(usize::MAX));
    }

    /// Sets the bytes in memory and in scratch files.
    pub fn set_both(&mut self, memory: usize, scratch: usize) {
        let (memory, scratch) = (memory as u64, scratch as u64);
        if (memory, scratch) == (self.memory, self.scratch) {
            return;
        }
        let mut inner = self.account.lock();
        let sums = inner.sums.entry((self.owner, self.kind)).or_default();
        sums.0 = sums.0 + memory - self.memory;
        sums.1 = sums.1 + scratch - self.scratch;
        if *sums == (0, 0) {
            inner.sums.remove(&(self.owner, self.kind));
        }
        // Under the lock, so that two charges do not undo each other's change.
        let total = self.account.total() + memory - self.memory;
        self.account.total.store(total, Ordering::Relaxed);
        (self.memory, self.scratch) = (memory, scratch);
    }

    /// Bytes in memory.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Its account.
    pub fn account(&self) -> &Arc<MemoryAccount> {
        &self.account
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set_both(0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RelationId = RelationId(1);
    const B: RelationId = RelationId(2);

    #[test]
    fn charges_add_up_and_come_back() {
        let account = MemoryAccount::new(10, 20);
        let mut one = account.charge(Some(A), MemoryKind::State);
        let mut two = account.charge(Some(A), MemoryKind::State);
        one.set(7);
        two.set_both(8, 100);
        assert_eq!((account.total(), account.surplus()), (15, 5));
        assert_eq!(account.to_move(2), Some(ToMove { bytes: 3, least: 0 }));
        let used = MemoryUse { owner: Some(A), kind: MemoryKind::State, memory: 15, scratch: 100 };
        assert_eq!(account.uses(), [used]);
        two.set(1);
        assert_eq!((account.total(), account.surplus()), (8, 0));
        assert_eq!(account.to_move(2), None);
        drop((one, two));
        assert_eq!((account.total(), account.uses()), (0, Vec::new()));
    }

    #[test]
    fn memory_that_nobody_charges_counts_near_the_limit() {
        let account = MemoryAccount::new(10, 16);
        let mut one = account.charge(Some(A), MemoryKind::State);
        one.set(9);
        account.note_resident(15);
        assert_eq!(account.surplus(), 0);
        account.note_resident(18);
        assert_eq!(account.surplus(), 3);
        // It cannot be rows that are charged: to move these would not help.
        one.set(5);
        assert_eq!(account.surplus(), 0);
        one.set(15);
        assert_eq!((account.surplus(), account.check_room().is_ok()), (5, true));
    }

    #[test]
    fn the_largest_job_is_chosen_once_in_a_while() {
        let account = MemoryAccount::new(10, 20);
        let ms = Duration::from_millis;
        let mut queries = account.charge(None, MemoryKind::Queries);
        queries.set(100);
        let mut a = account.charge(Some(A), MemoryKind::State);
        a.set(9);
        let mut b = account.charge(Some(B), MemoryKind::Input);
        b.set(12);
        assert!(account.check_room().is_err());
        assert_eq!(account.to_fail(0, ms(0)), []);
        assert_eq!(account.to_fail(0, ms(99)), []);
        account.moved();
        assert_eq!(account.to_fail(0, ms(110)), []);
        assert_eq!(account.to_fail(0, ms(210)), [B]);
        assert_eq!(account.to_fail(0, ms(250)), [B]);
        drop(b);
        assert_eq!(account.to_fail(1, ms(350)), [A]);
        drop(queries);
        assert_eq!(account.to_fail(2, ms(600)), []);
        assert!(account.check_room().is_ok());
    }
}
