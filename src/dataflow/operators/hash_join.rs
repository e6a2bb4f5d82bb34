//! [`HashJoin`]: inner and left equi-join.

mod input;
mod lists;
mod side;
mod weighted_rows;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array,
    new_null_array,
};
use arrow::compute::{and, filter, is_not_null, not, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;

pub use self::input::{InputKind, JoinInput};
use self::side::{Added, Side};
use super::evaluate::{evaluate_all, evaluate_condition, expression_error};
use super::filter::keep;
use super::{EpochInfo, Operator, Output};
use crate::change::{ChangeBatch, RowSizes, with_weights};
use crate::env::Scratch;
use crate::error::{Error, Result};
use crate::state::{KeyTable, MovedRows, NO_SLOT, StateDelta, StateTable};

/// Most rows of an output batch.
const OUTPUT_ROWS: usize = 64 * 1024;

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// What a join is made from.
#[derive(Debug, Clone)]
pub struct JoinSpec {
    /// The left input.
    pub left: JoinInput,
    /// The right input.
    pub right: JoinInput,
    /// A further condition over the output's columns; part of ON.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Left join: left rows without a partner come with NULLs.
    pub is_left: bool,
    /// Output: left's columns, then right's.
    pub schema: SchemaRef,
    /// Unique among all workers of all processes that ever wrote to this state; rows are numbered
    /// under it.
    pub writer: u64,
}

/// Joins two change streams on equal keys and keeps both sides in state.
///
/// For input changes `dL`, `dR` and state `L`, `R` it emits `dL⋈R + L⋈dR + dL⋈dR` as batches
/// arrive; weights multiply. A left join also emits, at the epoch's end, `P' - P` for the left rows
/// `P` that no right row matched, with NULLs. The filter is part of ON.
///
/// Shape: input 0 left `[l..]`, input 1 right `[r..]` -> `[l.., r..]`. State: each side's rows,
/// chained by key; rows whose key has a NULL never match and are not kept.
/// Tables: 0 left, 1 right: `[__writer, __row] -> [column.., __weight]`, without weight of an
/// append-only input.
///
/// # Errors
/// What a key or the filter meets in a row. `Internal` if a row is retracted that is not there.
#[derive(Debug)]
pub struct HashJoin {
    keys: KeyTable,
    sides: [Side; 2],
    filter: Option<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    padding: Option<Padding>,
    /// Rows were restored and the left ones have no match counts yet.
    is_restored: bool,
}

/// Of a left join: how often left rows are matched.
#[derive(Debug, Default)]
struct Padding {
    /// By left entry: sum of the weights of right rows that match.
    matched: Vec<i64>,
    /// By left entry: weight with which it is in the output, padded with NULLs.
    padded: Vec<i64>,
    touched: Vec<u32>,
    is_touched: Vec<bool>,
}

/// Pairs of a batch's rows and the other side's entries.
struct Pairs<'a> {
    /// Side of the batch.
    input: usize,
    changes: &'a ChangeBatch,
    /// By row of the batch: the entry that it brought into its side, or [`NO_SLOT`].
    brought: &'a [u32],
    rows: Vec<u32>,
    partners: Vec<u32>,
}

impl Padding {
    fn resize(&mut self, entry_count: usize) {
        self.matched.resize(entry_count, 0);
        self.padded.resize(entry_count, 0);
        self.is_touched.resize(entry_count, false);
    }

    fn touch(&mut self, entry: u32) {
        if !std::mem::replace(&mut self.is_touched[entry as usize], true) {
            self.touched.push(entry);
        }
    }
}

impl HashJoin {
    /// A join of two inputs.
    ///
    /// # Errors
    /// `Internal` for types that Arrow's row format does not hold, or keys of different types.
    pub fn try_new(spec: JoinSpec) -> Result<Self> {
        let types = key_types(&spec.left)?;
        if types != key_types(&spec.right)? {
            return Err(Error::internal("join keys are of different types"));
        }
        Ok(Self {
            keys: KeyTable::try_new(&types)?,
            sides: [
                Side::try_new(spec.left, spec.writer)?,
                Side::try_new(spec.right, spec.writer)?,
            ],
            filter: spec.filter,
            schema: spec.schema,
            padding: spec.is_left.then(Padding::default),
            is_restored: false,
        })
    }

    /// Takes rows with NULL in a key out; those of a left join's left side are padded at once.
    fn without_null_keys(
        &self,
        input: usize,
        changes: ChangeBatch,
        keys: Vec<ArrayRef>,
        out: &mut Output,
    ) -> Result<(ChangeBatch, Vec<ArrayRef>)> {
        if keys.iter().all(|key| key.logical_null_count() == 0) {
            return Ok((changes, keys));
        }
        let mut valid = BooleanArray::from(vec![true; changes.num_rows()]);
        for key in &keys {
            valid = and(&valid, &is_not_null(key)?)?;
        }
        if self.padding.is_some() && input == LEFT {
            let unmatched = keep(changes.clone(), &not(&valid)?)?;
            out.push(self.padded(unmatched)?);
        }
        let keys = keys
            .iter()
            .map(|key| filter(key, &valid))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        Ok((keep(changes, &valid)?, keys))
    }

    /// Left rows with NULLs on the right.
    fn padded(&self, left: ChangeBatch) -> Result<ChangeBatch> {
        let mut columns = left.rows().columns().to_vec();
        for field in self.sides[RIGHT].schema.fields() {
            columns.push(new_null_array(field.data_type(), left.num_rows()));
        }
        Ok(left.with_rows(self.output_rows(columns, left.num_rows())?)?)
    }

    fn output_rows(&self, columns: Vec<ArrayRef>, row_count: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    /// Adds rows without NULL keys to a side and emits their pairs with the other side.
    fn join(
        &mut self,
        input: usize,
        changes: &ChangeBatch,
        keys: &[ArrayRef],
        out: &mut Output,
    ) -> Result<()> {
        let mut slots = Vec::new();
        self.keys.intern(keys, changes.num_rows(), &mut slots)?;
        let slot_count = self.keys.slot_count();
        self.sides.iter_mut().for_each(|side| side.resize_keys(slot_count));
        let added = self.sides[input].add(changes, &slots)?;
        if input == LEFT {
            self.note_left(&added);
        }
        self.probe(input, changes, &slots, &added.brought, Some(out))
    }

    /// Notes left entries that a batch touched; new ones have no match yet.
    fn note_left(&mut self, added: &Added) {
        let Some(padding) = &mut self.padding else {
            return;
        };
        padding.resize(self.sides[LEFT].entry_count());
        added.touched.iter().for_each(|entry| padding.touch(*entry));
        for entry in added.brought.iter().filter(|entry| **entry != NO_SLOT) {
            padding.touch(*entry);
            padding.matched[*entry as usize] = 0;
        }
    }

    fn probe(
        &mut self,
        input: usize,
        changes: &ChangeBatch,
        slots: &[u32],
        brought: &[u32],
        mut out: Option<&mut Output>,
    ) -> Result<()> {
        let (rows, partners) = (Vec::new(), Vec::new());
        let mut pairs = Pairs { input, changes, brought, rows, partners };
        // All lists a step further at a time: their loads do not wait for each other.
        let heads = slots.iter().map(|slot| self.sides[1 - input].head(*slot));
        let steps = heads.enumerate().filter(|(_, entry)| *entry != NO_SLOT);
        let mut steps: Vec<(u32, u32)> = steps.map(|(row, entry)| (row as u32, entry)).collect();
        while !steps.is_empty() {
            for (row, entry) in &steps {
                pairs.rows.push(*row);
                pairs.partners.push(*entry);
                if pairs.rows.len() == OUTPUT_ROWS {
                    self.emit(&mut pairs, out.as_deref_mut())?;
                }
            }
            let other = &self.sides[1 - input];
            steps.retain_mut(|(_, entry)| {
                *entry = other.next(*entry);
                *entry != NO_SLOT
            });
        }
        self.emit(&mut pairs, out)
    }

    /// Emits the pairs that pass the filter, and counts them as matches of their left rows.
    fn emit(&mut self, pairs: &mut Pairs<'_>, mut out: Option<&mut Output>) -> Result<()> {
        if pairs.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut pairs.rows);
        let partners = std::mem::take(&mut pairs.partners);
        if self.filter.is_none() && out.is_none() {
            self.count_matches(pairs, &rows, &partners, None);
            return Ok(());
        }
        let sizes = RowSizes::of(pairs.changes.rows().columns());
        let other = &self.sides[1 - pairs.input];
        for run in other.runs(&partners, |index| sizes.bytes(rows[index] as usize)) {
            self.emit_run(pairs, rows[run.clone()].to_vec(), &partners[run], out.as_deref_mut())?;
        }
        Ok(())
    }

    fn emit_run(
        &mut self,
        pairs: &Pairs<'_>,
        rows: Vec<u32>,
        partners: &[u32],
        out: Option<&mut Output>,
    ) -> Result<()> {
        let row_count = rows.len();
        let indices = UInt32Array::from(rows);
        let own = pairs.changes.rows().columns().iter();
        let own = own
            .map(|column| take(column, &indices, None))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let other = self.sides[1 - pairs.input].rows_of(partners)?;
        let columns =
            if pairs.input == LEFT { [own, other].concat() } else { [other, own].concat() };
        let weights = self.pair_weights(pairs, indices.values(), partners);
        let output = self.output_rows(columns, row_count)?;
        let mask = match &self.filter {
            Some(filter) => Some(evaluate_condition(filter, &output)?),
            None => None,
        };
        self.count_matches(pairs, indices.values(), partners, mask.as_ref());
        let Some(out) = out else {
            return Ok(());
        };
        let joined = match weights {
            None => ChangeBatch::inserts(output),
            Some(weights) => ChangeBatch::try_new(output, weights)?,
        };
        out.push(match mask {
            Some(mask) => keep(joined, &mask)?,
            None => joined,
        });
        Ok(())
    }

    fn pair_weights(
        &self,
        pairs: &Pairs<'_>,
        rows: &[u32],
        partners: &[u32],
    ) -> Option<Int64Array> {
        let other = &self.sides[1 - pairs.input];
        let weights: Vec<i64> = match (pairs.changes.weights(), other.is_set()) {
            (None, true) => return None,
            (Some(weights), true) => rows.iter().map(|row| weights.value(*row as usize)).collect(),
            (_, false) => rows
                .iter()
                .zip(partners)
                .map(|(row, partner)| pairs.changes.weight(*row as usize) * other.weight(*partner))
                .collect(),
        };
        Some(Int64Array::from(weights))
    }

    fn count_matches(
        &mut self,
        pairs: &Pairs<'_>,
        rows: &[u32],
        partners: &[u32],
        mask: Option<&BooleanArray>,
    ) {
        let Some(padding) = &mut self.padding else {
            return;
        };
        for (position, (row, partner)) in rows.iter().zip(partners).enumerate() {
            if mask.is_some_and(|mask| !mask.value(position)) {
                continue;
            }
            let row = *row as usize;
            if pairs.input == RIGHT {
                padding.matched[*partner as usize] += pairs.changes.weight(row);
                padding.touch(*partner);
            } else if pairs.brought[row] != NO_SLOT {
                let weight = self.sides[RIGHT].weight(*partner);
                padding.matched[pairs.brought[row] as usize] += weight;
            }
        }
    }

    /// Emits what changed among the unmatched left rows.
    fn emit_padding(&mut self, out: &mut Output) -> Result<()> {
        let Some(padding) = &mut self.padding else {
            return Ok(());
        };
        let (mut entries, mut weights) = (Vec::new(), Vec::new());
        for entry in std::mem::take(&mut padding.touched) {
            let index = entry as usize;
            padding.is_touched[index] = false;
            let is_matched = padding.matched[index] != 0;
            let weight = if is_matched { 0 } else { self.sides[LEFT].weight(entry) };
            if weight != padding.padded[index] {
                entries.push(entry);
                weights.push(weight - padding.padded[index]);
                padding.padded[index] = weight;
            }
        }
        for run in self.sides[LEFT].runs(&entries, |_| 0) {
            let (entries, weights) = (&entries[run.clone()], &weights[run]);
            let columns = self.sides[LEFT].rows_of(entries)?;
            let options = RecordBatchOptions::new().with_row_count(Some(entries.len()));
            let schema = Arc::clone(&self.sides[LEFT].schema);
            let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
            out.push(self.padded(with_weights(rows, weights.to_vec())?)?);
        }
        Ok(())
    }

    /// Counts the matches of restored left rows.
    fn finish_restore(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_restored) || self.padding.is_none() {
            return Ok(());
        }
        let left: Vec<u32> = self.sides[LEFT].live_entries();
        for run in self.sides[LEFT].runs(&left, |_| 0) {
            let entries = &left[run];
            let rows = self.sides[LEFT].batch_of(entries)?;
            let keys = evaluate_all(&self.sides[LEFT].key_exprs, &rows)?;
            let mut slots = Vec::new();
            self.keys.find(&keys, rows.num_rows(), &mut slots)?;
            let added = Added { brought: entries.to_vec(), touched: Vec::new() };
            self.note_left(&added);
            let changes = ChangeBatch::inserts(rows);
            self.probe(LEFT, &changes, &slots, &added.brought, None)?;
        }
        if let Some(padding) = &mut self.padding {
            for entry in std::mem::take(&mut padding.touched) {
                padding.is_touched[entry as usize] = false;
                if padding.matched[entry as usize] == 0 {
                    padding.padded[entry as usize] = self.sides[LEFT].weight(entry);
                }
            }
        }
        Ok(())
    }
}

impl Operator for HashJoin {
    fn name(&self) -> &'static str {
        if self.padding.is_some() { "hash_left_join" } else { "hash_join" }
    }

    fn on_changes(&mut self, input: usize, changes: ChangeBatch, out: &mut Output) -> Result<()> {
        self.finish_restore()?;
        let changes = self.sides[input].prepared(changes)?;
        let keys = evaluate_all(&self.sides[input].key_exprs, changes.rows())?;
        let (changes, keys) = self.without_null_keys(input, changes, keys, out)?;
        self.join(input, &changes, &keys, out)
    }

    fn on_epoch_end(&mut self, _epoch: &EpochInfo, out: &mut Output) -> Result<()> {
        self.finish_restore()?;
        let settled = self.sides[LEFT].settle()?;
        self.note_left(&Added { brought: Vec::new(), touched: settled });
        self.sides[RIGHT].settle()?;
        self.emit_padding(out)?;
        self.sides.iter_mut().try_for_each(Side::maintain)
    }

    fn state_tables(&self) -> Vec<StateTable> {
        self.sides.iter().map(Side::state_table).collect()
    }

    fn changed_rows(&self) -> usize {
        self.sides.iter().map(Side::changed_rows).sum()
    }

    fn checkpoint(&mut self) -> Result<Vec<StateDelta>> {
        let mut idle_keys = Vec::new();
        let left = self.sides[LEFT].delta(LEFT, &self.keys, &mut idle_keys)?;
        let right = self.sides[RIGHT].delta(RIGHT, &self.keys, &mut idle_keys)?;
        for slot in idle_keys {
            if self.sides.iter().all(|side| side.head(slot) == NO_SLOT) {
                self.keys.remove(slot);
            }
        }
        Ok(vec![left, right])
    }

    fn restore(&mut self, table: usize, rows: RecordBatch) -> Result<()> {
        let stored = rows;
        let rows = self.sides[table].stored_rows(&stored)?;
        let keys = evaluate_all(&self.sides[table].key_exprs, &rows)?;
        let mut slots = Vec::new();
        self.keys.intern(&keys, rows.num_rows(), &mut slots)?;
        let slot_count = self.keys.slot_count();
        self.sides.iter_mut().for_each(|side| side.resize_keys(slot_count));
        self.sides[table].restore(&stored, rows, &slots)?;
        self.is_restored = true;
        self.sides[table].maintain()
    }

    fn move_cold(&mut self, wanted: usize, least: usize, to: &Scratch) -> Result<MovedRows> {
        let mut moved = MovedRows::default();
        for side in &mut self.sides {
            let left = wanted.saturating_sub(moved.bytes);
            if left > 0 {
                moved.append(side.move_cold(left, least, to)?);
            }
        }
        moved.bytes += self.keys.move_cold(wanted.saturating_sub(moved.bytes), to)?;
        Ok(moved)
    }

    fn cold_bytes(&self) -> usize {
        self.keys.cold_bytes() + self.sides.iter().map(Side::cold_bytes).sum::<usize>()
    }

    fn state_bytes(&self) -> usize {
        let padding = self.padding.as_ref().map_or(0, |padding| {
            (padding.matched.capacity() + padding.padded.capacity()) * 8
                + padding.is_touched.capacity()
        });
        let sides: usize = self.sides.iter().map(Side::state_bytes).sum();
        self.keys.state_bytes() + sides + padding
    }
}

fn key_types(input: &JoinInput) -> Result<Vec<DataType>> {
    input.keys.iter().map(|key| key.data_type(&input.schema).map_err(expression_error)).collect()
}
