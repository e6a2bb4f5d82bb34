//! [`Arrangement`]: keyed rows in memory.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::appended_rows::{AppendedRows, append_indices};
use super::bits::Bits;
use super::segments::{Location, NO_ROW, RowsSnapshot, Segments};
use super::{KeyTable, MovedRows, RowNumber, SlotColumn, StateDelta, StateTable};
use crate::change::{ChangeBatch, RowsAt, take_rows};
use crate::env::Scratch;
use crate::error::{Error, ErrorKind, Result};

/// What makes a row of an arrangement one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// These columns are unique.
    Key(Vec<usize>),
    /// The whole row; it may be there several times.
    WholeRow,
    /// Nothing: rows only come. See [`AppendedRows`].
    Appended {
        /// Number of the writer.
        writer: u64,
    },
}

/// Rows of a table or view, with what changed since the last checkpoint.
///
/// Shape: `snapshot` has the schema's columns. State table: `Key`: key columns, then the others;
/// `WholeRow`: all columns, then `__count`; `Appended`: as [`AppendedRows`] has it.
#[derive(Debug)]
pub struct Arrangement {
    schema: SchemaRef,
    identity: Identity,
    keys: KeyTable,
    key_columns: Vec<usize>,
    locations: SlotColumn<Location>,
    /// Of [`Identity::WholeRow`].
    counts: SlotColumn<i64>,
    segments: Segments,
    dirty: Vec<u32>,
    is_dirty: Bits,
    /// Of [`Identity::Appended`].
    appended: Option<AppendedRows>,
}

impl Arrangement {
    /// An empty arrangement.
    ///
    /// # Errors
    /// `Internal` for a key type that Arrow's row format does not hold.
    pub fn try_new(schema: SchemaRef, identity: Identity) -> Result<Self> {
        let appended = match &identity {
            Identity::Appended { writer } => Some(AppendedRows::new(Arc::clone(&schema), *writer)),
            _ => None,
        };
        let key_columns = match &identity {
            Identity::Key(columns) => columns.clone(),
            Identity::WholeRow => (0..schema.fields().len()).collect(),
            Identity::Appended { .. } => Vec::new(),
        };
        let types: Vec<DataType> =
            key_columns.iter().map(|column| schema.field(*column).data_type().clone()).collect();
        Ok(Self {
            keys: KeyTable::try_new(&types)?,
            segments: Segments::new(Arc::clone(&schema)),
            schema,
            identity,
            key_columns,
            locations: SlotColumn::default(),
            counts: SlotColumn::default(),
            dirty: Vec::new(),
            is_dirty: Bits::default(),
            appended,
        })
    }

    /// Schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Takes consolidated changes of a Z-set.
    ///
    /// # Errors
    /// `Internal` if a row is retracted that is not there, or a key comes twice.
    pub fn apply(&mut self, changes: &ChangeBatch) -> Result<()> {
        if let Some(appended) = &mut self.appended {
            let rows = match changes.weights() {
                None => changes.rows().clone(),
                Some(_) => take_rows(changes.rows(), &append_indices(changes)?)?,
            };
            appended.push(rows.clone());
            self.segments.append(rows, Vec::new(), &mut self.locations);
            return Ok(());
        }
        let mut slots = Vec::new();
        self.intern(changes.rows(), &mut slots)?;
        if matches!(self.identity, Identity::WholeRow) {
            self.apply_counts(changes, &slots)
        } else {
            self.apply_by_key(changes, &slots)
        }
    }

    fn apply_counts(&mut self, changes: &ChangeBatch, slots: &[u32]) -> Result<()> {
        let (mut rows, mut owners) = (Vec::new(), Vec::new());
        let mut missing = 0;
        for (row, slot) in slots.iter().enumerate() {
            let old = self.counts.get(*slot);
            let new = old + changes.weight(row);
            self.counts.set(*slot, new);
            self.mark(*slot);
            match (old > 0, new > 0) {
                _ if new < 0 => missing += 1,
                (false, true) => {
                    rows.push(row as u32);
                    owners.push(*slot);
                }
                (true, false) => self.delete(*slot),
                (true, true) => self.segments.set_count(self.locations.get(*slot), new),
                (false, false) => {}
            }
        }
        if missing > 0 {
            return Err(missing_rows(missing));
        }
        self.insert(take_rows(changes.rows(), &UInt32Array::from(rows))?, owners.clone());
        for slot in owners {
            let count = self.counts.get(slot);
            if count != 1 {
                self.segments.set_count(self.locations.get(slot), count);
            }
        }
        Ok(())
    }

    fn apply_by_key(&mut self, changes: &ChangeBatch, slots: &[u32]) -> Result<()> {
        let mut missing = 0;
        for (row, slot) in slots.iter().enumerate() {
            let weight = changes.weight(row);
            if weight < 0 {
                if weight != -1 || self.location(*slot) == NO_ROW {
                    missing += 1;
                } else {
                    self.delete(*slot);
                }
            }
        }
        if missing > 0 {
            return Err(missing_rows(missing));
        }
        let (mut rows, mut owners) = (Vec::new(), Vec::new());
        let mut twice = 0;
        for (row, slot) in slots.iter().enumerate() {
            let weight = changes.weight(row);
            if weight > 0 {
                if weight != 1 || self.location(*slot) != NO_ROW {
                    twice += 1;
                }
                self.locations.set(*slot, 0);
                rows.push(row as u32);
                owners.push(*slot);
            }
        }
        if twice > 0 {
            return Err(Error::internal(format!("{twice} rows came whose key is there already")));
        }
        let rows = take_rows(changes.rows(), &UInt32Array::from(rows))?;
        self.insert(rows, owners);
        Ok(())
    }

    /// The slots of the rows' keys; a new key gets a slot without a row.
    pub(crate) fn intern(&mut self, rows: &RecordBatch, slots: &mut Vec<u32>) -> Result<()> {
        let columns: Vec<ArrayRef> =
            self.key_columns.iter().map(|column| Arc::clone(rows.column(*column))).collect();
        self.keys.intern(&columns, rows.num_rows(), slots)?;
        let count = self.keys.slot_count();
        self.locations.grow(count, NO_ROW);
        if self.identity == Identity::WholeRow {
            self.counts.grow(count, 0);
            self.counts.load(slots);
        }
        self.locations.load(slots);
        self.is_dirty.grow(count);
        Ok(())
    }

    /// Number of slots ever given.
    pub(crate) fn slot_count(&self) -> usize {
        self.keys.slot_count()
    }

    /// Where the row of a slot is, or [`NO_ROW`].
    pub(crate) fn location(&self, slot: u32) -> Location {
        self.locations.get(slot)
    }

    /// Rows at locations, also of rows deleted since the last [`Arrangement::maintain`].
    pub(crate) fn take(&self, places: &[Location]) -> Result<RecordBatch> {
        self.segments.take(places)
    }

    /// As [`Segments::equal_to`].
    pub(crate) fn equal_to(&self, places: &[Location], others: RowsAt<'_>) -> Result<Vec<u32>> {
        self.segments.equal_to(places, others)
    }

    /// As [`Segments::runs`].
    pub(crate) fn runs(
        &self,
        places: &[Location],
        more: impl FnMut(usize) -> usize,
    ) -> Vec<Range<usize>> {
        self.segments.runs(places, more)
    }

    /// One column of the rows at locations, as arrays and an array and row for each location.
    pub(crate) fn places_in_column(
        &self,
        places: &[Location],
        column: usize,
    ) -> (Vec<ArrayRef>, Vec<(usize, usize)>) {
        self.segments.places_in_column(places, column)
    }

    /// Deletes the row of a slot, which has one.
    pub(crate) fn delete(&mut self, slot: u32) {
        let place = self.locations.replace(slot, NO_ROW);
        self.segments.delete(place);
        self.mark(slot);
    }

    /// Forgets the key of a slot that has no row and had none at the last [`Arrangement::delta`].
    /// Slots of other deleted rows are freed there.
    pub(crate) fn release(&mut self, slot: u32) {
        if self.location(slot) == NO_ROW && !self.is_dirty.get(slot) {
            self.keys.remove(slot);
        }
    }

    /// Inserts rows of slots that have none.
    pub(crate) fn insert(&mut self, rows: RecordBatch, owners: Vec<u32>) {
        owners.iter().for_each(|slot| self.mark(*slot));
        self.segments.append(rows, owners, &mut self.locations);
    }

    fn mark(&mut self, slot: u32) {
        if !self.is_dirty.set(slot, true) {
            self.dirty.push(slot);
        }
    }

    /// Merges small segments and drops deleted rows; called once an epoch.
    ///
    /// # Errors
    /// Arrow kernels' only.
    pub fn maintain(&mut self) -> Result<()> {
        self.segments.maintain(&mut self.locations)
    }

    /// As [`Segments::move_cold`]; what is kept of each key is moved where rows are too few.
    ///
    /// # Errors
    /// As that.
    pub fn move_cold(
        &mut self,
        wanted: usize,
        least: usize,
        scratch: &Scratch,
    ) -> Result<MovedRows> {
        let mut moved = self.segments.move_cold(wanted, least, scratch)?;
        // Rows first: they are most of the bytes, and are looked up more rarely.
        let rest = |bytes: usize| wanted.saturating_sub(bytes);
        moved.bytes += self.keys.move_cold(rest(moved.bytes), scratch)?;
        moved.bytes += self.locations.move_cold(rest(moved.bytes), scratch)?;
        moved.bytes += self.counts.move_cold(rest(moved.bytes), scratch)?;
        Ok(moved)
    }

    /// Bytes in scratch files.
    pub fn cold_bytes(&self) -> usize {
        let columns = self.locations.cold_bytes() + self.counts.cold_bytes();
        self.segments.cold_bytes() + self.keys.cold_bytes() + columns
    }

    /// The live rows as they are now; O(segments).
    pub fn snapshot(&self) -> RowsSnapshot {
        self.segments.snapshot()
    }

    /// Memory in bytes.
    pub fn state_bytes(&self) -> usize {
        self.keys.state_bytes()
            + self.segments.state_bytes()
            + self.locations.state_bytes()
            + self.counts.state_bytes()
            + self.is_dirty.state_bytes()
            + self.dirty.capacity() * 4
    }

    /// The state table that holds the rows.
    pub fn state_table(&self) -> StateTable {
        if let Some(appended) = &self.appended {
            return appended.state_table();
        }
        let fields = self.schema.fields();
        let order = self.column_order();
        let mut stored: Vec<_> = order.iter().map(|column| Arc::clone(&fields[*column])).collect();
        if self.identity == Identity::WholeRow {
            stored.push(Arc::new(Field::new("__count", DataType::Int64, false)));
        }
        let schema = Arc::new(Schema::new(stored));
        StateTable { schema, key_columns: self.key_columns.len(), row_start: 0 }
    }

    /// Key columns, then the others.
    fn column_order(&self) -> Vec<usize> {
        let others = (0..self.schema.fields().len()).filter(|i| !self.key_columns.contains(i));
        self.key_columns.iter().copied().chain(others).collect()
    }

    /// Number of rows of the next [`Arrangement::delta`].
    pub fn changed_rows(&self) -> usize {
        self.dirty.len() + self.appended.as_ref().map_or(0, AppendedRows::changed_rows)
    }

    /// What changed since the last call, for state table `table`. Frees the slots of deleted rows.
    ///
    /// # Errors
    /// Arrow kernels' only.
    pub fn delta(&mut self, table: usize) -> Result<StateDelta> {
        if let Some(appended) = &mut self.appended {
            return appended.delta(table);
        }
        let state = self.state_table();
        let key_schema = Arc::new(state.key_schema());
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.iter().for_each(|slot| _ = self.is_dirty.set(*slot, false));
        let (mut put, mut gone) = (Vec::new(), Vec::new());
        for slot in dirty.drain(..) {
            let list = if self.location(slot) == NO_ROW { &mut gone } else { &mut put };
            list.push(slot);
        }
        let places: Vec<Location> = put.iter().map(|slot| self.location(*slot)).collect();
        let puts = self.segments.runs(&places, |_| 8).into_iter().map(|run| {
            let slots = &put[run.clone()];
            let rows = self.segments.take(&places[run])?;
            let columns = if self.identity == Identity::WholeRow {
                let counts = slots.iter().map(|slot| self.counts.get(*slot));
                let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(counts));
                [rows.columns(), &[counts]].concat()
            } else {
                self.column_order().iter().map(|column| Arc::clone(rows.column(*column))).collect()
            };
            Ok(RecordBatch::try_new(Arc::clone(&state.schema), columns)?)
        });
        let puts = puts.collect::<Result<Vec<_>>>()?;
        let deletes = self.keys.key_runs(&gone).map(|gone| {
            // The key of a table of a single row has no column to tell the number of rows.
            let options = RecordBatchOptions::new().with_row_count(Some(gone.len()));
            let keys = self.keys.keys(gone)?;
            Ok(RecordBatch::try_new_with_options(Arc::clone(&key_schema), keys, &options)?)
        });
        let deletes = deletes.collect::<Result<Vec<_>>>()?;
        gone.into_iter().for_each(|slot| self.keys.remove(slot));
        Ok(StateDelta { table, schema: state.schema, puts, deletes, delete_shards: None })
    }

    /// Takes stored rows of the state table.
    ///
    /// # Errors
    /// `Corrupt` if the rows do not have the table's columns.
    pub fn restore(&mut self, stored: &RecordBatch) -> Result<()> {
        check_columns(&self.state_table(), stored)?;
        let fields = self.schema.fields().len();
        let columns: Vec<ArrayRef> = match &self.identity {
            Identity::Key(_) => {
                let mut columns = stored.columns().to_vec();
                for (position, column) in self.column_order().into_iter().enumerate() {
                    columns[column] = Arc::clone(stored.column(position));
                }
                columns
            }
            Identity::WholeRow => stored.columns()[..fields].to_vec(),
            Identity::Appended { .. } => RowNumber::columns_of(stored).to_vec(),
        };
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        if matches!(self.identity, Identity::Appended { .. }) {
            self.segments.append(rows, Vec::new(), &mut self.locations);
            return self.maintain();
        }
        let changes = if self.identity == Identity::WholeRow {
            let counts = arrow::array::AsArray::as_primitive(stored.column(fields));
            ChangeBatch::try_new(rows, Int64Array::clone(counts))?
        } else {
            ChangeBatch::inserts(rows)
        };
        self.apply(&changes)?;
        self.dirty.drain(..).for_each(|slot| _ = self.is_dirty.set(slot, false));
        self.maintain()
    }
}

/// Refuses stored rows of other columns.
///
/// # Errors
/// `Corrupt`.
pub fn check_columns(table: &StateTable, stored: &RecordBatch) -> Result<()> {
    let found = stored.columns().iter().map(|column| column.data_type());
    if found.eq(table.schema.fields().iter().map(|field| field.data_type())) {
        return Ok(());
    }
    let message = "stored state does not have the columns that the operator wrote";
    Err(Error::new(ErrorKind::Corrupt, message).with_detail(format!(
        "stored {}, expected {}",
        stored.schema(),
        table.schema
    )))
}

fn missing_rows(count: usize) -> Error {
    Error::internal(format!("{count} rows were retracted that are not there"))
}
