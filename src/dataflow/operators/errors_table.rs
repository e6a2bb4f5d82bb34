//! [`ErrorsTable`]: the messages that a source could not decode, the newest of them.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::array::{TimestampMicrosecondArray, new_null_array};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};

use super::{EpochInfo, Operator, Output, UpsertTable};
use crate::catalog::{ERRORS_KEY, ErrorsRetention, errors_schema};
use crate::change::{ChangeBatch, RowSizes};
use crate::env::Scratch;
use crate::error::Result;
use crate::state::{MovedRows, RowsSnapshot, StateDelta, StateTable};

/// Keeps each message once, the first that comes with its key, until it is older than the retention
/// allows or newer ones need its place.
///
/// For the rows `E` before and `E'` after an epoch it emits `E' - E` or changes with that sum, so
/// that followers hold what the table holds.
///
/// Shape: the columns of [`errors_schema`]. State: an arrangement by [`ERRORS_KEY`]. There is one
/// instance for all workers: the bounds are the table's.
#[derive(Debug)]
pub struct ErrorsTable {
    rows: UpsertTable,
    retention: ErrorsRetention,
    /// Oldest first.
    kept: VecDeque<Kept>,
    bytes: u64,
    /// Rows were restored in any order.
    is_restored: bool,
}

/// A row that is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    at: i64,
    split: Arc<str>,
    offset: i64,
    bytes: u64,
}

impl ErrorsTable {
    /// An empty table.
    ///
    /// # Errors
    /// None in practice.
    pub fn try_new(retention: ErrorsRetention) -> Result<Self> {
        let rows = UpsertTable::try_new(errors_schema(), ERRORS_KEY.to_vec())?.keeping_first();
        Ok(Self { rows, retention, kept: VecDeque::new(), bytes: 0, is_restored: false })
    }

    /// The rows as of the last finished epoch; call between epochs.
    pub fn snapshot(&self) -> RowsSnapshot {
        self.rows.snapshot()
    }

    fn note(&mut self, rows: &RecordBatch) {
        let sizes = RowSizes::of(rows.columns());
        let splits = rows.column(0).as_string::<i32>();
        let offsets = rows.column(1).as_primitive::<Int64Type>().values();
        let at = rows.column(AT_COLUMN).as_primitive::<TimestampMicrosecondType>().values();
        for row in 0..rows.num_rows() {
            let bytes = sizes.bytes(row) as u64;
            // Most messages come from the split of the one before.
            let split = match self.kept.back() {
                Some(last) if *last.split == *splits.value(row) => Arc::clone(&last.split),
                _ => Arc::from(splits.value(row)),
            };
            self.bytes += bytes;
            self.kept.push_back(Kept { at: at[row], split, offset: offsets[row], bytes });
        }
    }

    /// The first moment at which the oldest row is too old.
    fn due(&self) -> Option<i64> {
        let oldest = self.kept.front()?;
        self.retention.age_ms.map(|age| oldest.at.saturating_add(age.saturating_mul(1000)))
    }

    /// Takes out the oldest rows that are too many or too old.
    fn take_gone(&mut self, now: i64) -> Vec<Kept> {
        let mut gone = Vec::new();
        loop {
            let is_more = |count: u64, most: Option<u64>| most.is_some_and(|most| count > most);
            let is_due = is_more(self.kept.len() as u64, self.retention.rows)
                || is_more(self.bytes, self.retention.bytes)
                || self.due().is_some_and(|due| due <= now);
            let Some(oldest) = is_due.then(|| self.kept.pop_front()).flatten() else {
                return gone;
            };
            self.bytes -= oldest.bytes;
            gone.push(oldest);
        }
    }
}

/// The column of [`errors_schema`] with the time at which a message came.
const AT_COLUMN: usize = 5;

/// Retractions of rows by key; of the other columns nothing is read.
fn retractions(gone: &[Kept]) -> Result<ChangeBatch> {
    let schema = errors_schema();
    let splits = gone.iter().map(|kept| Some(&*kept.split));
    let at = TimestampMicrosecondArray::from_iter_values(gone.iter().map(|kept| kept.at));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(splits.collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(gone.iter().map(|kept| kept.offset))),
        new_null_array(&DataType::Utf8, gone.len()),
        new_null_array(&DataType::Utf8, gone.len()),
        Arc::new(StringArray::from(vec![""; gone.len()])),
        Arc::new(at.with_timezone("UTC")),
    ];
    Ok(ChangeBatch::retractions(RecordBatch::try_new(schema, columns)?))
}

impl Operator for ErrorsTable {
    fn name(&self) -> &'static str {
        "errors_table"
    }

    fn on_changes(&mut self, input: usize, changes: ChangeBatch, out: &mut Output) -> Result<()> {
        self.rows.on_changes(input, changes, out)
    }

    fn on_epoch_end(&mut self, epoch: &EpochInfo, out: &mut Output) -> Result<()> {
        if std::mem::take(&mut self.is_restored) {
            self.kept.make_contiguous().sort_unstable();
        }
        let mut fresh = Output::default();
        self.rows.on_epoch_end(epoch, &mut fresh)?;
        for changes in fresh.take() {
            self.note(changes.rows());
            out.push(changes);
        }
        let gone = self.take_gone(epoch.now_ms.saturating_mul(1000));
        if gone.is_empty() {
            return Ok(());
        }
        self.rows.on_changes(0, retractions(&gone)?, out)?;
        self.rows.on_epoch_end(epoch, out)
    }

    fn due_at(&self) -> Option<i64> {
        self.due()
    }

    fn state_tables(&self) -> Vec<StateTable> {
        self.rows.state_tables()
    }

    fn changed_rows(&self) -> usize {
        self.rows.changed_rows()
    }

    fn checkpoint(&mut self) -> Result<Vec<StateDelta>> {
        self.rows.checkpoint()
    }

    fn restore(&mut self, table: usize, rows: RecordBatch) -> Result<()> {
        self.note(&rows);
        self.is_restored = true;
        self.rows.restore(table, rows)
    }

    fn move_cold(&mut self, wanted: usize, least: usize, to: &Scratch) -> Result<MovedRows> {
        self.rows.move_cold(wanted, least, to)
    }

    fn cold_bytes(&self) -> usize {
        self.rows.cold_bytes()
    }

    fn state_bytes(&self) -> usize {
        self.rows.state_bytes() + self.kept.capacity() * size_of::<Kept>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataflow::operators::testing::{Harness, Store};

    fn message(offset: i64, at: i64) -> RecordBatch {
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let at = TimestampMicrosecondArray::from(vec![at]).with_timezone("UTC");
        let offset = Arc::new(Int64Array::from(vec![offset]));
        let columns: Vec<ArrayRef> =
            vec![text("0"), offset, text("key"), text("payload"), text("why"), Arc::new(at)];
        RecordBatch::try_new(errors_schema(), columns).unwrap()
    }

    fn table(retention: &ErrorsRetention) -> Harness<ErrorsTable> {
        Harness::new(ErrorsTable::try_new(retention.clone()).unwrap(), &[errors_schema()])
    }

    /// Positions in the table after an epoch of time `now_ms`, which followers have as well.
    fn at(now_ms: i64, table: &mut Harness<ErrorsTable>, followers: &mut Vec<i64>) -> Vec<i64> {
        let mut out = Output::default();
        let epoch = EpochInfo { now_ms, ..EpochInfo::default() };
        table.operator.on_epoch_end(&epoch, &mut out).unwrap();
        for changes in out.take() {
            let offsets = changes.rows().column(1).as_primitive::<Int64Type>().clone();
            for (row, offset) in offsets.values().iter().enumerate() {
                match changes.weight(row) > 0 {
                    true => followers.push(*offset),
                    false => followers.retain(|known| known != offset),
                }
            }
        }
        followers.sort_unstable();
        let rows = table.operator.snapshot().batches(None).unwrap();
        let offsets = rows.iter().map(|rows| rows.column(1).as_primitive::<Int64Type>().clone());
        let mut offsets: Vec<i64> = offsets.flat_map(|column| column.values().to_vec()).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, *followers);
        offsets
    }

    #[test]
    fn the_oldest_go_by_rows_bytes_and_age_and_followers_see_it() {
        let unlimited = ErrorsRetention { rows: None, bytes: None, age_ms: None };
        let mut followers = Vec::new();
        let retention = ErrorsRetention { rows: Some(3), ..unlimited.clone() };
        let mut by_rows = table(&retention);
        for offset in 0..5 {
            by_rows.push_batch(0, ChangeBatch::inserts(message(offset, offset)));
        }
        // The first row of a key stays.
        by_rows.push_batch(0, ChangeBatch::inserts(message(4, 100)));
        assert_eq!(at(0, &mut by_rows, &mut followers), [2, 3, 4]);
        let mut store = Store::default();
        let deltas = by_rows.operator.checkpoint().unwrap();
        store.apply(&by_rows.operator, deltas);
        let mut by_rows = table(&retention);
        store.restore(&mut by_rows.operator);
        by_rows.push_batch(0, ChangeBatch::inserts(message(9, 9)));
        assert_eq!(at(0, &mut by_rows, &mut followers), [3, 4, 9]);

        let sizes = RowSizes::of(message(0, 0).columns());
        let retention =
            ErrorsRetention { bytes: Some(2 * sizes.bytes(0) as u64), ..unlimited.clone() };
        let (mut by_bytes, mut followers) = (table(&retention), Vec::new());
        for offset in 0..4 {
            by_bytes.push_batch(0, ChangeBatch::inserts(message(offset, offset)));
            at(0, &mut by_bytes, &mut followers);
        }
        assert_eq!(followers, [2, 3]);

        let retention = ErrorsRetention { age_ms: Some(10), ..unlimited };
        let (mut by_age, mut followers) = (table(&retention), Vec::new());
        by_age.push_batch(0, ChangeBatch::inserts(message(1, 1_000)));
        by_age.push_batch(0, ChangeBatch::inserts(message(2, 5_000)));
        assert_eq!(at(0, &mut by_age, &mut followers), [1, 2]);
        assert_eq!(by_age.operator.due_at(), Some(11_000));
        assert_eq!(at(11, &mut by_age, &mut followers), [2]);
        assert!(at(20, &mut by_age, &mut followers).is_empty());
        assert_eq!((by_age.operator.due_at(), by_age.operator.bytes), (None, 0));
    }
}
