//! [`HashAggregate`]: GROUP BY with retractions, and DISTINCT.

mod accumulator;
mod call;
mod distinct;
mod min_max;
mod spec;
mod sum;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat as concat_arrays, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;

use self::accumulator::{Accumulator, Rows, SideDelta};
use self::call::Call;
pub use self::spec::{Aggregate, AggregateFunction, AggregateSpec};
use super::evaluate::evaluate_all;
use super::{EpochInfo, Operator, Output};
use crate::change::{ChangeBatch, RowSizes, equal_rows, runs_by_bytes};
use crate::error::{Error, Result};
use crate::state::{KeyTable, StateDelta, StateTable, check_columns};

/// Groups rows by keys and keeps aggregates of each group.
///
/// For the aggregate `A` of the input before and `A'` after an epoch it emits `A' - A` at the
/// epoch's end: for each touched group `-old +new`, nothing if both are equal. A group is there
/// while its row count is positive; without keys there is always exactly one row, emitted at the
/// first epoch's end even without input. NULL keys are a group. Without aggregates it is DISTINCT.
///
/// Shape: `[key.., aggregate..]`. State: a slot a group, columns of accumulators beside it.
/// Tables: 0 `[key..] -> [__rows, state..]`; then one `[key.., value] -> __count` for each
/// DISTINCT aggregate, MIN and MAX of a retracting input.
///
/// # Errors
/// `OutOfRange` if a result is beyond its type. `Internal` if a group's row count goes negative.
#[derive(Debug)]
pub struct HashAggregate {
    group: Vec<Arc<dyn PhysicalExpr>>,
    group_types: Vec<DataType>,
    calls: Vec<Call>,
    schema: SchemaRef,
    keys: KeyTable,
    groups: Vec<Group>,
    epoch: u32,
    touched: Vec<u32>,
    /// Of `touched`: row count and aggregates before the epoch, these in parts.
    old_row_counts: Vec<i64>,
    old_parts: Vec<OldPart>,
    dirty: Vec<u32>,
    /// Without keys: this instance emits the row of no input.
    emits_empty: bool,
    /// Without keys: the row has been emitted.
    is_emitted: bool,
    slots: Vec<u32>,
}

/// What is kept of a group beside its accumulators, in one place of memory.
#[derive(Debug, Clone, Default)]
struct Group {
    row_count: i64,
    /// Epoch that touched it last.
    epoch: u32,
    /// It changed since the last checkpoint.
    is_dirty: bool,
}

/// Aggregates of some touched groups before the epoch.
#[derive(Debug)]
struct OldPart {
    /// Position in `touched` of the first group.
    start: usize,
    /// A column for each call.
    columns: Vec<ArrayRef>,
}

impl HashAggregate {
    /// An aggregate over an input.
    ///
    /// # Errors
    /// `Unsupported` for an aggregate over a type that it does not take.
    pub fn try_new(spec: AggregateSpec) -> Result<Self> {
        let calls = spec.calls()?;
        let group_types = spec.group_types()?;
        Ok(Self {
            keys: KeyTable::try_new(&group_types)?,
            old_parts: Vec::new(),
            calls,
            group: spec.group,
            group_types,
            schema: spec.schema,
            groups: Vec::new(),
            epoch: 1,
            touched: Vec::new(),
            old_row_counts: Vec::new(),
            dirty: Vec::new(),
            emits_empty: spec.emits_empty,
            is_emitted: false,
            slots: Vec::new(),
        })
    }

    fn resize(&mut self) {
        let slot_count = self.keys.slot_count();
        if slot_count == self.groups.len() {
            return;
        }
        self.groups.resize(slot_count, Group::default());
        for call in &mut self.calls {
            if let Some(accumulator) = &mut call.accumulator {
                accumulator.resize(slot_count);
            }
        }
    }

    /// Notes the groups that the epoch has not touched yet, with their old results.
    fn touch(&mut self, slots: &[u32]) -> Result<()> {
        let first = self.touched.len();
        for slot in slots {
            let group = &mut self.groups[*slot as usize];
            if group.epoch == self.epoch {
                continue;
            }
            group.epoch = self.epoch;
            self.touched.push(*slot);
            self.old_row_counts.push(group.row_count);
            if !std::mem::replace(&mut group.is_dirty, true) {
                self.dirty.push(*slot);
            }
        }
        let fresh = &self.touched[first..];
        for run in runs_by_bytes(fresh.len(), |index| self.value_bytes(fresh[index])) {
            let slots = &fresh[run.clone()];
            let columns = self.calls.iter().map(|call| call.output(slots, &self.groups));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            self.old_parts.push(OldPart { start: first + run.start, columns });
        }
        Ok(())
    }

    /// About the bytes of a group's results.
    fn value_bytes(&self, slot: u32) -> usize {
        let bytes = |call: &Call| call.accumulator.as_ref().map_or(8, |it| it.value_bytes(slot));
        self.calls.iter().map(bytes).sum()
    }

    fn update(&mut self, changes: &ChangeBatch, slots: &[u32]) -> Result<()> {
        let weights = changes.weights().map(|weights| weights.values().as_ref());
        let groups = &mut self.groups;
        let all = Rows { slots, weights, arg: None, mask: None };
        all.for_each(|slot, _, weight| groups[slot].row_count += weight);
        for call in &mut self.calls {
            call.update(changes.rows(), slots, weights)?;
        }
        Ok(())
    }

    fn is_global(&self) -> bool {
        self.group.is_empty()
    }

    /// Positions in a run of `touched` of rows to retract and to insert.
    fn differences(
        &self,
        run: Range<usize>,
        old: &[ArrayRef],
        new: &[ArrayRef],
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let equal = equal_rows(old, new, run.len())?;
        let old_row_counts = &self.old_row_counts[run.clone()];
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for (position, slot) in self.touched[run].iter().enumerate() {
            let row_count = self.groups[*slot as usize].row_count;
            if row_count < 0 {
                return Err(Error::internal(format!(
                    "{} rows were retracted from a group that are not there",
                    -row_count
                )));
            }
            let (was_there, is_there) = if self.is_global() {
                (self.is_emitted, true)
            } else {
                (old_row_counts[position] > 0, row_count > 0)
            };
            if was_there && is_there && equal.value(position) {
                continue;
            }
            if was_there {
                gone.push(position as u32);
            }
            if is_there {
                come.push(position as u32);
            }
        }
        Ok((gone, come))
    }

    fn emit(&mut self, out: &mut Output) -> Result<()> {
        let parts = std::mem::take(&mut self.old_parts);
        for run in self.runs(&parts) {
            let slots = &self.touched[run.clone()];
            let old = old_columns(&parts, run.clone(), self.calls.len())?;
            let new = self.calls.iter().map(|call| call.output(slots, &self.groups));
            let new = new.collect::<Result<Vec<_>>>()?;
            let keys = self.keys.keys(slots)?;
            let (gone, come) = self.differences(run.clone(), &old, &new)?;
            out.push(ChangeBatch::retractions(self.rows_of(run.len(), &keys, &old, gone)?));
            out.push(ChangeBatch::inserts(self.rows_of(run.len(), &keys, &new, come)?));
        }
        Ok(())
    }

    /// Runs of `touched` whose rows before and after the epoch are of bounded size.
    fn runs(&self, parts: &[OldPart]) -> Vec<Range<usize>> {
        let mut parts = parts.iter().peekable();
        let (mut start, mut sizes) = (0, RowSizes::default());
        runs_by_bytes(self.touched.len(), |position| {
            if let Some(part) = parts.next_if(|part| part.start == position) {
                (start, sizes) = (part.start, RowSizes::of(&part.columns));
            }
            let slot = self.touched[position];
            let values = sizes.bytes(position - start).max(self.value_bytes(slot));
            self.keys.key_bytes(slot) + values
        })
    }

    fn rows_of(
        &self,
        row_count: usize,
        keys: &[ArrayRef],
        values: &[ArrayRef],
        positions: Vec<u32>,
    ) -> Result<RecordBatch> {
        if positions.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let is_all = positions.len() == row_count;
        let positions = UInt32Array::from(positions);
        let columns = keys
            .iter()
            .chain(values)
            .map(
                |column| {
                    if is_all { Ok(Arc::clone(column)) } else { take(column, &positions, None) }
                },
            )
            .collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn key_fields(&self) -> Vec<Field> {
        let fields = self.schema.fields().iter().zip(&self.group_types);
        fields.map(|(field, data_type)| Field::new(field.name(), data_type.clone(), true)).collect()
    }

    /// Calls that have a side table, in the order of tables 1 and on.
    fn side_calls(&mut self) -> impl Iterator<Item = &mut Box<dyn Accumulator>> {
        let accumulators = self.calls.iter_mut().filter_map(|call| call.accumulator.as_mut());
        accumulators.filter(|accumulator| accumulator.side_value().is_some())
    }

    fn main_delta(&self, put: &[u32], gone: &[u32]) -> Result<StateDelta> {
        let schema = Arc::clone(&self.state_tables()[0].schema);
        let bytes = |slot: u32| self.keys.key_bytes(slot) + 8 + self.value_bytes(slot);
        let runs = runs_by_bytes(put.len(), |index| bytes(put[index])).into_iter();
        let puts = runs.map(|run| {
            let put = &put[run];
            let mut columns = self.keys.keys(put)?;
            columns.push(row_counts(&self.groups, put));
            for call in &self.calls {
                if let Some(accumulator) = &call.accumulator {
                    columns.extend(accumulator.state(put)?);
                }
            }
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        });
        let puts = puts.collect::<Result<Vec<_>>>()?;
        let gone = self.keys.key_runs(gone);
        let deletes = gone.map(|gone| self.key_rows(gone));
        let deletes = deletes.collect::<Result<Vec<_>>>()?;
        Ok(StateDelta { table: 0, schema, puts, deletes, delete_shards: None })
    }

    fn key_rows(&self, slots: &[u32]) -> Result<RecordBatch> {
        let schema = Arc::new(Schema::new(self.key_fields()));
        if schema.fields().is_empty() {
            return Ok(RecordBatch::new_empty(schema));
        }
        Ok(RecordBatch::try_new(schema, self.keys.keys(slots)?)?)
    }

    fn side_deltas(&mut self) -> Result<Vec<StateDelta>> {
        let tables = self.state_tables();
        let mut sides = Vec::new();
        for accumulator in self.side_calls() {
            sides.push(accumulator.side_deltas()?);
        }
        let mut deltas = Vec::with_capacity(sides.len());
        for (index, pieces) in sides.into_iter().enumerate() {
            let table = index + 1;
            let schema = Arc::clone(&tables[table].schema);
            let key_fields = schema.fields()[..tables[table].key_columns].iter();
            let key_fields: Vec<Field> = key_fields.map(|field| field.as_ref().clone()).collect();
            let (mut puts, mut deletes) = (Vec::new(), Vec::new());
            for piece in pieces {
                // The groups' own keys may be larger than the values.
                let (slots, columns) = match &piece {
                    SideDelta::Puts(slots, columns) => (slots, columns.clone()),
                    SideDelta::Gone(slots, values) => (slots, vec![Arc::clone(values)]),
                };
                let runs = runs_by_bytes(slots.len(), |at| self.keys.key_bytes(slots[at]) + 8);
                for run in runs {
                    let slice = |column: &ArrayRef| column.slice(run.start, run.len());
                    let mut row = self.keys.keys(&slots[run.clone()])?;
                    row.extend(columns.iter().map(slice));
                    if matches!(piece, SideDelta::Puts(..)) {
                        puts.push(RecordBatch::try_new(Arc::clone(&schema), row)?);
                    } else {
                        let schema = Arc::new(Schema::new(key_fields.clone()));
                        deletes.push(RecordBatch::try_new(schema, row)?);
                    }
                }
            }
            deltas.push(StateDelta { table, schema, puts, deletes, delete_shards: None });
        }
        Ok(deltas)
    }
}

/// Aggregates before the epoch of a run of touched groups, a column for each call.
fn old_columns(parts: &[OldPart], run: Range<usize>, calls: usize) -> Result<Vec<ArrayRef>> {
    let first = parts.partition_point(|part| part.start <= run.start).saturating_sub(1);
    let column = |call: usize| {
        let mut pieces = Vec::new();
        for part in parts[first..].iter().take_while(|part| part.start < run.end) {
            let Some(column) = part.columns.get(call) else { continue };
            let from = run.start.saturating_sub(part.start);
            let to = column.len().min(run.end - part.start);
            pieces.push(column.slice(from, to - from));
        }
        if let [piece] = pieces.as_slice() {
            return Ok(Arc::clone(piece));
        }
        let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
        Ok(concat_arrays(&pieces)?)
    };
    (0..calls).map(column).collect()
}

/// Row counts of groups as a column.
fn row_counts(groups: &[Group], slots: &[u32]) -> ArrayRef {
    let counts = slots.iter().map(|slot| groups[*slot as usize].row_count);
    Arc::new(Int64Array::from_iter_values(counts))
}

impl Call {
    fn output(&self, slots: &[u32], groups: &[Group]) -> Result<ArrayRef> {
        match &self.accumulator {
            Some(accumulator) => accumulator.output(slots),
            None => Ok(row_counts(groups, slots)),
        }
    }
}

impl Operator for HashAggregate {
    fn name(&self) -> &'static str {
        "hash_aggregate"
    }

    fn on_changes(&mut self, _input: usize, changes: ChangeBatch, _out: &mut Output) -> Result<()> {
        let columns = evaluate_all(&self.group, changes.rows())?;
        let mut slots = std::mem::take(&mut self.slots);
        self.keys.intern(&columns, changes.num_rows(), &mut slots)?;
        self.resize();
        self.touch(&slots)?;
        self.update(&changes, &slots)?;
        self.slots = slots;
        Ok(())
    }

    fn on_epoch_end(&mut self, _epoch: &EpochInfo, out: &mut Output) -> Result<()> {
        if self.is_global() && self.emits_empty && !self.is_emitted {
            let mut slots = Vec::new();
            self.keys.intern(&[], 1, &mut slots)?;
            self.resize();
            self.touch(&slots)?;
        }
        if self.touched.is_empty() {
            return Ok(());
        }
        self.emit(out)?;
        self.is_emitted = true;
        self.touched.clear();
        self.old_row_counts.clear();
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.groups.iter_mut().for_each(|group| group.epoch = 0);
            self.epoch = 1;
        }
        Ok(())
    }

    fn state_tables(&self) -> Vec<StateTable> {
        let keys = self.key_fields();
        let mut fields = keys.clone();
        fields.push(Field::new("__rows", DataType::Int64, false));
        let mut sides = Vec::new();
        for (index, call) in self.calls.iter().enumerate() {
            let Some(accumulator) = &call.accumulator else {
                continue;
            };
            fields.extend(accumulator.state_fields().into_iter().map(|field| {
                let name = format!("__{index}_{}", field.name());
                field.with_name(name)
            }));
            if let Some(data_type) = accumulator.side_value() {
                let mut fields = keys.clone();
                fields.push(Field::new("__value", data_type, true));
                fields.push(Field::new("__count", DataType::Int64, false));
                let schema = Arc::new(Schema::new(fields));
                sides.push(StateTable { schema, key_columns: keys.len() + 1, row_start: 0 });
            }
        }
        let schema = Arc::new(Schema::new(fields));
        let main = StateTable { schema, key_columns: keys.len(), row_start: 0 };
        std::iter::once(main).chain(sides).collect()
    }

    fn changed_rows(&self) -> usize {
        let accumulators = self.calls.iter().filter_map(|call| call.accumulator.as_ref());
        let sides = accumulators.map(|accumulator| accumulator.changed_side_rows());
        self.dirty.len() + sides.sum::<usize>()
    }

    fn checkpoint(&mut self) -> Result<Vec<StateDelta>> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().for_each(|slot| self.groups[*slot as usize].is_dirty = false);
        let is_global = self.is_global();
        let (put, gone): (Vec<u32>, Vec<u32>) = dirty
            .into_iter()
            .partition(|slot| is_global || self.groups[*slot as usize].row_count != 0);
        let mut deltas = vec![self.main_delta(&put, &gone)?];
        deltas.extend(self.side_deltas()?);
        for slot in gone {
            self.keys.remove(slot);
            for call in &mut self.calls {
                if let Some(accumulator) = &mut call.accumulator {
                    accumulator.clear(slot);
                }
            }
        }
        Ok(deltas)
    }

    fn restore(&mut self, table: usize, rows: RecordBatch) -> Result<()> {
        let tables = self.state_tables();
        check_columns(&tables[table], &rows)?;
        let key_count = self.group.len();
        let mut slots = Vec::new();
        self.keys.intern(&rows.columns()[..key_count], rows.num_rows(), &mut slots)?;
        self.resize();
        if table > 0 {
            let values = Arc::clone(rows.column(key_count));
            let counts = rows.column(key_count + 1).as_primitive::<Int64Type>();
            let accumulator = self.side_calls().nth(table - 1);
            let accumulator =
                accumulator.ok_or_else(|| Error::internal("there is no such state table"))?;
            return accumulator.restore_side(&slots, &values, counts);
        }
        self.is_emitted |= rows.num_rows() > 0;
        let counts = rows.column(key_count).as_primitive::<Int64Type>().values();
        for (slot, count) in slots.iter().zip(counts) {
            self.groups[*slot as usize].row_count = *count;
        }
        let mut first = key_count + 1;
        for call in &mut self.calls {
            if let Some(accumulator) = &mut call.accumulator {
                let width = accumulator.state_fields().len();
                accumulator.restore(&slots, &rows.columns()[first..first + width]);
                first += width;
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let accumulators = self.calls.iter().filter_map(|call| call.accumulator.as_ref());
        self.keys.state_bytes()
            + accumulators.map(|accumulator| accumulator.state_bytes()).sum::<usize>()
            + self.groups.capacity() * size_of::<Group>()
            + self.dirty.capacity() * 4
            + self.touched.capacity() * 4
            + self.old_row_counts.capacity() * 8
    }
}
