//! [`UpsertTable`]: a table with a primary key.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanBufferBuilder, RecordBatch, UInt32Array, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;

use super::{EpochInfo, Operator, Output};
use crate::change::{
    ChangeBatch, RowSizes, RowsAt, UpsertBatch, UpsertOp, batch_bytes, equal_rows_at,
    runs_by_bytes, take_rows,
};
use crate::env::Scratch;
use crate::error::{Error, ErrorKind, Result};
use crate::state::{
    Arrangement, Identity, Location, MovedRows, NO_ROW, RowsSnapshot, StateDelta, StateTable,
};

/// No operation on the slot in this epoch.
const UNTOUCHED: u64 = u64::MAX;

/// Room that is kept from one epoch to the next, in slots.
const LATEST_KEPT: usize = 1 << 16;

/// The slot's row goes in this epoch.
const GONE: u64 = u64::MAX - 1;

/// Whether those who follow a table need the former row of an update. It may change between two
/// epochs.
#[derive(Debug, Clone)]
pub struct FormerRows(Rc<Cell<bool>>);

impl Default for FormerRows {
    fn default() -> Self {
        Self(Rc::new(Cell::new(true)))
    }
}

impl FormerRows {
    /// From the next epoch on they are needed, or are not.
    pub fn set_needed(&self, are_needed: bool) {
        self.0.set(are_needed);
    }

    /// True if they are needed.
    pub fn are_needed(&self) -> bool {
        self.0.get()
    }
}

/// Turns changes by primary key into changes of a Z-set and keeps the table's rows.
///
/// For the table `T` before and `T'` after the operations of an epoch in their order it emits
/// `T' - T` at the epoch's end: for each touched key `-old +new`, nothing if both are equal. If
/// former rows are [not needed](FormerRows), it emits `+new` alone for a key that has a row before
/// and after: whoever keeps the last row of each key has `T'` all the same.
/// A value marked as unchanged is the stored one. Without a stored row it is NULL, or, if the row
/// has an origin, the row is refused: not applied, and its message is a row of the errors table.
///
/// Changes with weights do the same: within one batch retractions delete their key first, then
/// inserts overwrite theirs. A table that [keeps the first row](UpsertTable::keeping_first) of each
/// key ignores further inserts, so that its changes are append-only.
///
/// Shape: input and output have the table's columns. State: an arrangement by primary key.
///
/// # Errors
/// `NotNullViolation` if a NULL comes where the table has none.
#[derive(Debug)]
pub struct UpsertTable {
    rows: Arrangement,
    schema: SchemaRef,
    pending: Vec<RecordBatch>,
    /// Of each touched slot: `pending` batch and row, or [`GONE`].
    latest: HashMap<u32, u64>,
    touched: Vec<u32>,
    keeps_first: bool,
    former_rows: FormerRows,
}

/// The reason of a refused row, as the errors table shows it.
const NO_STORED_ROW: &str = "the source did not send all values of the row (unchanged TOAST \
    values), and no row with its key is stored (hint: \
    unavailable.value.handling.mode = 'null' takes such values as NULL)";

impl UpsertTable {
    /// An empty table; `key` are the primary key's columns.
    ///
    /// # Errors
    /// `Internal` for a key type that Arrow's row format does not hold.
    pub fn try_new(schema: SchemaRef, key: Vec<usize>) -> Result<Self> {
        Ok(Self {
            rows: Arrangement::try_new(Arc::clone(&schema), Identity::Key(key))?,
            schema,
            pending: Vec::new(),
            latest: HashMap::new(),
            touched: Vec::new(),
            keeps_first: false,
            former_rows: FormerRows::default(),
        })
    }

    /// The table with the first row of each key instead of the last one.
    pub fn keeping_first(self) -> Self {
        Self { keeps_first: true, ..self }
    }

    /// The table whose followers say whether they need former rows.
    pub fn with_former_rows(self, former_rows: FormerRows) -> Self {
        Self { former_rows, ..self }
    }

    /// The rows as of the last finished epoch; call between epochs.
    pub fn snapshot(&self) -> RowsSnapshot {
        self.rows.snapshot()
    }

    fn set(&mut self, slot: u32, value: u64) {
        if self.latest.insert(slot, value).is_none() {
            self.touched.push(slot);
        }
    }

    fn intern(&mut self, rows: &RecordBatch) -> Result<Vec<u32>> {
        let mut slots = Vec::new();
        self.rows.intern(rows, &mut slots)?;
        Ok(slots)
    }

    /// What the epoch has of a slot so far.
    fn latest(&self, slot: u32) -> u64 {
        self.latest.get(&slot).copied().unwrap_or(UNTOUCHED)
    }

    fn truncate(&mut self) {
        for slot in 0..self.rows.slot_count() as u32 {
            if self.rows.location(slot) != NO_ROW || self.latest(slot) != UNTOUCHED {
                self.set(slot, GONE);
            }
        }
    }

    /// True if the slot's row is there after what has come of the epoch.
    fn is_present(&self, slot: u32) -> bool {
        match self.latest(slot) {
            UNTOUCHED => self.rows.location(slot) != NO_ROW,
            latest => latest != GONE,
        }
    }

    /// The rows that need a stored row where none is: a bit per row of the batch.
    fn without_stored(&self, upserts: &UpsertBatch, slots: &[u32]) -> BooleanBuffer {
        let mut within: HashMap<u32, bool> = HashMap::new();
        let mut is_truncated = false;
        let mut refused = BooleanBufferBuilder::new(slots.len());
        for (row, (slot, op)) in slots.iter().zip(upserts.ops()).enumerate() {
            let mut is_refused = false;
            match op {
                UpsertOp::Upsert => {
                    is_refused = upserts.has_origin(row)
                        && !within
                            .get(slot)
                            .copied()
                            .unwrap_or_else(|| !is_truncated && self.is_present(*slot));
                    if !is_refused {
                        within.insert(*slot, true);
                    }
                }
                UpsertOp::Delete => _ = within.insert(*slot, false),
                UpsertOp::Truncate => {
                    within.clear();
                    is_truncated = true;
                }
            }
            refused.append(is_refused);
        }
        refused.finish()
    }

    /// The rows with the stored values where they are marked as unchanged, in runs of bounded
    /// size: the stored values may be large. What refused rows get has no meaning.
    fn fill_unchanged(
        &self,
        upserts: &UpsertBatch,
        slots: &[u32],
        refused: &BooleanBuffer,
    ) -> Result<Vec<RecordBatch>> {
        let rows = upserts.rows();
        let mut filled = BTreeMap::new();
        for (column, marks) in upserts.unchanged().iter().enumerate() {
            if let Some(marks) = marks
                && marks.count_set_bits() > 0
            {
                filled.insert(column, self.fill_column(upserts, slots, column, marks, refused));
            }
        }
        let own = RowSizes::of(rows.columns());
        let runs = runs_by_bytes(rows.num_rows(), |row| {
            own.bytes(row) + filled.values().map(|values| values.bytes(row)).sum::<usize>()
        });
        let run = |run: Range<usize>| {
            let columns =
                rows.columns().iter().enumerate().map(|(column, own)| match filled.get(&column) {
                    Some(values) => values.take(run.clone()),
                    None => Ok(own.slice(run.start, run.len())),
                });
            Ok(RecordBatch::try_new(rows.schema(), columns.collect::<Result<Vec<_>>>()?)?)
        };
        runs.into_iter().map(run).collect()
    }

    fn fill_column(
        &self,
        upserts: &UpsertBatch,
        slots: &[u32],
        column: usize,
        marks: &BooleanBuffer,
        refused: &BooleanBuffer,
    ) -> FilledColumn {
        let own = upserts.rows().column(column);
        let mut stored: Vec<Location> = Vec::new();
        let pending = self.pending.len();
        // Sources: one NULL, this batch, the pending batches; and for now, after them, one of all
        // stored values.
        let mut within = HashMap::new();
        let mut is_truncated = false;
        let mut indices: Vec<(usize, usize)> = Vec::with_capacity(slots.len());
        for (row, slot) in slots.iter().enumerate() {
            let op = upserts.ops()[row];
            if refused.value(row) {
                indices.push((0, 0));
                continue;
            }
            let source = if !marks.value(row) || op != UpsertOp::Upsert {
                (1, row)
            } else if let Some(source) = within.get(slot) {
                *source
            } else if is_truncated {
                (0, 0)
            } else {
                match self.latest(*slot) {
                    GONE => (0, 0),
                    UNTOUCHED if self.rows.location(*slot) == NO_ROW => (0, 0),
                    UNTOUCHED => {
                        stored.push(self.rows.location(*slot));
                        (2 + pending, stored.len() - 1)
                    }
                    place => {
                        let (batch, row) = pending_place(place);
                        (2 + batch, row)
                    }
                }
            };
            indices.push(source);
            match op {
                UpsertOp::Upsert => _ = within.insert(*slot, source),
                UpsertOp::Delete => _ = within.insert(*slot, (0, 0)),
                UpsertOp::Truncate => {
                    within.clear();
                    is_truncated = true;
                }
            }
        }
        let mut sources = vec![new_null_array(own.data_type(), 1), Arc::clone(own)];
        sources.extend(self.pending.iter().map(|rows| Arc::clone(rows.column(column))));
        let (arrays, places) = self.rows.places_in_column(&stored, column);
        for (source, row) in &mut indices {
            if *source == 2 + pending {
                let (array, at) = places[*row];
                (*source, *row) = (2 + pending + array, at);
            }
        }
        sources.extend(arrays);
        let sizes = sources.iter().map(|source| RowSizes::of(std::slice::from_ref(source)));
        FilledColumn { sizes: sizes.collect(), sources, indices }
    }

    /// Runs of touched slots whose old and new rows are of bounded size.
    fn runs(&self, touched: &[u32]) -> Vec<Range<usize>> {
        let needs_former = self.former_rows.are_needed();
        let old = touched.iter().map(|slot| match self.latest(*slot) {
            place if place != GONE && !needs_former => NO_ROW,
            _ => self.rows.location(*slot),
        });
        let mut sizes: Vec<Option<RowSizes>> = vec![None; self.pending.len()];
        self.rows.runs(&old.collect::<Vec<_>>(), |index| match self.latest(touched[index]) {
            GONE | UNTOUCHED => 0,
            place => {
                let (batch, row) = pending_place(place);
                let of = || RowSizes::of(self.pending[batch].columns());
                sizes[batch].get_or_insert_with(of).bytes(row)
            }
        })
    }

    /// Rows of this epoch, each a batch and a row of `pending`.
    fn take_pending(&self, places: &[(usize, usize)]) -> Result<RecordBatch> {
        if places.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (column, field) in self.schema.fields().iter().enumerate() {
            let sources: Vec<&dyn Array> =
                self.pending.iter().map(|rows| rows.column(column).as_ref()).collect();
            let values = interleave(&sources, places)?;
            if !field.is_nullable() && values.null_count() > 0 {
                return Err(Error::new(
                    ErrorKind::NotNullViolation,
                    format!("null value in column \"{}\" that is not null", field.name()),
                ));
            }
            columns.push(values);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// What touched slots lose and get: `T' - T`, without former rows that are not needed.
    fn differences(&self, touched: &[u32]) -> Result<Differences> {
        let (mut both, mut gone, mut come) = (Vec::new(), Vec::new(), Vec::new());
        for slot in touched {
            let has_old = self.rows.location(*slot) != NO_ROW;
            let has_new = self.latest(*slot) != GONE;
            match (has_old, has_new) {
                (true, true) => both.push(*slot),
                (true, false) => gone.push(*slot),
                (false, true) => come.push(*slot),
                (false, false) => {}
            }
        }
        let old = if self.former_rows.are_needed() {
            // Compared after they were taken: rows of scratch files are read once.
            let old = self.take_old(&[both.as_slice(), &gone].concat())?;
            let places: Vec<_> = (0..both.len()).map(|row| (0, row)).collect();
            let unchanged =
                self.equal_to_new(&both, RowsAt { batches: &[&old], places: &places })?;
            remove_numbers(&mut both, &unchanged);
            without_rows(&old, &unchanged)?
        } else {
            let unchanged = self.unchanged(&both)?;
            remove_numbers(&mut both, &unchanged);
            self.take_old(&gone)?
        };
        let (gone, come) = ([both.as_slice(), &gone].concat(), [both, come].concat());
        let new = self.take_pending(&self.new_places(&come))?;
        Ok(Differences { old, gone, new, come })
    }

    /// Where the new rows of slots are in `pending`.
    fn new_places(&self, slots: &[u32]) -> Vec<(usize, usize)> {
        slots.iter().map(|slot| pending_place(self.latest(*slot))).collect()
    }

    /// Where the rows of slots are that were there before this epoch.
    fn old_places(&self, slots: &[u32]) -> Vec<Location> {
        slots.iter().map(|slot| self.rows.location(*slot)).collect()
    }

    /// The rows of slots before this epoch.
    fn take_old(&self, slots: &[u32]) -> Result<RecordBatch> {
        self.rows.take(&self.old_places(slots))
    }

    /// The numbers of the slots whose new row equals the one of `old`.
    fn equal_to_new(&self, slots: &[u32], old: RowsAt<'_>) -> Result<Vec<u32>> {
        let batches: Vec<&RecordBatch> = self.pending.iter().collect();
        let places = self.new_places(slots);
        equal_rows_at(old, RowsAt { batches: &batches, places: &places })
    }

    /// The numbers of the slots whose new row equals the old one; they have both.
    fn unchanged(&self, slots: &[u32]) -> Result<Vec<u32>> {
        let batches: Vec<&RecordBatch> = self.pending.iter().collect();
        let places = self.new_places(slots);
        self.rows.equal_to(&self.old_places(slots), RowsAt { batches: &batches, places: &places })
    }
}

/// A batch without the rows of these numbers.
fn without_rows(rows: &RecordBatch, numbers: &[u32]) -> Result<RecordBatch> {
    if numbers.is_empty() {
        return Ok(rows.clone());
    }
    let mut kept: Vec<u32> = (0..rows.num_rows() as u32).collect();
    remove_numbers(&mut kept, numbers);
    take_rows(rows, &UInt32Array::from(kept))
}

/// Removes the elements with these numbers, which ascend.
fn remove_numbers(slots: &mut Vec<u32>, numbers: &[u32]) {
    let mut numbers = numbers.iter().copied().peekable();
    let mut number = 0..;
    slots.retain(|_| {
        let number = number.next();
        numbers.next_if(|it| Some(*it) == number).is_none()
    });
}

/// Batch and row of a place in `latest`.
fn pending_place(place: u64) -> (usize, usize) {
    ((place >> 32) as usize, (place & 0xffff_ffff) as usize)
}

/// A column of an upsert whose unchanged values are found elsewhere.
struct FilledColumn {
    sources: Vec<ArrayRef>,
    sizes: Vec<RowSizes>,
    /// By row: source and row in it.
    indices: Vec<(usize, usize)>,
}

impl FilledColumn {
    fn bytes(&self, row: usize) -> usize {
        let (source, at) = self.indices[row];
        self.sizes[source].bytes(at)
    }

    fn take(&self, run: Range<usize>) -> Result<ArrayRef> {
        let sources: Vec<&dyn Array> = self.sources.iter().map(AsRef::as_ref).collect();
        Ok(interleave(&sources, &self.indices[run])?)
    }
}

/// What touched slots lose and get.
struct Differences {
    /// Rows to retract.
    old: RecordBatch,
    /// Slots whose stored row goes.
    gone: Vec<u32>,
    /// Rows that come, and their slots.
    new: RecordBatch,
    come: Vec<u32>,
}

impl Operator for UpsertTable {
    fn name(&self) -> &'static str {
        "upsert_table"
    }

    fn on_changes(&mut self, _input: usize, changes: ChangeBatch, _out: &mut Output) -> Result<()> {
        let slots = self.intern(changes.rows())?;
        let batch = (self.pending.len() as u64) << 32;
        if changes.weights().is_some() {
            for (row, slot) in slots.iter().enumerate() {
                if changes.weight(row) < 0 {
                    self.set(*slot, GONE);
                }
            }
        }
        for (row, slot) in slots.iter().enumerate() {
            if changes.weight(row) > 0 && !(self.keeps_first && self.is_present(*slot)) {
                self.set(*slot, batch | row as u64);
            }
        }
        self.pending.push(changes.into_parts().0);
        Ok(())
    }

    fn on_upserts(&mut self, upserts: UpsertBatch, out: &mut Output) -> Result<()> {
        let slots = self.intern(upserts.rows())?;
        let refused = upserts.origins().map(|_| self.without_stored(&upserts, &slots));
        let refused = refused.unwrap_or_else(|| BooleanBuffer::new_unset(slots.len()));
        let runs = if upserts.unchanged().is_empty() {
            vec![upserts.rows().clone()]
        } else {
            self.fill_unchanged(&upserts, &slots, &refused)?
        };
        for row in refused.set_indices() {
            upserts.refused(row, NO_STORED_ROW).into_iter().for_each(|message| out.refuse(message));
        }
        let mut operations = slots.iter().zip(upserts.ops()).zip(&refused);
        for rows in runs {
            let batch = (self.pending.len() as u64) << 32;
            let run = operations.by_ref().take(rows.num_rows()).enumerate();
            for (row, ((slot, op), is_refused)) in run {
                match op {
                    // Its key has no row, and is forgotten with the epoch.
                    UpsertOp::Upsert if is_refused => self.set(*slot, GONE),
                    UpsertOp::Upsert => self.set(*slot, batch | row as u64),
                    UpsertOp::Delete => self.set(*slot, GONE),
                    UpsertOp::Truncate => self.truncate(),
                }
            }
            self.pending.push(rows);
        }
        Ok(())
    }

    fn on_epoch_end(&mut self, _epoch: &EpochInfo, out: &mut Output) -> Result<()> {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() {
            self.pending.clear();
            return Ok(());
        }
        for run in self.runs(&touched) {
            let Differences { old, gone, new, come } = self.differences(&touched[run])?;
            out.push(ChangeBatch::retractions(old));
            gone.iter().for_each(|slot| self.rows.delete(*slot));
            out.push(ChangeBatch::inserts(new.clone()));
            self.rows.insert(new, come);
        }
        self.latest.clear();
        if self.latest.capacity() > LATEST_KEPT {
            self.latest = HashMap::new();
        }
        // A key that came and went within the epoch is forgotten.
        touched.iter().for_each(|slot| self.rows.release(*slot));
        self.pending.clear();
        self.rows.maintain()
    }

    fn state_tables(&self) -> Vec<StateTable> {
        vec![self.rows.state_table()]
    }

    fn changed_rows(&self) -> usize {
        self.rows.changed_rows()
    }

    fn checkpoint(&mut self) -> Result<Vec<StateDelta>> {
        Ok(vec![self.rows.delta(0)?])
    }

    fn restore(&mut self, _table: usize, rows: RecordBatch) -> Result<()> {
        self.rows.restore(&rows)
    }

    fn move_cold(&mut self, wanted: usize, least: usize, to: &Scratch) -> Result<MovedRows> {
        self.rows.move_cold(wanted, least, to)
    }

    fn cold_bytes(&self) -> usize {
        self.rows.cold_bytes()
    }

    fn state_bytes(&self) -> usize {
        let pending: usize = self.pending.iter().map(batch_bytes).sum();
        self.rows.state_bytes() + self.latest.allocation_size() + pending
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use frazil_connector_api::{BadMessage, SplitId};

    use super::*;
    use crate::dataflow::operators::testing::{Harness, assert_changes, changes, schema};

    fn table() -> Harness<UpsertTable> {
        let schema = schema(&[("k", DataType::Int64), ("a", DataType::Utf8)]);
        Harness::new(UpsertTable::try_new(Arc::clone(&schema), vec![0]).unwrap(), &[schema])
    }

    #[test]
    fn inserts_overwrite_and_retractions_delete() {
        let mut table = table();
        table.push(0, "+ 1 a\n + 2 b").push(0, "+ 1 c");
        assert_changes!(table.end(), "+ 1 c\n + 2 b");
        table.push(0, "+ 1 d\n - 1 c").push(0, "- 2 b\n + 3 e").push(0, "- 3 e");
        assert_changes!(table.end(), "- 1 c\n + 1 d\n - 2 b");
        table.push(0, "+ 1 d");
        assert_changes!(table.end(), "");
        assert_eq!(table.operator.snapshot().row_count(), 1);
    }

    #[test]
    fn former_rows_of_updates_are_emitted_if_they_are_needed() {
        let schema = schema(&[("k", DataType::Int64), ("a", DataType::Utf8)]);
        let former_rows = FormerRows::default();
        let operator = UpsertTable::try_new(Arc::clone(&schema), vec![0]).unwrap();
        let mut table =
            Harness::new(operator.with_former_rows(former_rows.clone()), &[Arc::clone(&schema)]);
        table.push(0, "+ 1 a\n + 2 b\n + 3 c");
        table.end();
        former_rows.set_needed(false);
        table.push(0, "+ 1 a\n + 2 x\n - 3 c\n + 4 d");
        assert_changes!(table.end(), "+ 2 x\n - 3 c\n + 4 d");
        former_rows.set_needed(true);
        table.push(0, "+ 2 y");
        assert_changes!(table.end(), "- 2 x\n + 2 y");
    }

    /// Upserts of `k a` words, the second value unchanged where it is `=`, from offset 0 on.
    fn partial(schema: &SchemaRef, lines: &[(UpsertOp, &str)]) -> UpsertBatch {
        let text: Vec<String> =
            lines.iter().map(|(_, row)| format!("+ {}", row.replace('=', "NULL"))).collect();
        let rows = changes(schema, &text.join("\n")).into_parts().0;
        let marks: Vec<bool> = lines.iter().map(|(_, row)| row.ends_with('=')).collect();
        let messages = (0..lines.len()).filter(|row| marks[*row]).map(|row| {
            let (split, offset) = (SplitId("0".to_string()), row as i64);
            let (key, reason) = (None, String::new());
            let payload = Some(lines[row].1.as_bytes().to_vec());
            (row..row + 1, BadMessage { split, offset, key, payload, reason })
        });
        let messages: Vec<_> = messages.collect();
        let ops = lines.iter().map(|(op, _)| *op).collect();
        let marks = vec![None, Some(BooleanBuffer::from(marks))];
        UpsertBatch::try_new(rows, ops, marks).unwrap().with_messages(&messages).unwrap()
    }

    #[test]
    fn a_row_without_stored_values_is_refused_and_the_table_goes_on() {
        use UpsertOp::{Delete, Upsert};
        let fields =
            vec![Field::new("k", DataType::Int64, false), Field::new("a", DataType::Utf8, false)];
        let mut table = UpsertTable::try_new(Arc::new(Schema::new(fields)), vec![0]).unwrap();
        let nullable = schema(&[("k", DataType::Int64), ("a", DataType::Utf8)]);
        let mut out = Output::default();
        let lines = [
            (Upsert, "1 ="),
            (Upsert, "2 x"),
            (Upsert, "2 ="),
            (Delete, "2 ="),
            (Upsert, "2 ="),
            (Upsert, "3 y"),
        ];
        table.on_upserts(partial(&nullable, &lines), &mut out).unwrap();
        table.on_epoch_end(&EpochInfo::default(), &mut out).unwrap();
        let refused: Vec<i64> = out.take_refused().iter().map(|bad| bad.offset).collect();
        assert_eq!(refused, [0, 4]);
        assert_changes!(out.take(), "+ 3 y");
        let lines = [(Upsert, "3 ="), (UpsertOp::Truncate, "0 x"), (Upsert, "3 =")];
        table.on_upserts(partial(&nullable, &lines), &mut out).unwrap();
        table.on_epoch_end(&EpochInfo::default(), &mut out).unwrap();
        assert_eq!(out.take_refused()[0].payload.as_deref(), Some(b"3 =".as_slice()));
        assert_changes!(out.take(), "- 3 y");
    }

    #[test]
    fn keeps_the_first_row_of_a_key() {
        let schema = schema(&[("k", DataType::Int64), ("a", DataType::Utf8)]);
        let operator = UpsertTable::try_new(Arc::clone(&schema), vec![0]).unwrap().keeping_first();
        let mut table = Harness::new(operator, &[schema]);
        table.push(0, "+ 1 a\n + 1 b").push(0, "+ 1 c\n + 2 d");
        assert_changes!(table.end(), "+ 1 a\n + 2 d");
        table.push(0, "+ 2 e\n + 3 f");
        assert_changes!(table.end(), "+ 3 f");
    }

    #[test]
    fn forgets_keys_that_come_and_go_within_an_epoch() {
        let mut table = table();
        table.push(0, "+ 1 a\n + 2 b");
        table.end();
        for key in 10..1000 {
            table.push(0, &format!("+ {key} a")).push(0, &format!("- {key} a"));
            // One that was stored goes and comes back.
            table.push(0, "- 1 a").push(0, "+ 1 a");
            assert_changes!(table.end(), "");
        }
        assert!(table.operator.rows.slot_count() < 10, "{}", table.operator.rows.slot_count());
        table.push(0, "- 1 a\n + 2 c\n + 7 d");
        assert_changes!(table.end(), "- 1 a\n - 2 b\n + 2 c\n + 7 d");
    }

    #[test]
    fn refuses_null_where_the_table_has_none() {
        let fields =
            vec![Field::new("k", DataType::Int64, true), Field::new("a", DataType::Utf8, false)];
        let mut operator = UpsertTable::try_new(Arc::new(Schema::new(fields)), vec![0]).unwrap();
        let nullable = schema(&[("k", DataType::Int64), ("a", DataType::Utf8)]);
        let rows = changes(&nullable, "+ 1 NULL").into_parts().0;
        let upserts = UpsertBatch::try_new(rows, vec![UpsertOp::Upsert], Vec::new()).unwrap();
        let mut out = Output::default();
        operator.on_upserts(upserts, &mut out).unwrap();
        let error = operator.on_epoch_end(&EpochInfo::default(), &mut out).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotNullViolation);
    }
}
