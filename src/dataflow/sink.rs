//! [`SinkCollect`]: gathers what a sink takes at the next checkpoint.

use std::cell::RefCell;
use std::rc::Rc;

use frazil_connector_api::ChangeBatch;

use super::operators::{EpochInfo, Operator, Output};
use crate::error::Result;
use crate::state::StateDelta;

/// The last operator of a sink's fragment, on worker 0.
///
/// Law: at a checkpoint of epoch e, `ready` holds the sum of all changes since the checkpoint
/// before, up to e. It has no durable state: what is ready goes into the manifest's committables or
/// into the sink's log of pending changes.
///
/// Shape: any columns; emits nothing.
#[derive(Debug, Default)]
pub(crate) struct SinkCollect {
    gathered: Vec<ChangeBatch>,
    ready: Rc<RefCell<Vec<ChangeBatch>>>,
}

impl SinkCollect {
    /// Where the changes of the last checkpoint lie.
    pub(crate) fn ready(&self) -> Rc<RefCell<Vec<ChangeBatch>>> {
        Rc::clone(&self.ready)
    }
}

impl Operator for SinkCollect {
    fn name(&self) -> &'static str {
        "SinkCollect"
    }

    fn on_changes(&mut self, _input: usize, changes: ChangeBatch, _: &mut Output) -> Result<()> {
        self.gathered.push(changes);
        Ok(())
    }

    fn on_epoch_end(&mut self, _epoch: &EpochInfo, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Vec<StateDelta>> {
        self.ready.borrow_mut().append(&mut self.gathered);
        Ok(Vec::new())
    }

    fn state_bytes(&self) -> usize {
        self.gathered.iter().map(ChangeBatch::memory_bytes).sum()
    }
}
