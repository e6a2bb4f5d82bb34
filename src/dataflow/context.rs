//! [`WorkerContext`] and [`FragmentContext`]: what operators of a worker share with its loop.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use frazil_connector_api::ChangeBatch;
use timely::scheduling::Activator;

use super::control::PublishedRows;
use super::operators::EpochInfo;
use super::placement::Placement;
use crate::catalog::{Relation, RelationId};
use crate::env::{Env, Scratch};
use crate::error::{Error, Result};
use crate::state::{Charge, MemoryAccount, MemoryKind, OperatorId, StateDelta};

/// What a checkpoint knows of an operator.
#[derive(Debug, Clone)]
pub(crate) struct StoredOperator {
    /// The operator.
    pub(crate) id: OperatorId,
    /// Each of its state tables.
    pub(crate) tables: Vec<Placement>,
}

/// Deltas of one operator.
#[derive(Debug)]
pub(crate) struct OperatorDelta {
    /// The fragment's relation.
    pub(crate) relation: RelationId,
    /// The operator.
    pub(crate) operator: OperatorId,
    /// In which shards the rows of the delta's table are.
    pub(crate) placement: Placement,
    /// What changed.
    pub(crate) delta: StateDelta,
    /// Its bytes, as long as it is there.
    #[expect(dead_code, reason = "it is held, and dropped with the delta")]
    pub(crate) charge: Charge,
}

/// What all operators of a worker share with its loop.
#[derive(Debug, Clone)]
pub(crate) struct WorkerContext {
    memory: Arc<MemoryAccount>,
    checkpoints: Rc<RefCell<BTreeMap<u64, Vec<OperatorDelta>>>>,
    failures: Rc<RefCell<Vec<(RelationId, Error)>>>,
    refused: Rc<RefCell<BTreeMap<RelationId, Refused>>>,
    /// Numbers of rows that this worker has published for sessions of another process.
    published: Rc<RefCell<Vec<PublishedRows>>>,
    /// Times of closed epochs that some fragment has not processed, and of the last one before.
    times: Rc<RefCell<BTreeMap<u64, i64>>>,
}

impl WorkerContext {
    /// Nothing is shared yet.
    pub(crate) fn new(memory: &Arc<MemoryAccount>) -> Self {
        let (checkpoints, failures, refused, published, times) = Default::default();
        Self { memory: Arc::clone(memory), checkpoints, failures, refused, published, times }
    }

    /// Says that `epoch` becomes durable, before any operator can have ended it.
    pub(crate) fn order_checkpoint(&self, epoch: u64) {
        self.checkpoints.borrow_mut().insert(epoch, Vec::new());
    }

    /// Notes the time of an epoch, before any operator can have ended it.
    pub(crate) fn note_time(&self, epoch: u64, now_ms: i64) {
        self.times.borrow_mut().insert(epoch, now_ms);
    }

    /// Forgets the times of epochs before `epoch`: no fragment has to end one of them.
    pub(crate) fn forget_times(&self, epoch: u64) {
        let mut times = self.times.borrow_mut();
        // Epochs of a backfill have no time of their own: that of the last one is needed.
        let last = times.range(..epoch).next_back().map(|(epoch, _)| *epoch);
        if let Some(last) = last {
            *times = times.split_off(&last);
        }
    }

    /// What is known of an epoch.
    fn epoch_info(&self, epoch: u64) -> EpochInfo {
        let times = self.times.borrow();
        let now_ms = times.range(..=epoch).next_back().map_or(0, |(_, now_ms)| *now_ms);
        EpochInfo { epoch, now_ms, watermarks: BTreeMap::new() }
    }

    /// Takes what the operators deposited for a checkpoint.
    pub(crate) fn take_checkpoint(&self, epoch: u64) -> Vec<OperatorDelta> {
        self.checkpoints.borrow_mut().remove(&epoch).unwrap_or_default()
    }

    /// What the operators of a relation's fragment refuse, also of one that is built again.
    pub(crate) fn refused_of(&self, relation: RelationId) -> Refused {
        self.refused.borrow_mut().entry(relation).or_default().clone()
    }

    /// Forgets a relation.
    pub(crate) fn forget(&self, relation: RelationId) {
        self.refused.borrow_mut().remove(&relation);
    }

    /// Notes rows that sessions of another process can read.
    pub(crate) fn note_published(&self, published: PublishedRows) {
        self.published.borrow_mut().push(published);
    }

    /// Takes what was published since the last call.
    pub(crate) fn take_published(&self) -> Vec<PublishedRows> {
        std::mem::take(&mut self.published.borrow_mut())
    }

    /// Takes the failures since the last call.
    pub(crate) fn take_failures(&self) -> Vec<(RelationId, Error)> {
        std::mem::take(&mut self.failures.borrow_mut())
    }
}

/// Rows of the errors table that a fragment's operators made, by epoch, until they are handed on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refused {
    /// The rows.
    pub(crate) queue: Rc<RefCell<VecDeque<(u64, ChangeBatch)>>>,
    /// Number of rows since it was last taken.
    pub(crate) count: Rc<Cell<u64>>,
}

/// What the operators of one fragment share.
#[derive(Debug, Clone)]
pub(crate) struct FragmentContext {
    worker: WorkerContext,
    relation: RelationId,
    start_epoch: u64,
    /// The first epoch in which the fragment takes part; the maximum while it catches up.
    admitted: Rc<Cell<u64>>,
    failed: Rc<Cell<bool>>,
    /// Wake the operators, so that they drop what they hold when the fragment has failed.
    operators: Rc<RefCell<Vec<Activator>>>,
    /// Bytes of later epochs that wait in front of operators.
    stashed_bytes: Rc<Cell<usize>>,
    early: Early,
    refused: Refused,
    env: Env,
    fault: Option<Fault>,
}

/// Deposits of a fragment that is in no checkpoint yet.
#[derive(Debug, Clone, Default)]
struct Early {
    /// What the worker's loop has not taken, in the order of the deposits.
    deltas: Rc<RefCell<Vec<OperatorDelta>>>,
    /// Bytes of deposits that are not written.
    bytes: Rc<Cell<usize>>,
}

/// Where a test may have the fragment of a relation fail.
#[derive(Debug, Clone)]
struct Fault {
    env: Env,
    relation: Rc<str>,
}

impl FragmentContext {
    /// For the fragment of `relation`, which begins with `start_epoch`.
    pub(crate) fn new(
        worker: WorkerContext,
        relation: &Relation,
        start_epoch: u64,
        env: &Env,
    ) -> Self {
        let name = || Rc::from(relation.name.as_str());
        let fault = env.has_fault().then(|| Fault { env: env.clone(), relation: name() });
        let (admitted, failed) = (Rc::new(Cell::new(u64::MAX)), Rc::default());
        let (relation, refused) = (relation.id, worker.refused_of(relation.id));
        let (operators, stashed_bytes, early) = Default::default();
        Self {
            worker,
            relation,
            start_epoch,
            admitted,
            failed,
            operators,
            stashed_bytes,
            early,
            refused,
            env: env.clone(),
            fault,
        }
    }

    /// Gives back pages of scratch files that a step has touched, if they are too many.
    pub(crate) fn trim_scratch(&self) {
        self.env.scratch().into_iter().for_each(Scratch::trim);
    }

    /// Fails or panics if a test asked for it at `operator.error.NAME` or `operator.panic.NAME`,
    /// which each step of the operators of relation NAME passes.
    pub(crate) fn pass_fault_points(&self) -> Result<()> {
        let Some(Fault { env, relation }) = &self.fault else { return Ok(()) };
        if env.fails(&format!("operator.panic.{relation}")) {
            std::panic::resume_unwind(Box::new("fault point".to_string()));
        }
        match env.fails(&format!("operator.error.{relation}")) {
            true => Err(Error::internal("fault point")),
            false => Ok(()),
        }
    }

    /// What is known of an epoch.
    pub(crate) fn epoch_info(&self, epoch: u64) -> EpochInfo {
        self.worker.epoch_info(epoch)
    }

    /// The first epoch of the fragment.
    pub(crate) fn start_epoch(&self) -> u64 {
        self.start_epoch
    }

    /// The fragment takes part in epochs from `epoch` on.
    pub(crate) fn admit(&self, epoch: u64) {
        self.admitted.set(epoch);
    }

    /// True if the fragment takes part in an epoch: it is readable and durable then.
    pub(crate) fn is_admitted(&self, epoch: u64) -> bool {
        self.admitted.get() <= epoch
    }

    /// Epochs in `from..to` that become durable and in which the fragment takes part.
    pub(crate) fn checkpoints(&self, from: u64, to: u64) -> Vec<u64> {
        let from = from.max(self.admitted.get());
        if from >= to {
            return Vec::new();
        }
        self.worker.checkpoints.borrow().range(from..to).map(|(epoch, _)| *epoch).collect()
    }

    /// Adds what changed in an operator to a checkpoint.
    ///
    /// # Errors
    /// `Internal` for a delta of a table that the operator has not.
    pub(crate) fn deposit(
        &self,
        epoch: u64,
        operator: Option<&StoredOperator>,
        deltas: Vec<StateDelta>,
    ) -> Result<()> {
        if let Some(deposited) = self.worker.checkpoints.borrow_mut().get_mut(&epoch) {
            deposited.extend(self.named(operator, deltas)?);
        }
        Ok(())
    }

    /// Has what changed in an operator written before its fragment is in a checkpoint.
    ///
    /// # Errors
    /// As [`FragmentContext::deposit`].
    pub(crate) fn deposit_early(
        &self,
        operator: Option<&StoredOperator>,
        deltas: Vec<StateDelta>,
    ) -> Result<()> {
        let deltas = self.named(operator, deltas)?;
        let bytes: usize = deltas.iter().map(|it| it.delta.bytes()).sum();
        self.early.bytes.update(|before| before + bytes);
        self.early.deltas.borrow_mut().extend(deltas);
        Ok(())
    }

    /// Takes the early deposits since the last call.
    pub(crate) fn take_early(&self) -> Vec<OperatorDelta> {
        std::mem::take(&mut self.early.deltas.borrow_mut())
    }

    /// Bytes of early deposits that are not written.
    pub(crate) fn early_bytes(&self) -> usize {
        self.early.bytes.get()
    }

    /// So many bytes of early deposits are written now.
    pub(crate) fn early_written(&self, bytes: usize) {
        self.early.bytes.update(|before| before.saturating_sub(bytes));
    }

    fn named(
        &self,
        operator: Option<&StoredOperator>,
        deltas: Vec<StateDelta>,
    ) -> Result<Vec<OperatorDelta>> {
        let named = deltas.into_iter().map(|delta| {
            let unnamed = || Error::internal("a delta of an operator without an identity");
            let StoredOperator { id, tables } = operator.ok_or_else(unnamed)?;
            let placement = tables.get(delta.table).cloned();
            let placement =
                placement.ok_or_else(|| Error::internal("a delta of an unknown table"))?;
            let relation = self.relation;
            let mut charge = self.worker.memory.charge(Some(relation), MemoryKind::Checkpoint);
            charge.set(delta.bytes());
            Ok(OperatorDelta { relation, operator: *id, placement, delta, charge })
        });
        named.collect()
    }

    /// The time of day in microseconds since 1970.
    pub(crate) fn now_us(&self) -> i64 {
        self.env.now_us()
    }

    /// Hands rows to the errors table, in the epoch in which they were refused.
    pub(crate) fn refuse(&self, epoch: u64, rows: ChangeBatch) {
        self.refused.count.update(|count| count + rows.num_rows() as u64);
        self.refused.queue.borrow_mut().push_back((epoch, rows));
    }

    /// What was refused.
    pub(crate) fn refused(&self) -> Refused {
        self.refused.clone()
    }

    /// Stops the fragment with an error; its operators do nothing any more.
    pub(crate) fn fail(&self, error: Error) {
        if !self.failed.replace(true) {
            self.worker.failures.borrow_mut().push((self.relation, error));
            self.operators.borrow().iter().for_each(Activator::activate);
        }
    }

    /// Wakes an operator when the fragment has failed.
    pub(crate) fn add_operator(&self, operator: Activator) {
        self.operators.borrow_mut().push(operator);
    }

    /// Memory of packets that operators have not taken.
    pub(crate) fn stashed_bytes(&self) -> usize {
        self.stashed_bytes.get()
    }

    /// Counts the packets that an operator has not taken.
    pub(crate) fn set_stashed(&self, before: usize, now: usize) {
        self.stashed_bytes.update(|bytes| bytes - before + now);
    }

    /// True after an error.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.get()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};
    use object_store::memory::InMemory;

    use super::*;
    use crate::catalog::Catalog;
    use crate::dataflow::placement::Route;

    #[test]
    fn what_a_checkpoint_is_to_write_is_charged_until_it_is_dropped() {
        let memory = MemoryAccount::new(0, 0);
        let worker = WorkerContext::new(&memory);
        let (env, catalog) = (Env::real(Arc::new(InMemory::new())).unwrap(), Catalog::default());
        let relation = catalog.get("lake").unwrap();
        let context = FragmentContext::new(worker.clone(), relation, 4, &env);
        let keys: Arc<Int64Array> = Arc::new(Int64Array::from_iter_values(0..100));
        let rows = RecordBatch::try_from_iter([("k", keys as _)]).unwrap();
        let delta = |puts| {
            let (schema, deletes) = (rows.schema(), Vec::new());
            vec![StateDelta { table: 0, schema, puts, deletes, delete_shards: None }]
        };
        let table = Placement { route: Route::Single, key_columns: 1, row_start: 0 };
        let operator =
            StoredOperator { id: OperatorId(uuid::Uuid::from_u128(1)), tables: vec![table] };
        worker.order_checkpoint(6);
        context.deposit(6, Some(&operator), delta(vec![rows.clone()])).unwrap();
        context.deposit(6, Some(&operator), delta(vec![rows.clone(), rows.clone()])).unwrap();
        let uses = memory.uses();
        assert_eq!((uses[0].owner, uses[0].kind), (Some(relation.id), MemoryKind::Checkpoint));
        assert!(uses[0].memory >= 2400, "{uses:?}");
        let taken = worker.take_checkpoint(6);
        assert_eq!((taken.len(), memory.uses()), (2, uses));
        drop(taken);
        assert_eq!(memory.uses(), []);
    }

    #[test]
    fn an_epoch_without_a_time_of_its_own_has_that_of_the_last_before_it() {
        let context = WorkerContext::new(&MemoryAccount::new(0, 0));
        context.note_time(3, 300);
        context.note_time(4, 400);
        context.note_time(9, 900);
        let now = |epoch| context.epoch_info(epoch).now_ms;
        assert_eq!([3, 4, 5, 8, 9, 12].map(now), [300, 400, 400, 400, 900, 900]);
        context.forget_times(7);
        assert_eq!([7, 8, 9].map(now), [400, 400, 900]);
        assert_eq!(context.times.borrow().len(), 2);
        context.forget_times(20);
        assert_eq!([9, 30].map(now), [900, 900]);
    }
}
