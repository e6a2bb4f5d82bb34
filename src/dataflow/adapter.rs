//! Runs an [`Operator`] inside Timely: the only place where the two meet.
//!
//! ```text
//! stream ─► stash by epoch ─► on_changes* ─► (frontier passes) ─► on_epoch_end ─► checkpoint?
//! ```
//!
//! **Invariant:** an operator sees epochs one after the other. Batches of a later epoch wait in the
//! stash until the frontier has passed the current one, so that joins of two epochs never mix. The
//! adapter holds a capability for the current epoch and no other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use frazil_connector_api::{ChangeBatch, Decoded};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{InputHandleCore, OutputBuilder};
use timely::dataflow::operators::{Capability, InputCapability};
use timely::dataflow::{Scope, Stream};

use super::context::{FragmentContext, StoredOperator};
use super::control::BACKFILL_EPOCHS;
use super::errors_table::bad_message_rows;
use super::operators::{Operator, Output};
use super::packet::{Packet, decoded_bytes};
use crate::error::{Error, Result, caught};

/// Bytes of an operator's output beyond which it is sent before all input of the turn is read.
const OUTPUT_BYTES_MAX: usize = 8 << 20;

/// Bytes of state, about, that an operator of a new fragment deposits at once: the worker does
/// nothing else meanwhile.
const EARLY_BYTES: usize = if cfg!(test) { 256 } else { 4 << 20 };

/// The same when the backfill ends, so that little is left for the checkpoint.
const EARLY_BYTES_AT_END: usize = EARLY_BYTES / 16;

/// Bytes of early deposits that wait to be written beyond which an operator makes none.
pub(crate) const EARLY_BYTES_WAITING_MAX: usize = 4 * EARLY_BYTES;

/// A stream of packets.
pub(crate) type Packets<'scope> = Stream<'scope, u64, Vec<Packet>>;

/// An operator that a fragment keeps for its state's sake.
pub(crate) type SharedOperator = Rc<RefCell<dyn Operator>>;

/// An input of an operator.
pub(crate) enum Input<'scope> {
    /// Packets that stay on their worker.
    Local(Packets<'scope>),
    /// Packets that go to the worker that is their target.
    Routed(Packets<'scope>),
}

type Puller = Box<dyn FnMut(&mut dyn FnMut(u64, Vec<Packet>))>;

/// Adds an operator to a dataflow.
///
/// `after_epoch` is called when the operator has ended an epoch. An operator without state is not
/// `stored`.
pub(crate) fn add_operator<'scope>(
    scope: Scope<'scope, u64>,
    inputs: Vec<Input<'scope>>,
    operator: SharedOperator,
    stored: Option<StoredOperator>,
    context: FragmentContext,
    after_epoch: Option<Box<dyn FnMut(u64)>>,
) -> Packets<'scope> {
    let name = operator.borrow().name();
    let mut builder = OperatorBuilder::new(name.to_string(), scope);
    let mut pullers: Vec<Puller> = Vec::new();
    for input in inputs {
        pullers.push(match input {
            Input::Local(stream) => puller(builder.new_input(stream, Pipeline)),
            Input::Routed(stream) => {
                puller(builder.new_input(stream, Exchange::new(|packet: &Packet| packet.target)))
            }
        });
    }
    context.add_operator(scope.activator_for(builder.operator_info().address));
    let (output, stream) = builder.new_output::<Vec<Packet>>();
    let output = OutputBuilder::from(output);
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop();
        if let Some(capability) = &mut capability {
            capability.downgrade(&context.start_epoch());
        }
        let mut state = Adapter {
            current: context.start_epoch(),
            must_end: true,
            stash: BTreeMap::new(),
            stashed_bytes: 0,
            taken: Taken::default(),
            capability,
            name,
            operator: Some(operator),
            stored,
            output,
            context,
            after_epoch,
        };
        move |frontiers| {
            for (input, pull) in pullers.iter_mut().enumerate() {
                pull(&mut |epoch, packets| state.stash(epoch, input, packets));
            }
            let least = frontiers.iter().map(|frontier| frontier.frontier().first().copied());
            // An empty frontier means that the fragment is being dropped: nothing ends any more.
            let limit = least.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().min());
            state.advance(limit);
        }
    });
    stream
}

fn puller<P>(mut handle: InputHandleCore<u64, Vec<Packet>, P>) -> Puller
where
    P: timely::communication::Pull<timely::dataflow::channels::Message<u64, Vec<Packet>>> + 'static,
{
    Box::new(move |take| {
        handle.for_each(|capability, packets| {
            take(epoch_of(&capability), std::mem::take(packets));
        });
    })
}

struct Adapter {
    /// The epoch that the operator is in.
    current: u64,
    /// True if the operator has to end the current epoch: the first one, or one that it has got
    /// packets of.
    must_end: bool,
    /// Packets that wait, by epoch and input.
    stash: BTreeMap<u64, Vec<(usize, Decoded)>>,
    /// Memory of packets that belong to later epochs.
    stashed_bytes: usize,
    /// What the operator took since its last early deposit.
    taken: Taken,
    /// For the current epoch; `None` once the inputs have closed.
    capability: Option<Capability<u64>>,
    /// The operator's name.
    name: &'static str,
    /// `None` once the fragment has failed.
    operator: Option<SharedOperator>,
    stored: Option<StoredOperator>,
    output: OutputBuilder<u64, CapacityContainerBuilder<Vec<Packet>>>,
    context: FragmentContext,
    after_epoch: Option<Box<dyn FnMut(u64)>>,
}

/// Input of an operator.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    rows: usize,
    bytes: usize,
}

impl Adapter {
    fn stash(&mut self, epoch: u64, input: usize, packets: Vec<Packet>) {
        if epoch > self.current {
            let bytes = packets.iter().map(|packet| decoded_bytes(&packet.data));
            self.set_stashed(self.stashed_bytes + bytes.sum::<usize>());
        }
        let stashed = self.stash.entry(epoch).or_default();
        stashed.extend(packets.into_iter().map(|packet| (input, packet.data)));
    }

    fn set_stashed(&mut self, bytes: usize) {
        self.context.set_stashed(self.stashed_bytes, bytes);
        self.stashed_bytes = bytes;
    }

    /// Works off what can be worked off while `limit` is the first epoch that may still come;
    /// `None`: an input has closed.
    fn advance(&mut self, limit: Option<u64>) {
        let Some(limit) = limit else {
            self.capability = None;
            self.release();
            return;
        };
        if self.context.has_failed() {
            self.release();
        }
        while self.current < limit {
            let waiting = self.stash.keys().next().copied();
            if !self.must_end && waiting != Some(self.current) {
                // Epochs without input are not seen, but for the last.
                self.enter_epoch(waiting.map_or(limit - 1, |first| first.min(limit - 1)));
            }
            self.deliver();
            self.end_epoch();
            self.must_end = false;
            self.enter_epoch(self.current + 1);
        }
        self.deliver();
    }

    /// Drops what is held: nobody takes it any more.
    fn release(&mut self) {
        self.stash.clear();
        self.set_stashed(0);
        (self.operator, self.after_epoch) = (None, None);
    }

    /// Leaves the current epoch, which the operator has ended, for `next`.
    fn enter_epoch(&mut self, next: u64) {
        self.deposit_early(next);
        self.checkpoint(next);
        self.current = next;
        if let Some(capability) = &mut self.capability {
            capability.downgrade(&next);
        }
    }

    /// Gives the operator the packets of the current epoch.
    fn deliver(&mut self) {
        let Some(waiting) = self.stash.remove(&self.current) else { return };
        self.must_end = true;
        if self.stashed_bytes > 0 {
            let later = self.stash.values().flatten().map(|(_, data)| decoded_bytes(data));
            self.set_stashed(later.sum());
        }
        let Some(operator) = self.running() else { return };
        let mut out = Output::default();
        let is_counted = self.stored.is_some() && !self.context.is_admitted(self.current);
        for (input, data) in waiting {
            if is_counted {
                self.taken.rows += data.num_rows();
                self.taken.bytes += decoded_bytes(&data);
            }
            let outcome = self.guarded(|| {
                let mut operator = operator.borrow_mut();
                match data {
                    Decoded::Changes(changes) => operator.on_changes(input, changes, &mut out),
                    Decoded::Upserts(upserts) => operator.on_upserts(upserts, &mut out),
                }
            });
            if let Err(error) = outcome {
                return self.fail(error);
            }
            if out.bytes() >= OUTPUT_BYTES_MAX {
                self.send(&mut out);
            }
        }
        self.send(&mut out);
    }

    /// The operator, unless the fragment has failed.
    fn running(&self) -> Option<SharedOperator> {
        self.operator.clone().filter(|_| !self.context.has_failed())
    }

    fn end_epoch(&mut self) {
        let Some(operator) = self.running() else { return };
        let mut out = Output::default();
        let epoch = self.context.epoch_info(self.current);
        let outcome = self.guarded(|| operator.borrow_mut().on_epoch_end(&epoch, &mut out));
        match outcome {
            Ok(()) => self.send(&mut out),
            Err(error) => return self.fail(error),
        }
        let current = self.current;
        if let Some(after_epoch) = &mut self.after_epoch {
            let published = caught(self.name, || {
                after_epoch(current);
                Ok(())
            });
            published.unwrap_or_else(|error| self.context.fail(error));
        }
    }

    /// Runs a step of the operator. A panic is this fragment's failure alone: what the operator
    /// holds is not used any more.
    fn guarded(&self, step: impl FnOnce() -> Result<()>) -> Result<()> {
        let outcome = caught(self.name, || {
            self.context.pass_fault_points()?;
            step()
        });
        self.context.trim_scratch();
        outcome
    }

    fn fail(&self, error: Error) {
        self.context.fail(error.within(self.name));
    }

    /// Sends what a step has emitted at the current epoch, and hands on what it has refused.
    fn send(&mut self, out: &mut Output) {
        let refused = out.take_refused();
        if !refused.is_empty() {
            match bad_message_rows(&refused, self.context.now_us()) {
                Ok(rows) => self.context.refuse(self.current, ChangeBatch::inserts(rows)),
                Err(error) => return self.fail(error),
            }
        }
        let batches: Vec<ChangeBatch> = out.take();
        let Some(capability) = &self.capability else { return };
        if !batches.is_empty() {
            let mut handle = self.output.activate();
            let mut session = handle.session(capability);
            session.give_iterator(batches.into_iter().map(Packet::local));
        }
    }

    /// Deposits what changed if that is much and the fragment is in no checkpoint yet: the first
    /// one would have to take all state at once.
    fn deposit_early(&mut self, next: u64) {
        // A checkpoint of an epoch before `next` takes all.
        if self.taken.rows == 0 || self.context.is_admitted(next.saturating_sub(1)) {
            return;
        }
        let Some(operator) = self.running() else { return };
        let backfill_end = self.context.start_epoch() + BACKFILL_EPOCHS;
        let is_end = self.current < backfill_end && backfill_end <= next;
        // Of a count per group little changes, however many rows it has taken.
        let row_bytes = self.taken.bytes.div_ceil(self.taken.rows);
        let bytes = operator.borrow().changed_rows() * row_bytes;
        let has_room = self.context.early_bytes() < EARLY_BYTES_WAITING_MAX;
        if bytes < EARLY_BYTES_AT_END || !is_end && (bytes < EARLY_BYTES || !has_room) {
            return;
        }
        self.taken = Taken::default();
        let deltas = caught(self.name, || operator.borrow_mut().checkpoint());
        let deposit = |deltas| self.context.deposit_early(self.stored.as_ref(), deltas);
        deltas.and_then(deposit).unwrap_or_else(|error| self.fail(error));
    }

    /// Deposits what changed, for a checkpoint between the current epoch and `next`.
    fn checkpoint(&mut self, next: u64) {
        for epoch in self.context.checkpoints(self.current, next) {
            let Some(operator) = self.running() else { return };
            let deltas = caught(self.name, || operator.borrow_mut().checkpoint());
            self.context.trim_scratch();
            let deposit = |deltas| self.context.deposit(epoch, self.stored.as_ref(), deltas);
            if let Err(error) = deltas.and_then(deposit) {
                self.fail(error);
            }
        }
    }
}

/// The epoch of what came with a capability.
pub(super) fn epoch_of(capability: &InputCapability<u64>) -> u64 {
    // Epochs are totally ordered and a message has one, so there is always a least.
    capability.least().copied().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::DataType;
    use object_store::memory::InMemory;
    use timely::dataflow::operators::Input as _;

    use super::*;
    use crate::catalog::Catalog;
    use crate::dataflow::context::{OperatorDelta, WorkerContext};
    use crate::dataflow::operators::testing::{Store, changes, schema, text};
    use crate::dataflow::operators::{EpochInfo, Materialize};
    use crate::dataflow::packet::Feed;
    use crate::dataflow::placement::{Placement, Route};
    use crate::env::Env;
    use crate::state::{MemoryAccount, OperatorId, StateDelta};

    /// Notes what the adapter asks of it.
    #[derive(Debug)]
    struct Recorder(Rc<RefCell<Vec<String>>>);

    impl Operator for Recorder {
        fn name(&self) -> &'static str {
            "recorder"
        }

        fn on_changes(&mut self, _: usize, changes: ChangeBatch, _: &mut Output) -> Result<()> {
            self.0.borrow_mut().extend(text(&[changes]));
            Ok(())
        }

        fn on_epoch_end(&mut self, epoch: &EpochInfo, _: &mut Output) -> Result<()> {
            self.0.borrow_mut().push(format!("end {}", epoch.epoch));
            Ok(())
        }

        fn checkpoint(&mut self) -> Result<Vec<StateDelta>> {
            self.0.borrow_mut().push("checkpoint".to_string());
            Ok(Vec::new())
        }
    }

    /// What a new fragment deposits between chunks and what the checkpoint takes is its state, and
    /// little is left for the checkpoint.
    #[test]
    fn a_new_fragment_deposits_its_state_between_chunks() {
        let pairs = || schema(&[("k", DataType::Int64), ("a", DataType::Int64)]);
        let view = move || Materialize::try_new(pairs(), false, Some(vec![0]), 1).unwrap();
        let (early, deltas, rows) = timely::execute_directly(move |timely| {
            let worker = WorkerContext::new(&MemoryAccount::new(0, 0));
            let env = Env::real(Arc::new(InMemory::new())).unwrap();
            let catalog = Catalog::default();
            let relation = catalog.get("lake").unwrap();
            let context = FragmentContext::new(worker.clone(), relation, 4, &env);
            let operator = Rc::new(RefCell::new(view()));
            let route = Route::Columns { columns: vec![0], workers: 1 };
            let placement = Placement { route, key_columns: 1, row_start: 0 };
            let id = OperatorId(uuid::Uuid::nil());
            let stored = StoredOperator { id, tables: vec![placement] };
            let mut input = Feed::new();
            timely.dataflow(|scope| {
                let inputs = vec![Input::Local(scope.input_from(&mut input))];
                let shared = Rc::clone(&operator) as SharedOperator;
                add_operator(scope, inputs, shared, Some(stored), context.clone(), None);
            });
            let mut early: Vec<OperatorDelta> = Vec::new();
            let mut go = |epoch, rows: &str| {
                if !rows.is_empty() {
                    input.send(Packet::local(changes(&pairs(), rows)));
                }
                input.advance_to(epoch);
                input.flush();
                (0..5).for_each(|_| _ = timely.step());
                let deposited = context.take_early();
                context.early_written(deposited.iter().map(|it| it.delta.bytes()).sum());
                let count = deposited.len();
                early.extend(deposited);
                count
            };
            go(4, "");
            // Five rows of 16 bytes a chunk: the bound is 256.
            let chunk = |first: u64| {
                let rows = (first..first + 5).map(|key| format!("+ {key} 1\n"));
                rows.collect::<String>()
            };
            let deposits: Vec<usize> = (0..10).map(|i| go(5 + i, &chunk(i * 5))).collect();
            assert_eq!(deposits.iter().sum::<usize>(), 2, "{deposits:?}");
            // The rest when the backfill ends, and what is changed afterwards with a checkpoint.
            assert_eq!(go(4 + BACKFILL_EPOCHS, ""), 1);
            let epoch = 5 + BACKFILL_EPOCHS;
            assert_eq!(go(epoch, "- 0 1\n- 1 1\n+ 1 2\n+ 50 1"), 0);
            context.admit(epoch);
            worker.order_checkpoint(epoch);
            assert_eq!(go(epoch + 1, &chunk(60)), 0);
            let rows = operator.borrow().snapshot().batches(None).unwrap();
            (early, worker.take_checkpoint(epoch), rows)
        });
        assert_eq!(deltas.iter().map(|it| it.delta.row_count()).sum::<usize>(), 8);
        let mut store = Store::default();
        let mut restored = view();
        let inserts = |rows: Vec<_>| rows.into_iter().map(ChangeBatch::inserts).collect::<Vec<_>>();
        for delta in early.into_iter().chain(deltas) {
            store.apply(&restored, vec![delta.delta]);
        }
        store.restore(&mut restored);
        let restored = restored.snapshot().batches(None).unwrap();
        assert_eq!(text(&inserts(restored)), text(&inserts(rows)));
    }

    /// Rows arrive while their epoch is open, and then the frontier passes several epochs at once.
    #[test]
    fn rows_belong_to_their_epoch_and_its_checkpoint_however_far_the_frontier_jumps() {
        let record = timely::execute_directly(|timely| {
            let worker = WorkerContext::new(&MemoryAccount::new(0, 0));
            let env = Env::real(Arc::new(InMemory::new())).unwrap();
            let catalog = Catalog::default();
            let relation = catalog.get("lake").unwrap();
            let context = FragmentContext::new(worker.clone(), relation, 4, &env);
            context.admit(4);
            let record: Rc<RefCell<Vec<String>>> = Rc::default();
            let operator: SharedOperator = Rc::new(RefCell::new(Recorder(Rc::clone(&record))));
            let mut input = Feed::new();
            timely.dataflow(|scope| {
                let inputs = vec![Input::Local(scope.input_from(&mut input))];
                add_operator(scope, inputs, operator, None, context, None);
            });
            let schema = schema(&[("k", DataType::Int64)]);
            let mut give = |epoch, rows: &str| {
                input.advance_to(epoch);
                input.send(Packet::local(changes(&schema, rows)));
                input.flush();
                (0..5).for_each(|_| _ = timely.step());
            };
            give(4, "+ 1");
            give(5, "+ 2");
            worker.order_checkpoint(6);
            give(9, "+ 3");
            record.take()
        });
        assert_eq!(record, ["+ 1", "end 4", "+ 2", "end 5", "checkpoint", "end 8", "+ 3"]);
    }
}
