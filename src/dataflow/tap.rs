//! [`Tap`]: what a fragment emits on one worker, for the fragments that follow it.
//!
//! ```text
//! emitted ─► (rebuilt and not admitted: kept, net) ─► queues of the subscribers
//! ```

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use arrow::datatypes::SchemaRef;
use frazil_connector_api::ChangeBatch;

use super::operators::FormerRows;
use crate::change::{batch_bytes, consolidate_in_chunks};
use crate::error::Result;

/// Emitted batches with their epochs.
pub(crate) type Queue = RefCell<VecDeque<(u64, ChangeBatch)>>;

/// Bytes of changes that are kept before they are consolidated for the first time.
const KEPT_BYTES_MIN: usize = if cfg!(test) { 256 } else { 1 << 20 };

/// Catches what a fragment emits on this worker, for those who subscribed.
///
/// A subscriber begins when no epoch is under way: nothing of the open epoch has been emitted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tap {
    inner: Rc<RefCell<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    subscribers: Vec<Subscriber>,
    /// Whether anybody needs the former rows of updates.
    former_rows: FormerRows,
    /// Changes of a rebuilt fragment, until it is admitted.
    kept: Option<Kept>,
    /// The epoch in which it was admitted: what is emitted for an earlier one belongs to it.
    admitted: u64,
}

#[derive(Debug)]
struct Subscriber {
    queue: Weak<Queue>,
    needs_former_rows: bool,
}

/// Changes, net: consolidated each time that they have doubled.
#[derive(Debug)]
struct Kept {
    schema: SchemaRef,
    /// Rows of one key are handed on in one batch.
    key: Vec<usize>,
    changes: Vec<ChangeBatch>,
    bytes: usize,
    /// Bytes at which they are consolidated again.
    limit: usize,
}

impl Tap {
    /// A queue of all that is emitted from now on. A subscriber that needs no former rows keeps
    /// the last row of each primary key of a table.
    pub(crate) fn subscribe(&self, needs_former_rows: bool) -> Rc<Queue> {
        let queue = Rc::new(Queue::default());
        let subscriber = Subscriber { queue: Rc::downgrade(&queue), needs_former_rows };
        let mut inner = self.inner.borrow_mut();
        inner.subscribers.push(subscriber);
        inner.tell_need();
        queue
    }

    /// Whether subscribers need former rows, from the next epoch on.
    pub(crate) fn former_rows(&self) -> FormerRows {
        let inner = self.inner.borrow();
        inner.tell_need();
        inner.former_rows.clone()
    }

    /// Keeps what is emitted until [`Tap::release`], beginning with the retraction of the rows that
    /// subscribers have.
    ///
    /// # Errors
    /// Arrow kernels' only.
    pub(crate) fn keep(
        &self,
        schema: SchemaRef,
        key: Vec<usize>,
        former: Vec<ChangeBatch>,
    ) -> Result<()> {
        let mut kept = Kept { schema, key, changes: Vec::new(), bytes: 0, limit: 0 };
        former.into_iter().try_for_each(|changes| kept.add(changes))?;
        self.inner.borrow_mut().kept = Some(kept);
        Ok(())
    }

    /// Takes an emitted batch.
    ///
    /// # Errors
    /// Arrow kernels' only.
    pub(crate) fn push(&self, epoch: u64, changes: &ChangeBatch) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        match &mut inner.kept {
            Some(kept) => kept.add(changes.clone())?,
            None => inner.send(epoch, changes),
        }
        Ok(())
    }

    /// The fragment is admitted in `epoch`: hands on what was kept, net, as changes of that epoch;
    /// true if rows are retracted.
    ///
    /// # Errors
    /// Arrow kernels' only.
    pub(crate) fn release(&self, epoch: u64) -> Result<bool> {
        let mut inner = self.inner.borrow_mut();
        inner.admitted = epoch;
        let Some(mut kept) = inner.kept.take() else { return Ok(false) };
        kept.consolidate()?;
        let mut retracts = false;
        for changes in kept.changes {
            let mut weights = changes.weights().into_iter().flat_map(|it| it.values());
            retracts |= weights.any(|weight| *weight < 0);
            inner.send(epoch, &changes);
        }
        Ok(retracts)
    }
}

impl Inner {
    fn send(&mut self, epoch: u64, changes: &ChangeBatch) {
        let epoch = epoch.max(self.admitted);
        let before = self.subscribers.len();
        self.subscribers.retain(|subscriber| match subscriber.queue.upgrade() {
            None => false,
            Some(queue) => {
                queue.borrow_mut().push_back((epoch, changes.clone()));
                true
            }
        });
        if self.subscribers.len() < before {
            self.tell_need();
        }
    }

    fn tell_need(&self) {
        self.former_rows.set_needed(self.subscribers.iter().any(|it| it.needs_former_rows));
    }
}

impl Kept {
    fn add(&mut self, changes: ChangeBatch) -> Result<()> {
        self.bytes += batch_bytes(changes.rows());
        self.changes.push(changes);
        if self.bytes > self.limit.max(KEPT_BYTES_MIN) {
            self.consolidate()?;
        }
        Ok(())
    }

    fn consolidate(&mut self) -> Result<()> {
        let changes = std::mem::take(&mut self.changes);
        self.changes = consolidate_in_chunks(&self.schema, changes, &self.key)?;
        self.bytes = self.changes.iter().map(|changes| batch_bytes(changes.rows())).sum();
        self.limit = 2 * self.bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::dataflow::operators::testing::{assert_changes, changes, schema};

    fn taken(queue: &Queue) -> (Vec<u64>, Vec<ChangeBatch>) {
        queue.borrow_mut().drain(..).unzip()
    }

    #[test]
    fn followers_of_a_rebuilt_fragment_get_the_difference_in_the_epoch_of_its_admission() {
        let schema = schema(&[("k", DataType::Int64), ("a", DataType::Utf8)]);
        let tap = Tap::default();
        let queue = tap.subscribe(true);
        tap.keep(schema.clone(), vec![0, 1], vec![changes(&schema, "- 1 a\n - 2 b\n - 3 c")])
            .unwrap();
        for row in 3..100 {
            tap.push(row, &changes(&schema, &format!("+ {row} c"))).unwrap();
        }
        tap.push(100, &changes(&schema, "+ 2 b")).unwrap();
        assert!(queue.borrow().is_empty());
        assert!(tap.release(200).unwrap());
        let (epochs, net) = taken(&queue);
        assert!(epochs.iter().all(|epoch| *epoch == 200));
        let rows: String = (4..100).map(|row| format!("\n + {row} c")).collect();
        assert_changes!(net, &format!("- 1 a{rows}"));
        // What was still under way belongs to that epoch as well.
        tap.push(199, &changes(&schema, "+ 1 x")).unwrap();
        tap.push(201, &changes(&schema, "+ 1 y")).unwrap();
        assert_eq!(taken(&queue).0, [200, 201]);
    }

    #[test]
    fn former_rows_are_needed_while_a_subscriber_needs_them() {
        let schema = schema(&[("k", DataType::Int64)]);
        let tap = Tap::default();
        let former_rows = tap.former_rows();
        assert!(!former_rows.are_needed(), "nobody follows");
        let _sink = tap.subscribe(false);
        assert!(!former_rows.are_needed());
        let view = tap.subscribe(true);
        assert!(former_rows.are_needed());
        drop(view);
        tap.push(1, &changes(&schema, "+ 1")).unwrap();
        assert!(!former_rows.are_needed());
    }
}
