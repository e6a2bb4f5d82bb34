//! [`Fragment`]: the running part of one relation on one worker.
//!
//! ```text
//! inputs: changes of other relations, source batches, DML ─► operators ─► tap ─► other fragments
//! ```
//!
//! Each fragment is a Timely dataflow of its own, so that it can come and go while others run. What
//! it emits is caught by its tap; the worker's loop hands an epoch on once it is complete there.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use arrow::array::RecordBatch;
use frazil_connector_api::{ChangeBatch, Decoded, Positions};
use timely::dataflow::ProbeHandle;

use super::adapter::{EARLY_BYTES_WAITING_MAX, SharedOperator};
use super::charges::FragmentCharges;
use super::context::FragmentContext;
use super::control::{CatchUpProgress, FragmentProgress};
use super::packet::{Feed, Packet, decoded_bytes};
use super::source::{FieldNotices, SourceHandle};
use super::tap::{Queue, Tap};
use crate::catalog::RelationId;
use crate::change::{batch_bytes, change_chunks};
use crate::error::{Error, ErrorKind, Result};
use crate::state::RowsSnapshot;

mod early;

pub(crate) use early::{EarlyParts, EarlyState};

/// Bytes of rows that a fragment takes at once while it catches up: other fragments of the worker
/// wait for as long as their processing takes.
const CHUNK_BYTES_MAX: usize = if cfg!(test) { 64 } else { 128 << 10 };

/// Bytes that a row counts for at least: of some inputs no column is needed.
const ROW_BYTES_MIN: usize = 8;

/// Epochs that a new fragment may be behind when it is admitted: under load one is always open.
const CAUGHT_UP_EPOCHS: u64 = 3;

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
    /// How far that is.
    pub(crate) backfill_rows: BackfillRows,
}

/// Rows of a relation on their way into a new fragment.
pub(crate) struct Backfill {
    rows: RowsSnapshot,
    /// The next segment to feed.
    next: usize,
    /// Rows of the segment before it that are left.
    left: VecDeque<RecordBatch>,
}

/// Rows of a backfill.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BackfillRows {
    fed: u64,
    total: u64,
}

impl Backfill {
    /// All rows of a snapshot.
    pub(crate) fn new(rows: RowsSnapshot) -> Self {
        Self { rows, next: 0, left: VecDeque::new() }
    }

    /// The next rows, with some of the columns if `projection` is given: about `bytes`, one at
    /// least. A statement's rows are one segment, however many they are.
    fn next(&mut self, bytes: usize, projection: Option<&[usize]>) -> Result<Option<RecordBatch>> {
        while self.left.is_empty() && self.next < self.rows.segment_count() {
            self.left = self.rows.segment_batches(self.next, projection)?.into();
            self.next += 1;
        }
        let Some(batch) = self.left.pop_front() else { return Ok(None) };
        let row_bytes = batch_bytes(&batch) / batch.num_rows().max(1);
        let count = (bytes / row_bytes.max(ROW_BYTES_MIN)).max(1);
        if count < batch.num_rows() {
            self.left.push_front(batch.slice(count, batch.num_rows() - count));
            return Ok(Some(batch.slice(0, count)));
        }
        Ok(Some(batch))
    }
}

impl RelationInput {
    /// Begins with these rows of the relation.
    pub(crate) fn begin_with(&mut self, rows: Option<RowsSnapshot>) {
        let total = rows.as_ref().map_or(0, |rows| rows.row_count() as u64);
        self.backfill_rows = BackfillRows { fed: 0, total };
        self.backfill = rows.map(Backfill::new);
    }

    /// Takes epochs before `limit`, which are complete, up to about [`CHUNK_BYTES_MAX`]; true if
    /// there was anything to do. A backfill that is left comes first.
    pub(crate) fn advance(&mut self, limit: u64) -> Result<bool> {
        if self.backfill.is_some() {
            self.feed_chunk()?;
            return Ok(true);
        }
        if *self.feed.time() >= limit {
            return Ok(false);
        }
        let mut bytes = 0;
        let mut queue = self.queue.borrow_mut();
        while let Some((epoch, _)) = queue.front().filter(|(epoch, _)| *epoch < limit) {
            if *epoch > *self.feed.time() {
                self.feed.advance_to(*epoch);
                if bytes > CHUNK_BYTES_MAX {
                    return Ok(true);
                }
            }
            let Some((_, changes)) = queue.pop_front() else { break };
            bytes += batch_bytes(changes.rows());
            let changes = project(&changes, self.projection.as_deref())?;
            self.feed.send(Packet::local(changes));
        }
        self.feed.advance_to(limit);
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

    /// Feeds the next chunk of the backfill; true if there is more of it.
    fn feed_chunk(&mut self) -> Result<bool> {
        let Some(backfill) = &mut self.backfill else { return Ok(false) };
        let mut bytes = 0;
        while bytes < CHUNK_BYTES_MAX {
            let next = backfill.next(CHUNK_BYTES_MAX - bytes, self.projection.as_deref())?;
            let Some(rows) = next else {
                self.backfill = None;
                return Ok(false);
            };
            bytes += batch_bytes(&rows).max(rows.num_rows() * ROW_BYTES_MIN);
            self.backfill_rows.fed += rows.num_rows() as u64;
            self.feed.send(Packet::local(ChangeBatch::inserts(rows)));
        }
        Ok(true)
    }
}

/// Brings a feed to an epoch, if it is not there.
fn advance_to(feed: &mut Feed, epoch: u64) {
    if *feed.time() < epoch {
        feed.advance_to(epoch);
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
    /// The relation of its bad messages, which keeps each of them once.
    pub(crate) errors: Option<RelationId>,
    /// The thread.
    pub(crate) handle: SourceHandle,
    /// Next offsets after what has come.
    pub(crate) offsets: Positions,
    /// The same of what belongs to closed epochs.
    pub(crate) closed_offsets: Positions,
    /// How its messages differ from the declared columns.
    pub(crate) notices: FieldNotices,
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
    /// True if it never emits retractions.
    pub(crate) is_append_only: bool,
    /// Its operators in plan order.
    pub(crate) operators: Vec<SharedOperator>,
    /// What a sink takes at the next checkpoint; `None` for other fragments.
    pub(crate) collected: Option<Rc<RefCell<Vec<ChangeBatch>>>>,
    /// Input of the open epoch, by feed: it gets its epoch when that is closed.
    pub(crate) held: Vec<(usize, Decoded)>,
    /// Memory of `held`.
    pub(crate) held_bytes: usize,
    /// True if input has come since the last epoch was closed, and this is reported.
    pub(crate) is_dirty: bool,
    /// Epochs before this one are closed.
    pub(crate) closed_before: u64,
    /// Epochs of the backfill that are left, while it is under way.
    pub(crate) backfill_epochs: Option<Range<u64>>,
    /// The first epoch after those of the backfill.
    pub(crate) changes_from: u64,
    /// True once a new fragment has reported that it has caught up.
    pub(crate) has_caught_up: bool,
    /// State that is written before the first checkpoint with the fragment.
    pub(crate) early: EarlyState,
    /// Figures since the last report.
    pub(crate) progress: FragmentProgress,
    /// What it holds.
    pub(crate) charges: FragmentCharges,
    /// True if it may hold another number of bytes than is charged.
    pub(crate) has_moved: bool,
}

impl Fragment {
    /// True if everything of `epoch` has been processed on all workers, as far as known here.
    pub(crate) fn is_done(&self, epoch: u64) -> bool {
        !self.probe.less_equal(&epoch)
    }

    /// The first epoch that followers have to wait for; `open` if all that is closed is complete,
    /// or if this fragment catches up and followers see none of that.
    pub(crate) fn complete_before(&self, open: u64) -> u64 {
        let least = self.probe.with_frontier(|frontier| frontier.first().copied());
        match least {
            Some(least) if self.is_admitted() && least < self.closed_before => least,
            _ => open,
        }
    }

    /// The first epoch that is not complete; `open` if there is none before that.
    pub(crate) fn oldest_epoch(&self, open: u64) -> u64 {
        let least = self.probe.with_frontier(|frontier| frontier.first().copied());
        least.unwrap_or(open).min(open)
    }

    /// True if it takes part in epochs.
    pub(crate) fn is_admitted(&self) -> bool {
        self.context.is_admitted(u64::MAX - 1)
    }

    /// True if there is nothing to do until an epoch is closed for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_admitted() && !self.probe.less_than(&self.closed_before)
    }

    /// True if it reads sources here and all of them have ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.sources.iter().all(|source| source.ended)
    }

    /// Keeps input until the open epoch is closed.
    pub(crate) fn hold(&mut self, feed: usize, data: Decoded) {
        self.held_bytes += decoded_bytes(&data).max(1);
        self.has_moved = true;
        self.held.push((feed, data));
    }

    /// Closes an epoch: what is held belongs to it.
    pub(crate) fn close_epoch(&mut self, epoch: u64) {
        self.feeds.iter_mut().for_each(|feed| advance_to(feed, epoch));
        for (feed, data) in std::mem::take(&mut self.held) {
            let Some(feed) = self.feeds.get_mut(feed) else { continue };
            match data {
                // A statement's rows are one batch of any size.
                Decoded::Changes(changes) => {
                    for chunk in change_chunks(&changes) {
                        feed.send(Packet::local(chunk));
                    }
                }
                upserts => feed.send(Packet::new(0, upserts)),
            }
        }
        (self.held_bytes, self.is_dirty, self.closed_before) = (0, false, epoch + 1);
        self.has_moved = true;
        self.feeds.iter_mut().for_each(|feed| advance_to(feed, epoch + 1));
        for source in &mut self.sources {
            source.closed_offsets.clone_from(&source.offsets);
        }
    }

    /// Takes what the relations it follows have completed; `limits` has for each input the first
    /// epoch that is not complete there. True if there was anything to do.
    ///
    /// # Errors
    /// Arrow kernels' only.
    pub(crate) fn follow(&mut self, limits: &[u64]) -> Result<bool> {
        let mut busy = false;
        for (input, limit) in self.relations.iter_mut().zip(limits) {
            busy |= input.advance((*limit).min(self.closed_before))?;
        }
        Ok(busy)
    }

    /// Does the next step of catching up; `open` is the open epoch, `limits` as in
    /// [`Fragment::follow`]. True if there was anything to do.
    ///
    /// # Errors
    /// Arrow kernels' only.
    pub(crate) fn catch_up(&mut self, limits: &[u64], open: u64) -> Result<bool> {
        let Some(epochs) = self.backfill_epochs.clone() else {
            let mut busy = false;
            for (input, limit) in self.relations.iter_mut().zip(limits) {
                busy |= input.advance(*limit)?;
            }
            self.feeds.iter_mut().for_each(|feed| advance_to(feed, open));
            return Ok(busy);
        };
        // One chunk after the other, so that other fragments run in between; and no faster than
        // its state is written, so that memory stays bounded.
        if self.probe.less_than(&epochs.start)
            || self.context.early_bytes() >= EARLY_BYTES_WAITING_MAX
        {
            return Ok(false);
        }
        let mut has_more = false;
        for input in &mut self.relations {
            has_more |= input.feed_chunk()?;
        }
        // The last epoch takes what is left if there are too many chunks.
        let next = if has_more { (epochs.start + 1).min(epochs.end - 1) } else { epochs.end };
        self.backfill_epochs = has_more.then_some(next..epochs.end);
        self.feeds.iter_mut().for_each(|feed| advance_to(feed, next));
        self.relations.iter_mut().for_each(|input| advance_to(&mut input.feed, next));
        Ok(true)
    }

    /// Gives up all input before `limit`: the fragment has failed.
    pub(crate) fn skip_to(&mut self, limit: u64) {
        self.backfill_epochs = None;
        self.relations.iter_mut().for_each(|input| input.skip_to(limit));
        self.feeds.iter_mut().for_each(|feed| advance_to(feed, limit));
    }

    /// Gives up what a failed fragment holds: nobody reads it any more.
    pub(crate) fn release(&mut self) {
        self.early.remove();
        self.sources.clear();
        self.operators.clear();
        self.held.clear();
        (self.held_bytes, self.has_moved) = (0, true);
    }

    /// True if a new fragment is as far as the others, but for the last few epochs.
    pub(crate) fn is_level_with(&self, open: u64) -> bool {
        self.backfill_epochs.is_none()
            && !self.probe.less_than(&open.saturating_sub(CAUGHT_UP_EPOCHS))
    }

    /// Next offsets of all splits read here after the closed epochs, by relation.
    pub(crate) fn offsets(&self) -> BTreeMap<RelationId, Positions> {
        let sources = self.sources.iter();
        sources.map(|source| (source.relation, source.closed_offsets.clone())).collect()
    }

    /// Takes part in epochs from this one on. Followers of a rebuilt fragment get the difference to
    /// the rows that they know.
    ///
    /// # Errors
    /// `Corrupt` if it retracts rows of an append-only relation; Arrow kernels'.
    pub(crate) fn admit(&self, epoch: u64) -> Result<()> {
        self.context.admit(epoch);
        if self.tap.release(epoch)? && self.is_append_only {
            let message = "rows that were added before are not there any more";
            return Err(Error::new(ErrorKind::Corrupt, message)
                .with_hint("drop the relation with CASCADE, and create it again"));
        }
        Ok(())
    }

    /// How far it is, while it catches up; `open` is the open epoch.
    fn catching_up(&self, open: u64) -> Option<CatchUpProgress> {
        if self.is_admitted() {
            return None;
        }
        let rows = self.relations.iter().map(|input| input.backfill_rows);
        let mut progress = rows.fold(CatchUpProgress::default(), |mut sum, rows| {
            sum.rows_done += rows.fed;
            sum.rows_total += rows.total;
            sum
        });
        let least = self.probe.with_frontier(|frontier| frontier.first().copied());
        // Epochs of the backfill are not behind any others.
        let done = least.unwrap_or(open).max(self.changes_from);
        progress.epochs_behind = open.saturating_sub(done);
        Some(progress)
    }

    /// Takes the figures since the last call, with the state's size now; a failed fragment's state
    /// is not looked at. `open` is the open epoch.
    pub(crate) fn take_progress(&mut self, open: u64) -> FragmentProgress {
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
        let catching_up = self.catching_up(open);
        FragmentProgress { operator_bytes, bad_messages, catching_up, ..progress }
    }

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

    /// Has new early deposits written; takes note of writes that have ended.
    pub(crate) fn write_early(&mut self, worker: usize) {
        let deltas = self.context.take_early();
        if !deltas.is_empty() {
            self.early.write(worker, deltas);
        }
        self.early.note_written();
    }
}
