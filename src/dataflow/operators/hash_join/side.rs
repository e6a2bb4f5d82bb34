//! [`Side`]: the rows of one input of a join, chained by key.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array,
};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;

use crate::change::ChangeBatch;
use crate::error::{Error, Result};
use crate::state::check_columns;
use crate::state::{KeyTable, Location, NO_ROW, NO_SLOT, Segments, StateDelta, StateTable};

/// Rows of one input: an entry a row, in a list with the entries of the same key.
///
/// A retracting input has one entry a distinct row, with its weight, found by the whole row; an
/// append-only one an entry for every row that came.
///
/// **Invariant:** an entry is in its key's list iff its weight is not 0.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) schema: SchemaRef,
    pub(super) key_exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// First entry by key.
    heads: Vec<u32>,
    next: Vec<u32>,
    locations: Vec<Location>,
    segments: Segments,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Appended { writer: u64, rows: Vec<RecordBatch>, written: u64 },
    Retracting(Box<Retracting>),
}

#[derive(Debug)]
struct Retracting {
    /// Whole row to entry.
    rows: KeyTable,
    entries: Vec<Entry>,
    /// Number of the batch, for `Entry::batch`.
    batch: u32,
    dirty: Vec<u32>,
}

/// What is kept of an entry, in one place of memory.
#[derive(Debug, Clone)]
struct Entry {
    weight: i64,
    /// The entry before it in its key's list.
    previous: u32,
    key: u32,
    /// Batch that touched it last.
    batch: u32,
    is_dirty: bool,
}

impl Side {
    /// An empty side; with a writer it is append-only.
    pub(super) fn try_new(
        schema: SchemaRef,
        key_exprs: Vec<Arc<dyn PhysicalExpr>>,
        writer: Option<u64>,
    ) -> Result<Self> {
        let kind = match writer {
            Some(writer) => Kind::Appended { writer, rows: Vec::new(), written: 0 },
            None => {
                let types: Vec<DataType> =
                    schema.fields().iter().map(|field| field.data_type().clone()).collect();
                Kind::Retracting(Box::new(Retracting {
                    rows: KeyTable::try_new(&types)?,
                    entries: Vec::new(),
                    batch: 0,
                    dirty: Vec::new(),
                }))
            }
        };
        Ok(Self {
            segments: Segments::new(Arc::clone(&schema)),
            schema,
            key_exprs,
            heads: Vec::new(),
            next: Vec::new(),
            locations: Vec::new(),
            kind,
        })
    }

    pub(super) fn is_append_only(&self) -> bool {
        matches!(self.kind, Kind::Appended { .. })
    }

    pub(super) fn resize_keys(&mut self, slot_count: usize) {
        self.heads.resize(slot_count, NO_SLOT);
    }

    pub(super) fn entry_count(&self) -> usize {
        self.next.len()
    }

    /// First entry of a key, or [`NO_SLOT`].
    #[inline]
    pub(super) fn head(&self, slot: u32) -> u32 {
        self.heads[slot as usize]
    }

    /// The entry after another of its key, or [`NO_SLOT`].
    #[inline]
    pub(super) fn next(&self, entry: u32) -> u32 {
        self.next[entry as usize]
    }

    /// Weight of an entry.
    #[inline]
    pub(super) fn weight(&self, entry: u32) -> i64 {
        match &self.kind {
            Kind::Appended { .. } => 1,
            Kind::Retracting(state) => state.entries[entry as usize].weight,
        }
    }

    /// Entries that have a row.
    pub(super) fn live_entries(&self) -> Vec<u32> {
        (0..self.next.len() as u32).filter(|entry| self.weight(*entry) != 0).collect()
    }

    /// Columns of entries; also of those that went since the last [`Side::maintain`].
    pub(super) fn rows_of(&self, entries: &[u32]) -> Result<Vec<ArrayRef>> {
        let places: Vec<Location> =
            entries.iter().map(|entry| self.locations[*entry as usize]).collect();
        self.segments.take_columns(&places)
    }

    /// Rows of entries.
    pub(super) fn batch_of(&self, entries: &[u32]) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(entries.len()));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(schema, self.rows_of(entries)?, &options)?)
    }

    /// Takes changes with the slots of their keys. Gives the entry of each row, and whether the
    /// row brought it into its list.
    pub(super) fn add(
        &mut self,
        changes: &ChangeBatch,
        slots: &[u32],
        entries: &mut Vec<u32>,
        is_fresh: &mut Vec<bool>,
    ) -> Result<()> {
        match &mut self.kind {
            Kind::Appended { rows, .. } => {
                rows.push(changes.rows().clone());
                let first = self.next.len() as u32;
                entries.extend(first..first + slots.len() as u32);
                is_fresh.resize(slots.len(), true);
                for (entry, slot) in entries.iter().zip(slots) {
                    let head = &mut self.heads[*slot as usize];
                    self.next.push(*head);
                    *head = *entry;
                }
                self.locations.resize(self.next.len(), NO_ROW);
                let rows = changes.rows().clone();
                self.segments.append(rows, entries.clone(), &mut self.locations);
                Ok(())
            }
            Kind::Retracting(_) => self.add_weights(changes, slots, entries, is_fresh),
        }
    }

    fn add_weights(
        &mut self,
        changes: &ChangeBatch,
        slots: &[u32],
        entries: &mut Vec<u32>,
        is_fresh: &mut Vec<bool>,
    ) -> Result<()> {
        let Kind::Retracting(state) = &mut self.kind else {
            return Ok(());
        };
        state.rows.intern(changes.rows().columns(), changes.num_rows(), entries)?;
        state.resize();
        self.next.resize(state.entries.len(), NO_SLOT);
        self.locations.resize(state.entries.len(), NO_ROW);
        // Rows that were or were not there before the batch: one row an entry.
        let mut before: Vec<(usize, i64)> = Vec::with_capacity(entries.len());
        state.batch = state.batch.wrapping_add(1);
        for (row, id) in entries.iter().enumerate() {
            let entry = &mut state.entries[*id as usize];
            if entry.batch != state.batch {
                entry.batch = state.batch;
                entry.key = slots[row];
                before.push((row, entry.weight));
            }
            entry.weight += changes.weight(row);
            if !std::mem::replace(&mut entry.is_dirty, true) {
                state.dirty.push(*id);
            }
        }
        is_fresh.resize(entries.len(), false);
        let (mut rows, mut owners) = (Vec::new(), Vec::new());
        for (row, old) in before {
            let entry = entries[row];
            let new = state.entries[entry as usize].weight;
            if old == 0 && new != 0 {
                state.link(&mut self.heads, &mut self.next, entry, slots[row]);
                is_fresh[row] = true;
                rows.push(row as u32);
                owners.push(entry);
            } else if old != 0 && new == 0 {
                state.unlink(&mut self.heads, &mut self.next, entry);
                self.segments.delete(self.locations[entry as usize]);
            }
        }
        let rows = if rows.len() == changes.num_rows() {
            changes.rows().clone()
        } else {
            take_record_batch(changes.rows(), &UInt32Array::from(rows))?
        };
        self.segments.append(rows, owners, &mut self.locations);
        Ok(())
    }

    /// Merges small segments and drops deleted rows; called once an epoch.
    pub(super) fn maintain(&mut self) -> Result<()> {
        self.segments.maintain(&mut self.locations)
    }

    pub(super) fn state_table(&self) -> StateTable {
        let fields = self.schema.fields();
        let (fields, key_columns, row_start) = match &self.kind {
            Kind::Appended { .. } => {
                let writer = Arc::new(Field::new("__writer", DataType::UInt64, false));
                let row = Arc::new(Field::new("__row", DataType::UInt64, false));
                ([vec![writer, row], fields.to_vec()].concat(), 2, 2)
            }
            Kind::Retracting(_) => {
                let weight = Arc::new(Field::new("__weight", DataType::Int64, false));
                ([fields.to_vec(), vec![weight]].concat(), fields.len(), 0)
            }
        };
        StateTable { schema: Arc::new(Schema::new(fields)), key_columns, row_start }
    }

    /// What changed since the last call; adds the keys of entries that went to `idle_keys`.
    pub(super) fn delta(&mut self, table: usize, idle_keys: &mut Vec<u32>) -> Result<StateDelta> {
        let layout = self.state_table();
        let key_fields = layout.schema.fields()[..layout.key_columns].to_vec();
        let key_schema = Arc::new(Schema::new(key_fields));
        let state = match &mut self.kind {
            Kind::Appended { writer, rows, written } => {
                let rows = concat_batches(&self.schema, &std::mem::take(rows))?;
                let first = *written;
                *written += rows.num_rows() as u64;
                let writers: ArrayRef = Arc::new(UInt64Array::from_value(*writer, rows.num_rows()));
                let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(first..*written));
                let columns = [&[writers, numbers], rows.columns()].concat();
                let puts = RecordBatch::try_new(layout.schema, columns)?;
                let deletes = RecordBatch::new_empty(key_schema);
                return Ok(StateDelta { table, puts, deletes });
            }
            Kind::Retracting(state) => state,
        };
        let (put, gone) = state.take_dirty()?;
        let places: Vec<Location> =
            put.iter().map(|entry| self.locations[*entry as usize]).collect();
        let mut columns = self.segments.take_columns(&places)?;
        let weights = put.iter().map(|entry| state.entries[*entry as usize].weight);
        columns.push(Arc::new(Int64Array::from_iter_values(weights)));
        let puts = RecordBatch::try_new(layout.schema, columns)?;
        let deletes = RecordBatch::try_new(key_schema, state.rows.keys(&gone)?)?;
        for entry in gone {
            state.rows.remove(entry);
            idle_keys.push(state.entries[entry as usize].key);
        }
        Ok(StateDelta { table, puts, deletes })
    }

    /// Stored rows as changes.
    pub(super) fn restored(&self, stored: RecordBatch) -> Result<ChangeBatch> {
        check_columns(&self.state_table(), &stored)?;
        let columns = self.schema.fields().len();
        let schema = Arc::clone(&self.schema);
        if self.is_append_only() {
            let rows = RecordBatch::try_new(schema, stored.columns()[2..].to_vec())?;
            return Ok(ChangeBatch::inserts(rows));
        }
        let rows = RecordBatch::try_new(schema, stored.columns()[..columns].to_vec())?;
        let weights = stored.column(columns).as_primitive::<Int64Type>().clone();
        Ok(ChangeBatch::try_new(rows, weights)?)
    }

    /// What is there now is durable.
    pub(super) fn forget_changes(&mut self) {
        match &mut self.kind {
            Kind::Appended { rows, .. } => rows.clear(),
            Kind::Retracting(state) => {
                for entry in state.dirty.drain(..) {
                    state.entries[entry as usize].is_dirty = false;
                }
            }
        }
    }

    pub(super) fn state_bytes(&self) -> usize {
        let own =
            (self.heads.capacity() + self.next.capacity()) * 4 + self.locations.capacity() * 8;
        own + self.segments.state_bytes()
            + match &self.kind {
                Kind::Appended { .. } => 0,
                Kind::Retracting(state) => state.state_bytes(),
            }
    }
}

impl Retracting {
    fn resize(&mut self) {
        let (previous, key) = (NO_SLOT, NO_SLOT);
        let entry = Entry { weight: 0, previous, key, batch: self.batch, is_dirty: false };
        self.entries.resize(self.rows.slot_count(), entry);
    }

    fn link(&mut self, heads: &mut [u32], next: &mut [u32], entry: u32, key: u32) {
        let head = std::mem::replace(&mut heads[key as usize], entry);
        next[entry as usize] = head;
        self.entries[entry as usize].previous = NO_SLOT;
        if head != NO_SLOT {
            self.entries[head as usize].previous = entry;
        }
    }

    fn unlink(&mut self, heads: &mut [u32], next: &mut [u32], entry: u32) {
        let (before, after) = (self.entries[entry as usize].previous, next[entry as usize]);
        if before == NO_SLOT {
            heads[self.entries[entry as usize].key as usize] = after;
        } else {
            next[before as usize] = after;
        }
        if after != NO_SLOT {
            self.entries[after as usize].previous = before;
        }
    }

    /// Entries that changed: those with a row, and those without.
    fn take_dirty(&mut self) -> Result<(Vec<u32>, Vec<u32>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut missing = 0;
        for entry in &dirty {
            let entry = &mut self.entries[*entry as usize];
            entry.is_dirty = false;
            missing += usize::from(entry.weight < 0);
        }
        if missing > 0 {
            let message = format!("{missing} rows were retracted that are not there");
            return Err(Error::internal(message));
        }
        Ok(dirty.into_iter().partition(|entry| self.entries[*entry as usize].weight != 0))
    }

    fn state_bytes(&self) -> usize {
        self.rows.state_bytes()
            + self.entries.capacity() * size_of::<Entry>()
            + self.dirty.capacity() * 4
    }
}

/// Rows of an append-only input with weights above 1, each row so many times.
pub(super) fn expand(
    changes: ChangeBatch,
    keys: &[ArrayRef],
) -> Result<(ChangeBatch, Vec<ArrayRef>)> {
    let mut indices = Vec::with_capacity(changes.num_rows());
    for row in 0..changes.num_rows() {
        let weight = changes.weight(row);
        if weight < 0 {
            return Err(Error::internal("1 rows were retracted from an append-only input"));
        }
        indices.extend((0..weight).map(|_| row as u32));
    }
    let indices = UInt32Array::from(indices);
    let keys = keys
        .iter()
        .map(|key| take(key, &indices, None))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    Ok((ChangeBatch::inserts(take_record_batch(changes.rows(), &indices)?), keys))
}
