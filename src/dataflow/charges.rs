//! [`FragmentCharges`]: what a fragment of a worker holds, in the account of the process.

use std::sync::Arc;

use super::adapter::SharedOperator;
use crate::catalog::RelationId;
use crate::state::{Charge, MemoryAccount, MemoryKind};

/// What a fragment holds, by kind.
#[derive(Debug)]
pub(crate) struct FragmentCharges {
    pub(crate) source_queue: Charge,
    pub(crate) input: Charge,
    pub(crate) state: Charge,
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
