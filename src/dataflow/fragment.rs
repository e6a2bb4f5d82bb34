//! [`Fragment`]: the running part of one relation on one worker.
//!
//! ```text
//! inputs: changes of other relations, source batches, DML ─► operators ─► tap ─► other fragments
//! ```
//!
//! Each fragment is a Timely dataflow of its own, so that it can come and go while others run. What
//! it emits is caught by its tap; the worker's loop hands an epoch on once it is complete there.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};

use frazil_connector_api::{ChangeBatch, Decoded, Offsets};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::ProbeHandle;

use super::adapter::SharedOperator;
use super::context::FragmentContext;
use super::control::FragmentProgress;
use super::packet::Packet;
use super::source::SourceHandle;
use crate::catalog::RelationId;
use crate::change::{BATCH_BYTES_MAX, batch_bytes, change_chunks};
use crate::error::Result;
use crate::state::RowsSnapshot;

/// Feeds packets into a dataflow.
pub(crate) type Feed = timely::dataflow::InputHandle<u64, CapacityContainerBuilder<Vec<Packet>>>;

type Queue = RefCell<VecDeque<(u64, ChangeBatch)>>;

/// Catches what a fragment emits on this worker, for those who subscribed.
///
/// Append-only rows pass before their epoch has ended. The tap keeps those of the open epoch, since
/// who subscribes then starts from the snapshot before it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tap {
    subscribers: Rc<RefCell<Vec<Weak<Queue>>>>,
    /// What was emitted in the open epoch.
    open: Rc<Queue>,
    /// The open epoch.
    open_epoch: Rc<Cell<u64>>,
}

impl Tap {
    /// A tap of a fragment that begins with `epoch`.
    pub(crate) fn new(epoch: u64) -> Self {
        Self { open_epoch: Rc::new(Cell::new(epoch)), ..Self::default() }
    }

    /// A queue of all that is emitted from the open epoch on.
    pub(crate) fn subscribe(&self) -> Rc<Queue> {
        let queue = Rc::new(Queue::clone(&self.open));
        self.subscribers.borrow_mut().push(Rc::downgrade(&queue));
        queue
    }

    /// Forgets a closed epoch.
    fn close_epoch(&self, epoch: u64) {
        self.open_epoch.set(epoch + 1);
        self.open.borrow_mut().clear();
    }

    /// Takes an emitted batch.
    pub(crate) fn push(&self, epoch: u64, changes: &ChangeBatch) {
        if epoch >= self.open_epoch.get() {
            self.open.borrow_mut().push_back((epoch, changes.clone()));
        }
        self.subscribers.borrow_mut().retain(|subscriber| match subscriber.upgrade() {
            None => false,
            Some(queue) => {
                queue.borrow_mut().push_back((epoch, changes.clone()));
                true
            }
        });
    }
}

/// An input that follows another relation.
pub(crate) struct RelationInput {
    /// The relation.
    pub(crate) upstream: RelationId,
    /// What it emitted and this input has not taken.
    pub(crate) queue: Rc<Queue>,
    /// Columns kept.
    pub(crate) projection: Option<Vec<usize>>,
    /// True if a new fragment begins with the upstream's rows.
    pub(crate) is_backfilled: bool,
    /// Into the dataflow.
    pub(crate) feed: Feed,
    /// Rows of the relation when the fragment began that are not fed yet.
    pub(crate) backfill: Option<Backfill>,
}

/// Rows of a relation on their way into a new fragment.
pub(crate) struct Backfill {
    rows: RowsSnapshot,
    /// The next segment to feed.
    next: usize,
}

impl Backfill {
    /// All rows of a snapshot.
    pub(crate) fn new(rows: RowsSnapshot) -> Self {
        Self { rows, next: 0 }
    }
}

impl RelationInput {
    /// Feeds some of the backfill, if there is one, so that what is under way is bounded; else
    /// takes all epochs before `limit`, which are complete. True if there was anything to do.
    pub(crate) fn advance(&mut self, limit: u64) -> Result<bool> {
        if self.feed_backfill()? {
            return Ok(true);
        }
        if *self.feed.time() >= limit {
            return Ok(false);
        }
        let mut queue = self.queue.borrow_mut();
        while queue.front().is_some_and(|(epoch, _)| *epoch < limit) {
            let Some((epoch, changes)) = queue.pop_front() else { break };
            if epoch > *self.feed.time() {
                self.feed.advance_to(epoch);
            }
            let changes = project(&changes, self.projection.as_deref())?;
            self.feed.send(Packet::local(changes));
        }
        self.feed.advance_to(limit);
        Ok(true)
    }
}

impl RelationInput {
    fn feed_backfill(&mut self) -> Result<bool> {
        let Some(backfill) = &mut self.backfill else { return Ok(false) };
        let mut bytes = 0;
        while bytes < BATCH_BYTES_MAX {
            if backfill.next == backfill.rows.segment_count() {
                self.backfill = None;
                return Ok(true);
            }
            let columns = self.projection.as_deref();
            for rows in backfill.rows.segment_batches(backfill.next, columns)? {
                bytes += batch_bytes(&rows).max(1);
                self.feed.send(Packet::local(ChangeBatch::inserts(rows)));
            }
            backfill.next += 1;
        }
        Ok(true)
    }

    /// Drops all epochs before `limit`: the fragment has failed.
    pub(crate) fn skip_to(&mut self, limit: u64) {
        self.backfill = None;
        self.queue.borrow_mut().retain(|(epoch, _)| *epoch >= limit);
        if *self.feed.time() < limit {
            self.feed.advance_to(limit);
        }
    }
}

/// Memory of rows in bytes.
pub(crate) fn decoded_bytes(data: &Decoded) -> usize {
    match data {
        Decoded::Changes(changes) => batch_bytes(changes.rows()),
        Decoded::Upserts(upserts) => batch_bytes(upserts.rows()),
    }
}

/// The columns that a scan keeps.
pub(crate) fn project(changes: &ChangeBatch, columns: Option<&[usize]>) -> Result<ChangeBatch> {
    match columns {
        None => Ok(changes.clone()),
        Some(columns) => Ok(changes.with_rows(changes.rows().project(columns)?)?),
    }
}

/// An input that follows a source outside, on the workers that have splits of it.
pub(crate) struct SourceInput {
    /// The table or source that is read.
    pub(crate) relation: RelationId,
    /// The relation of its bad messages; of the fragments that read one source the first feeds it.
    pub(crate) errors: Option<RelationId>,
    /// The thread.
    pub(crate) handle: SourceHandle,
    /// Next offsets after what was fed.
    pub(crate) offsets: Offsets,
    /// The last flush that the reader answered.
    pub(crate) flushed: u64,
    /// True once a bounded source has ended.
    pub(crate) ended: bool,
    /// Where its rows go: indices in [`Fragment::feeds`], and the columns kept there. A query that
    /// names a source twice reads it once, so that there is one place to read on from.
    pub(crate) feeds: Vec<(usize, Option<Vec<usize>>)>,
}

/// The running part of one relation on one worker.
pub(crate) struct Fragment {
    /// The relation.
    pub(crate) relation: RelationId,
    /// What its operators share with the worker's loop.
    pub(crate) context: FragmentContext,
    /// Inputs that follow relations; each closes its epochs as they complete.
    pub(crate) relations: Vec<RelationInput>,
    /// Inputs that follow sources.
    pub(crate) sources: Vec<SourceInput>,
    /// Feeds of sources, DML, bad messages and constants; they close epochs on command.
    pub(crate) feeds: Vec<Feed>,
    /// Tells which epochs are complete.
    pub(crate) probe: ProbeHandle<u64>,
    /// What it emits.
    pub(crate) tap: Tap,
    /// Its operators in plan order.
    pub(crate) operators: Vec<SharedOperator>,
    /// What a sink takes at the next checkpoint; `None` for other fragments.
    pub(crate) collected: Option<Rc<RefCell<Vec<ChangeBatch>>>>,
    /// Figures since the last report.
    pub(crate) progress: FragmentProgress,
}

impl Fragment {
    /// True if everything of `epoch` has been processed on all workers, as far as known here.
    pub(crate) fn is_done(&self, epoch: u64) -> bool {
        !self.probe.less_equal(&epoch)
    }

    /// The first epoch that is not known to be complete here; at most `open`.
    pub(crate) fn done_before(&self, open: u64) -> u64 {
        self.probe.with_frontier(|frontier| frontier.first().map_or(open, |first| open.min(*first)))
    }

    /// True if it reads sources here and all of them have ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.sources.iter().all(|source| source.ended)
    }

    /// Feeds rows into the open epoch.
    pub(crate) fn feed(&mut self, feed: usize, data: Decoded) {
        let Some(feed) = self.feeds.get_mut(feed) else { return };
        match data {
            // A statement's rows are one batch of any size.
            Decoded::Changes(changes) => {
                let chunks = change_chunks(&changes).unwrap_or_else(|_| vec![changes]);
                chunks.into_iter().for_each(|chunk| feed.send(Packet::local(chunk)));
            }
            upserts => feed.send(Packet::new(0, upserts)),
        }
    }

    /// Closes the open epoch on all inputs that close on command.
    pub(crate) fn close_epoch(&mut self, epoch: u64) {
        self.tap.close_epoch(epoch);
        for feed in &mut self.feeds {
            feed.advance_to(epoch + 1);
        }
    }

    /// Next offsets of all splits read here, by relation.
    pub(crate) fn offsets(&self) -> BTreeMap<RelationId, Offsets> {
        self.sources.iter().map(|source| (source.relation, source.offsets.clone())).collect()
    }

    /// Takes the figures since the last call, with the state's size now; a failed fragment's state
    /// is not looked at.
    pub(crate) fn take_progress(&mut self) -> FragmentProgress {
        let operators = if self.context.has_failed() { &[] } else { self.operators.as_slice() };
        let operator_bytes = operators
            .iter()
            .map(|operator| {
                let operator = operator.borrow();
                (operator.name().to_string(), operator.state_bytes() as u64)
            })
            .collect();
        let fresh = FragmentProgress::new(self.relation);
        let progress = std::mem::replace(&mut self.progress, fresh);
        let bad_messages = progress.bad_messages + self.context.refused().count.take();
        FragmentProgress { operator_bytes, bad_messages, ..progress }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;

    fn row(value: i64) -> ChangeBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![value]));
        ChangeBatch::inserts(RecordBatch::try_from_iter([("a", column)]).unwrap())
    }

    #[test]
    fn subscriber_gets_what_the_open_epoch_has_emitted_before() {
        let tap = Tap::new(7);
        tap.push(7, &row(1));
        tap.close_epoch(7);
        tap.push(7, &row(2));
        tap.push(8, &row(3));
        let queue = tap.subscribe();
        tap.push(8, &row(4));
        let found: Vec<u64> = queue.borrow().iter().map(|(epoch, _)| *epoch).collect();
        assert_eq!(found, [8, 8]);
    }
}
