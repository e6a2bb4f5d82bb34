//! [`FragmentCharges`]: what a fragment of a worker holds, in the account of the process.

use std::sync::Arc;

use super::adapter::SharedOperator;
use super::fragment::Fragment;
use crate::catalog::RelationId;
use crate::change::batch_bytes;
use crate::state::{Charge, MemoryAccount, MemoryKind};

/// What a fragment holds, by kind.
#[derive(Debug)]
pub(crate) struct FragmentCharges {
    source_queue: Charge,
    input: Charge,
    state: Charge,
}

impl FragmentCharges {
    /// Nothing yet.
    pub(crate) fn new(memory: &Arc<MemoryAccount>, relation: RelationId) -> Self {
        let charge = |kind| memory.charge(Some(relation), kind);
        Self {
            source_queue: charge(MemoryKind::SourceQueue),
            input: charge(MemoryKind::Input),
            state: charge(MemoryKind::State),
        }
    }

    /// Charges the state of operators.
    pub(crate) fn set_state<'a>(
        &mut self,
        operators: impl Iterator<Item = &'a SharedOperator> + Clone,
    ) {
        let state = operators.clone().map(|operator| operator.borrow().state_bytes());
        let cold = operators.map(|operator| operator.borrow().cold_bytes());
        self.state.set_both(state.sum(), cold.sum());
    }
}

impl Fragment {
    /// Bytes of its state in memory, as charged.
    pub(crate) fn charged_state(&self) -> u64 {
        self.charges.state.memory()
    }

    /// Charges what it holds now, if that may have changed since the last call.
    pub(crate) fn charge(&mut self) {
        if !std::mem::take(&mut self.has_moved) {
            return;
        }
        let queued = self.sources.iter().map(|source| source.handle.queued_bytes()).sum();
        self.charges.source_queue.set(queued);
        let waiting = self.relations.iter().map(|input| {
            let queue = input.queue.borrow();
            queue.iter().map(|(_, changes)| batch_bytes(changes.rows())).sum::<usize>()
        });
        let waiting = waiting.sum::<usize>();
        self.charges.input.set(self.held_bytes + waiting + self.context.stashed_bytes());
        self.charges.set_state(self.operators.iter());
        // It moves until it is idle and charged once more.
        self.has_moved = !self.is_idle() || !self.sources.is_empty() || self.held_bytes > 0;
    }
}
