//! [`Source`]: an external stream, read split by split from known positions.

use std::fmt::Debug;
use std::time::Duration;

use crate::{BadMessage, Decoded, Position, Positions, Result, SchemaChange, SplitId};

/// Some messages, decoded, and where to read on after them.
#[derive(Debug)]
pub struct SourceBatch {
    /// The rows.
    pub data: Decoded,
    /// The messages that gave no rows because they are broken.
    pub bad: Vec<BadMessage>,
    /// Messages of the batch from which on the rows of a split have other fields, in order. A
    /// reader begins with that of the first row of each split.
    pub schema_changes: Vec<SchemaChange>,
    /// Where every split that this batch has read from is read on.
    pub positions: Positions,
    /// Bytes read, for the metrics.
    pub bytes: u64,
}

/// What a poll gave.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once per poll, and most are batches")]
pub enum SourcePoll {
    /// Messages, perhaps without rows. A batch without messages and positions says only that the
    /// time-out has passed before the reader has caught up, not that the outside answers.
    Batch(SourceBatch),
    /// Nothing within the time-out: the reader has caught up.
    Idle,
    /// The source is bounded and has ended.
    End,
}

/// A configured external stream.
pub trait Source: Debug + Send + Sync {
    /// The splits that exist now. May grow later; asked again by the job now and then.
    ///
    /// # Errors
    /// `Unavailable` if the system is out of reach.
    fn splits(&self) -> Result<Vec<SplitId>>;

    /// True if [`Source::start_positions`] tells another place at another time (`latest`), so that
    /// it is asked once, when the job is made.
    fn starts_now(&self) -> bool {
        false
    }

    /// Where a new job begins to read, for the splits that exist now.
    ///
    /// # Errors
    /// `Unavailable` if the system is out of reach.
    fn start_positions(&self) -> Result<Positions> {
        self.first_positions(&self.splits()?)
    }

    /// The first readable position of splits, whatever the job's starting mode: where a split
    /// begins that appeared after the job had started, since nothing of it may be left out. Splits
    /// that cannot be asked now are not in the answer: they are asked for again.
    ///
    /// # Errors
    /// `Unavailable` if the system is out of reach.
    fn first_positions(&self, splits: &[SplitId]) -> Result<Positions> {
        Ok(splits.iter().map(|split| (split.clone(), Position::START)).collect())
    }

    /// Where every split ends now, for reading up to now and then stopping; `None` if that cannot
    /// be told, or if there is no end.
    ///
    /// Reading is up to now when every split is at its end or the reader is
    /// [`SourcePoll::Idle`]: places without messages (the markers of Kafka's transactions) may lie
    /// between the last message and the end.
    ///
    /// # Errors
    /// `Unavailable` if the system is out of reach.
    fn end_positions(&self) -> Result<Option<Positions>> {
        Ok(None)
    }

    /// True if all before `end` has been read when a split is read on at `at`.
    ///
    /// Law: reflexive and transitive, and every position that a reader gives is past those that it
    /// gave before. Sources whose positions are texts must say how they are ordered.
    fn is_past(&self, _split: &SplitId, at: &Position, end: &Position) -> bool {
        match (at.number(), end.number()) {
            (Some(at), Some(end)) => at >= end,
            _ => at == end,
        }
    }

    /// True if [`Source::acknowledge`] does something.
    fn wants_acknowledgements(&self) -> bool {
        false
    }

    /// Nothing before these positions will be read again: they are in a durable checkpoint. For
    /// tools that show lag, and for systems that keep messages until they are read.
    ///
    /// Called now and then while the source is read, from one thread of one process, with splits
    /// whose positions have changed; after a restart perhaps with the same ones again. If several
    /// jobs read the source, a position is that of the slowest.
    ///
    /// # Errors
    /// `Unavailable`; it is called again later.
    fn acknowledge(&self, _positions: &Positions) -> Result<()> {
        Ok(())
    }

    /// What kept splits from being read at the last look at them, while others are read; for the
    /// user. `None` if nothing did.
    fn problem(&self) -> Option<String> {
        None
    }

    /// A reader over some splits, each from its position.
    ///
    /// # Errors
    /// `Config`, `Unavailable` or `Target` (a position that is gone: never silently another one).
    fn open(&self, splits: &Positions) -> Result<Box<dyn SourceReader>>;
}

/// Reads splits on a thread of its own.
///
/// Law: what is read depends on the positions alone, so that reading again from the same positions
/// gives the same rows.
pub trait SourceReader: Send {
    /// Waits up to `timeout` for the next rows; about `rows_max` rows at most.
    ///
    /// # Errors
    /// `Unavailable` (the job reopens after a pause) or `Target`.
    fn poll(&mut self, rows_max: usize, timeout: Duration) -> Result<SourcePoll>;

    /// Splits that have ended since the last call and whose messages have all been handed out:
    /// their positions are forgotten, and they are not read again.
    fn take_retired(&mut self) -> Vec<SplitId> {
        Vec::new()
    }
}
