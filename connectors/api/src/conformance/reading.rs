//! The law of [`SourceReader`]: what is read depends on the positions alone.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::{
    Decoded, FieldDifference, Position, Positions, Source, SourceBatch, SourcePoll, SplitId,
};

/// Long enough for a busy machine; a source that has caught up answers earlier.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// Batches without messages that are waited through before a source counts as stuck.
const EMPTY_BATCHES_MAX: usize = 12;

/// What was read from a split, as text, in the order of reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// One text a row: `+1 a,b` or `Upsert a,b`.
    pub rows: Vec<String>,
    /// One text a bad message: offset, payload and reason.
    pub bad: Vec<String>,
    /// From which message on the rows have which fields.
    pub schema_changes: Vec<(i64, FieldDifference)>,
    /// Where it is read on after each batch.
    pub boundaries: Vec<Position>,
    /// Rows, bad messages and schema changes read before each boundary.
    counts: Vec<(usize, usize, usize)>,
}

impl Reading {
    /// How the fields of a message differ by the changes up to it.
    fn difference_at(&self, offset: i64) -> Option<&FieldDifference> {
        let before = self.schema_changes.iter().rev().find(|(since, _)| *since <= offset);
        before.map(|(_, difference)| difference)
    }

    /// Checks that a reader that began later tells the same of the messages that it has read.
    fn assert_same_fields(&self, later: &Self, split: &SplitId) {
        let Some((first, _)) = later.schema_changes.first() else { return };
        let changes = self.schema_changes.iter().chain(&later.schema_changes);
        for (offset, _) in changes.filter(|(offset, _)| offset >= first) {
            let (whole, part) = (self.difference_at(*offset), later.difference_at(*offset));
            assert_eq!(whole, part, "fields of split {split:?} at {offset} after a restart");
        }
    }
}

/// Reads one split until it is idle or has ended, `rows_max` rows a poll.
///
/// # Panics
/// If a poll fails, is stuck, or gives a position that is not past the one before.
pub fn read_all(source: &dyn Source, split: &SplitId, from: Position, rows_max: usize) -> Reading {
    let mut reading = Reading::default();
    let mut reader = open_at(source, split, &from);
    let mut at = from;
    while let Some(batch) = next_batch(reader.as_mut(), rows_max) {
        at = take(&mut reading, source, split, &at, &batch);
    }
    reading
}

/// Checks the law of restarts for every split, from its first position to its end.
///
/// Reading in one go equals (1) reading message by message and opening the source anew after each
/// of them, and (2) the rest that is read in one go from each of those positions. This holds for
/// rows, bad messages and [`SourceBatch::schema_changes`]. Needs a source with an end (or one that
/// becomes idle) and at least `messages_min` messages.
///
/// # Panics
/// If the law is broken.
pub fn assert_restartable(source: &dyn Source, messages_min: usize) {
    let splits = source.splits().expect("the source lists its splits");
    let firsts = source.first_positions(&splits).expect("the source knows where splits begin");
    let ends = source.end_positions().expect("the source answers where it ends");
    let mut messages_seen = 0;
    for split in &splits {
        let first = firsts.get(split).expect("every split has a first position");
        let whole = read_all(source, split, first.clone(), usize::MAX >> 1);
        let stepped = read_in_steps(source, split, first);
        assert_eq!(whole.rows, stepped.rows, "rows of split {split:?} after restarts");
        assert_eq!(whole.bad, stepped.bad, "bad messages of split {split:?} after restarts");
        whole.assert_same_fields(&stepped, split);
        for (boundary, (rows, bad, changes)) in stepped.boundaries.iter().zip(&stepped.counts) {
            let rest = read_all(source, split, boundary.clone(), usize::MAX >> 1);
            assert_eq!(whole.rows[*rows..], rest.rows, "rows of {split:?} from {boundary:?}");
            assert_eq!(whole.bad[*bad..], rest.bad, "bad messages of {split:?} from {boundary:?}");
            whole.assert_same_fields(&rest, split);
            let is_silent = stepped.schema_changes.len() == *changes;
            let fields = "the first row after a restart tells its fields";
            assert_eq!(is_silent, rest.schema_changes.is_empty(), "{fields}: {split:?}");
        }
        messages_seen += stepped.boundaries.len();
        if let Some(ends) = &ends {
            let last = stepped.boundaries.last().unwrap_or(first);
            assert_eq!(ends.get(split), Some(last), "the end of split {split:?}");
        }
    }
    assert!(messages_seen >= messages_min, "only {messages_seen} messages were read");
}

fn read_in_steps(source: &dyn Source, split: &SplitId, from: &Position) -> Reading {
    let mut reading = Reading::default();
    let mut at = from.clone();
    while let Some(batch) = next_batch(open_at(source, split, &at).as_mut(), 1) {
        at = take(&mut reading, source, split, &at, &batch);
    }
    reading
}

fn open_at(source: &dyn Source, split: &SplitId, at: &Position) -> Box<dyn crate::SourceReader> {
    let at = Positions::from([(split.clone(), at.clone())]);
    source.open(&at).expect("the source opens at its own position")
}

fn next_batch(reader: &mut dyn crate::SourceReader, rows_max: usize) -> Option<SourceBatch> {
    for _ in 0..EMPTY_BATCHES_MAX {
        match reader.poll(rows_max, POLL_TIMEOUT).expect("the poll succeeds") {
            SourcePoll::Batch(batch) if batch.positions.is_empty() => {
                assert_eq!(batch.data.num_rows(), 0, "rows without a position");
            }
            SourcePoll::Batch(batch) => return Some(batch),
            SourcePoll::Idle | SourcePoll::End => return None,
        }
    }
    panic!("the reader neither read nor caught up");
}

fn take(
    reading: &mut Reading,
    source: &dyn Source,
    split: &SplitId,
    at: &Position,
    batch: &SourceBatch,
) -> Position {
    let next = batch.positions.get(split).expect("the batch tells the position of its split");
    assert_eq!(batch.positions.len(), 1, "positions of splits that were not opened");
    let follows = source.is_past(split, next, at) && !source.is_past(split, at, next);
    assert!(follows, "position {next:?} does not follow {at:?}");
    reading.rows.extend(rows_as_text(&batch.data));
    reading.bad.extend(batch.bad.iter().map(|bad| {
        let payload = bad.payload.as_deref().map(String::from_utf8_lossy);
        format!("{} {} {payload:?} {}", bad.split.0, bad.offset, bad.reason)
    }));
    reading.boundaries.push(next.clone());
    let changes = batch.schema_changes.iter().filter(|change| change.split == *split);
    reading.schema_changes.extend(changes.map(|it| (it.offset, it.difference.clone())));
    let counts = (reading.rows.len(), reading.bad.len(), reading.schema_changes.len());
    reading.counts.push(counts);
    next.clone()
}

fn rows_as_text(data: &Decoded) -> Vec<String> {
    match data {
        Decoded::Changes(changes) => cells(changes.rows())
            .into_iter()
            .enumerate()
            .map(|(row, text)| format!("{:+} {text}", changes.weight(row)))
            .collect(),
        Decoded::Upserts(upserts) => cells(upserts.rows())
            .into_iter()
            .zip(upserts.ops())
            .map(|(text, op)| format!("{op:?} {text}"))
            .collect(),
    }
}

fn cells(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = rows
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).expect("the column has a text"))
        .collect();
    (0..rows.num_rows())
        .map(|row| {
            let cells: Vec<_> = columns.iter().map(|cells| cells.value(row).to_string()).collect();
            cells.join(",")
        })
        .collect()
}
