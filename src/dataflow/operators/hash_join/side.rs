//! [`Side`]: the rows of one input of a join, chained by key.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::physical_plan::PhysicalExpr;

use super::distinct_rows::{DistinctRows, Kept};
use super::lists::Lists;
use crate::change::{ChangeBatch, take_rows};
use crate::error::Result;
use crate::state::{
    AppendedRows, Location, NO_ROW, Segments, StateDelta, StateTable, append_indices, check_columns,
};

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
    lists: Lists,
    locations: Vec<Location>,
    segments: Segments,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Appended(AppendedRows),
    Retracting(Box<DistinctRows>),
}

impl Side {
    /// An empty side; with a writer it is append-only.
    pub(super) fn try_new(
        schema: SchemaRef,
        key_exprs: Vec<Arc<dyn PhysicalExpr>>,
        writer: Option<u64>,
    ) -> Result<Self> {
        let kind = match writer {
            Some(writer) => Kind::Appended(AppendedRows::new(Arc::clone(&schema), writer)),
            None => {
                let fields = schema.fields().iter().map(|field| field.data_type().clone());
                // Also a state table's key.
                RowConverter::new(fields.map(SortField::new).collect())?;
                Kind::Retracting(Box::new(DistinctRows::new(Arc::clone(&schema))))
            }
        };
        Ok(Self {
            segments: Segments::new(Arc::clone(&schema)),
            schema,
            key_exprs,
            lists: Lists::new(matches!(kind, Kind::Retracting(_))),
            locations: Vec::new(),
            kind,
        })
    }

    pub(super) fn is_append_only(&self) -> bool {
        matches!(self.kind, Kind::Appended(_))
    }

    /// Whether the weight of every row that is there is 1.
    pub(super) fn is_set(&self) -> bool {
        match &self.kind {
            Kind::Appended(_) => true,
            Kind::Retracting(state) => state.is_set(),
        }
    }

    pub(super) fn resize_keys(&mut self, slot_count: usize) {
        self.lists.resize_keys(slot_count);
    }

    pub(super) fn entry_count(&self) -> usize {
        self.lists.entry_count()
    }

    /// First entry of a key, or [`NO_SLOT`].
    #[inline]
    pub(super) fn head(&self, slot: u32) -> u32 {
        self.lists.head(slot)
    }

    /// The entry after another of its key, or [`NO_SLOT`].
    #[inline]
    pub(super) fn next(&self, entry: u32) -> u32 {
        self.lists.next(entry)
    }

    /// Weight of an entry.
    #[inline]
    pub(super) fn weight(&self, entry: u32) -> i64 {
        match &self.kind {
            Kind::Appended(_) => 1,
            Kind::Retracting(state) => state.weight(entry),
        }
    }

    /// Entries that have a row.
    pub(super) fn live_entries(&self) -> Vec<u32> {
        (0..self.lists.entry_count() as u32).filter(|entry| self.weight(*entry) != 0).collect()
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
            Kind::Appended(appended) => {
                appended.push(changes.rows().clone());
                let first = self.lists.entry_count() as u32;
                entries.extend(first..first + slots.len() as u32);
                is_fresh.resize(slots.len(), true);
                self.lists.resize_entries(self.lists.entry_count() + slots.len());
                self.lists.link(entries, slots.iter().copied());
                self.locations.resize(self.lists.entry_count(), NO_ROW);
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
        let (columns, row_count) = (changes.rows().columns(), changes.num_rows());
        let kept = Kept { segments: &self.segments, locations: &self.locations };
        state.intern(columns, row_count, kept, entries)?;
        self.lists.resize_entries(state.entry_count());
        self.locations.resize(state.entry_count(), NO_ROW);
        let weights = changes.weights().map(|weights| weights.values().as_ref());
        let moves = state.add(weights, slots, entries, &mut self.lists, &self.locations);
        for entry in moves.gone {
            self.segments.delete(self.locations[entry as usize]);
        }
        is_fresh.resize(row_count, false);
        let (rows, owners) = moves.come;
        rows.iter().for_each(|row| is_fresh[*row as usize] = true);
        let rows = if rows.len() == changes.num_rows() {
            changes.rows().clone()
        } else {
            take_rows(changes.rows(), &UInt32Array::from(rows))?
        };
        self.segments.append(rows, owners, &mut self.locations);
        Ok(())
    }

    /// Merges small segments and drops deleted rows; called once an epoch.
    pub(super) fn maintain(&mut self) -> Result<()> {
        if let Kind::Retracting(state) = &mut self.kind {
            state.bury(&self.segments, &mut self.locations)?;
        }
        self.segments.maintain(&mut self.locations)
    }

    pub(super) fn state_table(&self) -> StateTable {
        if let Kind::Appended(appended) = &self.kind {
            return appended.state_table();
        }
        let fields = self.schema.fields();
        let weight = Arc::new(Field::new("__weight", DataType::Int64, false));
        let schema = Arc::new(Schema::new([fields.to_vec(), vec![weight]].concat()));
        StateTable { schema, key_columns: fields.len(), row_start: 0 }
    }

    /// What changed since the last call; adds the keys of entries that went to `idle_keys`.
    pub(super) fn delta(&mut self, table: usize, idle_keys: &mut Vec<u32>) -> Result<StateDelta> {
        let layout = self.state_table();
        let state = match &mut self.kind {
            Kind::Appended(appended) => return appended.delta(table),
            Kind::Retracting(state) => state,
        };
        let put = state.take_changed()?;
        let places: Vec<Location> =
            put.iter().map(|entry| self.locations[*entry as usize]).collect();
        let mut columns = self.segments.take_columns(&places)?;
        let weights = put.iter().map(|entry| state.weight(*entry));
        columns.push(Arc::new(Int64Array::from_iter_values(weights)));
        let puts = RecordBatch::try_new(layout.schema, columns)?;
        let deletes = state.take_buried(&mut self.locations, idle_keys)?;
        Ok(StateDelta { table, puts, deletes })
    }

    /// Stored rows as changes.
    pub(super) fn restored(&self, stored: RecordBatch) -> Result<ChangeBatch> {
        check_columns(&self.state_table(), &stored)?;
        let columns = self.schema.fields().len();
        // A join on constants needs no column of a side, only how many rows there are.
        let options = RecordBatchOptions::new().with_row_count(Some(stored.num_rows()));
        let rows = |columns: &[ArrayRef]| {
            let schema = Arc::clone(&self.schema);
            RecordBatch::try_new_with_options(schema, columns.to_vec(), &options)
        };
        if self.is_append_only() {
            return Ok(ChangeBatch::inserts(rows(AppendedRows::columns_of(&stored))?));
        }
        let rows = rows(&stored.columns()[..columns])?;
        let weights = stored.column(columns).as_primitive::<Int64Type>().clone();
        Ok(ChangeBatch::try_new(rows, weights)?)
    }

    /// What is there now is durable.
    pub(super) fn forget_changes(&mut self) {
        match &mut self.kind {
            Kind::Appended(appended) => appended.forget(),
            Kind::Retracting(state) => state.forget_changes(),
        }
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.lists.state_bytes()
            + self.locations.capacity() * 8
            + self.segments.state_bytes()
            + match &self.kind {
                Kind::Appended(_) => 0,
                Kind::Retracting(state) => state.state_bytes(),
            }
    }
}

/// Rows of an append-only input with weights above 1, each row so many times.
pub(super) fn expand(
    changes: ChangeBatch,
    keys: &[ArrayRef],
) -> Result<(ChangeBatch, Vec<ArrayRef>)> {
    let indices = append_indices(&changes)?;
    let keys = keys
        .iter()
        .map(|key| take(key, &indices, None))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    Ok((ChangeBatch::inserts(take_rows(changes.rows(), &indices)?), keys))
}
