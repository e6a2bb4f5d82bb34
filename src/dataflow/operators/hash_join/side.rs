//! [`Side`]: the rows of one input of a join, chained by key.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::physical_plan::PhysicalExpr;

use super::lists::Lists;
use super::weighted_rows::{KeptRows, Sought, WeightedRows};
use super::{InputKind, JoinInput};
use crate::change::{ChangeBatch, consolidate, hash_rows, shard_of, take_rows};
use crate::env::Scratch;
use crate::error::Result;
use crate::state::{
    AppendedRows, KeyTable, Location, MovedRows, NO_ROW, NO_SLOT, RowNumber, Segments, SlotColumn,
    StateDelta, StateTable, append_indices, check_columns,
};

/// Rows of one input: an entry a row, in a list with the entries of the same key.
///
/// A retracting input has an entry a distinct row, with its weight; an append-only one an entry
/// for every row that came.
///
/// **Invariant:** an entry is in its key's list iff its weight is not 0.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) schema: SchemaRef,
    pub(super) key_exprs: Vec<Arc<dyn PhysicalExpr>>,
    lists: Lists,
    locations: SlotColumn<Location>,
    segments: Segments,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Appended(AppendedRows),
    Weighted(Box<WeightedRows>),
}

/// What a batch did to entries.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// By row: the entry that it brought, or [`NO_SLOT`] if it was added to others.
    pub(super) brought: Vec<u32>,
    /// Entries that rows were added to.
    pub(super) touched: Vec<u32>,
}

impl Side {
    /// An empty side.
    pub(super) fn try_new(input: JoinInput, writer: u64) -> Result<Self> {
        let JoinInput { schema, keys, kind } = input;
        let kind = match kind {
            InputKind::AppendOnly => Kind::Appended(AppendedRows::new(Arc::clone(&schema), writer)),
            InputKind::Unique | InputKind::Retracting => {
                // Rows are hashed by it.
                let fields = schema.fields().iter().map(|field| field.data_type().clone());
                RowConverter::new(fields.map(SortField::new).collect())?;
                let is_unique = kind == InputKind::Unique;
                Kind::Weighted(Box::new(WeightedRows::new(writer, is_unique)))
            }
        };
        Ok(Self {
            segments: Segments::new(Arc::clone(&schema)),
            schema,
            key_exprs: keys,
            lists: Lists::new(matches!(kind, Kind::Weighted(_))),
            locations: SlotColumn::default(),
            kind,
        })
    }

    /// Changes in the form that [`Side::add`] takes: rows of an append-only input as often as they
    /// came, distinct rows of one that may have several alike.
    pub(super) fn prepared(&self, changes: ChangeBatch) -> Result<ChangeBatch> {
        match &self.kind {
            Kind::Appended(_) if changes.weights().is_some() => {
                let indices = append_indices(&changes)?;
                Ok(ChangeBatch::inserts(take_rows(changes.rows(), &indices)?))
            }
            Kind::Weighted(rows) if !rows.is_unique() => {
                consolidate(changes.rows().schema(), vec![changes])
            }
            _ => Ok(changes),
        }
    }

    /// Whether the weight of every row that is there is 1.
    pub(super) fn is_set(&self) -> bool {
        match &self.kind {
            Kind::Appended(_) => true,
            Kind::Weighted(rows) => rows.is_set(),
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
            Kind::Weighted(rows) => rows.weight(entry),
        }
    }

    /// Entries that have a row.
    pub(super) fn live_entries(&self) -> Vec<u32> {
        match &self.kind {
            Kind::Appended(_) => (0..self.lists.entry_count() as u32).collect(),
            Kind::Weighted(rows) => rows.live_entries(),
        }
    }

    fn places_of(&self, entries: &[u32]) -> Vec<Location> {
        entries.iter().map(|entry| self.locations.get(*entry)).collect()
    }

    /// Runs of entries whose rows, with `more` bytes for each, are of bounded size.
    pub(super) fn runs(
        &self,
        entries: &[u32],
        more: impl FnMut(usize) -> usize,
    ) -> Vec<Range<usize>> {
        self.segments.runs(&self.places_of(entries), more)
    }

    /// Columns of entries; also of those that went since the last [`Side::maintain`].
    pub(super) fn rows_of(&self, entries: &[u32]) -> Result<Vec<ArrayRef>> {
        self.segments.take_columns(&self.places_of(entries))
    }

    /// Rows of entries.
    pub(super) fn batch_of(&self, entries: &[u32]) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(entries.len()));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(schema, self.rows_of(entries)?, &options)?)
    }

    /// Takes changes with the slots of their keys.
    pub(super) fn add(&mut self, changes: &ChangeBatch, slots: &[u32]) -> Result<Added> {
        let rows = changes.rows();
        let Kind::Weighted(weighted) = &self.kind else {
            return Ok(Added { brought: self.append(rows.clone(), slots), touched: Vec::new() });
        };
        let is_unique = weighted.is_unique();
        let hashes = hash_rows(rows.columns(), rows.num_rows())?;
        let mut weights: Vec<i64> = (0..rows.num_rows()).map(|row| changes.weight(row)).collect();
        let mut brought = vec![NO_SLOT; rows.num_rows()];
        if is_unique {
            self.bring(rows, &hashes, slots, &mut weights, |weight| weight > 0, &mut brought)?;
        }
        let rest: Vec<u32> =
            (0..rows.num_rows() as u32).filter(|row| weights[*row as usize] != 0).collect();
        if rest.is_empty() {
            return Ok(Added { brought, touched: Vec::new() });
        }
        let columns = rows.columns();
        let sought = Sought { columns, hashes: &hashes, weights: &mut weights };
        let touched = self.add_to_entries(sought, &rest)?;
        self.bring(rows, &hashes, slots, &mut weights, |weight| weight != 0, &mut brought)?;
        Ok(Added { brought, touched })
    }

    /// Gives every row an entry.
    fn append(&mut self, rows: RecordBatch, slots: &[u32]) -> Vec<u32> {
        if let Kind::Appended(appended) = &mut self.kind {
            appended.push(rows.clone());
        }
        let first = self.lists.entry_count() as u32;
        let entries: Vec<u32> = (first..first + slots.len() as u32).collect();
        self.place(rows, &entries, slots);
        entries
    }

    /// Puts rows of new entries where they can be found.
    fn place(&mut self, rows: RecordBatch, entries: &[u32], slots: &[u32]) {
        let count = match &self.kind {
            Kind::Appended(_) => self.lists.entry_count() + entries.len(),
            Kind::Weighted(rows) => rows.entry_count(),
        };
        self.lists.resize_entries(count);
        self.lists.link(entries, slots.iter().copied());
        self.locations.grow(count, NO_ROW);
        self.segments.append(rows, entries.to_vec(), &mut self.locations);
    }

    /// Gives the rows of some weights an entry each, and takes their weights.
    fn bring(
        &mut self,
        rows: &RecordBatch,
        hashes: &[u64],
        slots: &[u32],
        weights: &mut [i64],
        is_wanted: impl Fn(i64) -> bool,
        brought: &mut [u32],
    ) -> Result<()> {
        let Kind::Weighted(weighted) = &mut self.kind else { return Ok(()) };
        let wanted: Vec<u32> =
            (0..weights.len() as u32).filter(|row| is_wanted(weights[*row as usize])).collect();
        let mut entries = Vec::with_capacity(wanted.len());
        if wanted.len() == weights.len() {
            weighted.bring(hashes, slots, weights, &mut entries);
            self.place(rows.clone(), &entries, slots);
        } else if !wanted.is_empty() {
            let rows = take_rows(rows, &UInt32Array::from(wanted.clone()))?;
            let wanted = wanted.iter().map(|row| *row as usize);
            let hashes: Vec<u64> = wanted.clone().map(|row| hashes[row]).collect();
            let slots: Vec<u32> = wanted.clone().map(|row| slots[row]).collect();
            let weights: Vec<i64> = wanted.map(|row| weights[row]).collect();
            weighted.bring(&hashes, &slots, &weights, &mut entries);
            self.place(rows, &entries, &slots);
        }
        for (row, entry) in wanted.into_iter().zip(entries) {
            brought[row as usize] = entry;
            weights[row as usize] = 0;
        }
        Ok(())
    }

    /// Adds weights to the entries of equal rows and removes those that come to 0; gives them all.
    fn add_to_entries(&mut self, mut sought: Sought<'_>, rows: &[u32]) -> Result<Vec<u32>> {
        let Kind::Weighted(weighted) = &mut self.kind else { return Ok(Vec::new()) };
        let kept = KeptRows { segments: &self.segments, locations: &self.locations };
        let touched = weighted.add(&mut sought, rows, kept)?;
        self.remove_empty(&touched);
        Ok(touched)
    }

    fn remove_empty(&mut self, entries: &[u32]) {
        let Kind::Weighted(weighted) = &mut self.kind else { return };
        for entry in entries.iter().copied() {
            if weighted.weight(entry) != 0 {
                continue;
            }
            self.lists.unlink(entry, weighted.remove(entry));
            self.segments.delete(self.locations.get(entry));
        }
    }

    /// Brings retractions together with the rows that came after them; called at an epoch's end.
    /// Gives the entries that this touched.
    pub(super) fn settle(&mut self) -> Result<Vec<u32>> {
        let Kind::Weighted(weighted) = &mut self.kind else { return Ok(Vec::new()) };
        let (unmatched, hashes, mut weights) = weighted.take_unmatched();
        if unmatched.is_empty() {
            return Ok(Vec::new());
        }
        let mut touched = Vec::new();
        for run in self.runs(&unmatched, |_| 0) {
            let columns = self.rows_of(&unmatched[run.clone()])?;
            let rows: Vec<u32> = (0..run.len() as u32).collect();
            let (hashes, weights) = (&hashes[run.clone()], &mut weights[run]);
            touched
                .extend(self.add_to_entries(Sought { columns: &columns, hashes, weights }, &rows)?);
        }
        if let Kind::Weighted(weighted) = &mut self.kind {
            let settled = weighted.settle(unmatched, &weights);
            self.remove_empty(&settled);
            touched.extend(settled);
        }
        Ok(touched)
    }

    /// Merges small segments and drops deleted rows; called once an epoch.
    pub(super) fn maintain(&mut self) -> Result<()> {
        self.segments.maintain(&mut self.locations)?;
        if let Kind::Weighted(weighted) = &mut self.kind {
            for entry in weighted.free_removed() {
                self.locations.set(*entry, NO_ROW);
            }
        }
        Ok(())
    }

    pub(super) fn state_table(&self) -> StateTable {
        if let Kind::Appended(appended) = &self.kind {
            return appended.state_table();
        }
        let weight = Arc::new(Field::new("__weight", DataType::Int64, false));
        RowNumber::table(&[self.schema.fields().to_vec(), vec![weight]].concat())
    }

    /// About the number of rows of the next [`Side::delta`].
    pub(super) fn changed_rows(&self) -> usize {
        match &self.kind {
            Kind::Appended(appended) => appended.changed_rows(),
            Kind::Weighted(weighted) => weighted.changed_rows(),
        }
    }

    /// What changed since the last call; adds the keys of entries that went to `idle_keys`. `keys`
    /// are those of both sides.
    pub(super) fn delta(
        &mut self,
        table: usize,
        keys: &KeyTable,
        idle_keys: &mut Vec<u32>,
    ) -> Result<StateDelta> {
        let layout = self.state_table();
        let weighted = match &mut self.kind {
            Kind::Appended(appended) => return appended.delta(table),
            Kind::Weighted(weighted) => weighted,
        };
        let put = weighted.take_changed()?;
        let deleted = weighted.take_deleted(idle_keys);
        // A number does not tell the key, by which rows are spread.
        let mut delete_shards = Vec::with_capacity(deleted.keys.len());
        for run in keys.key_runs(&deleted.keys) {
            delete_shards.extend(hash_rows(&keys.keys(run)?, run.len())?.into_iter().map(shard_of));
        }
        let deleted = RowNumber::columns(deleted.numbers.into_iter());
        let deletes = vec![RecordBatch::try_new(Arc::new(layout.key_schema()), deleted)?];
        let mut puts = Vec::new();
        for run in self.runs(&put, |_| 24) {
            let put = &put[run];
            let Kind::Weighted(weighted) = &self.kind else { break };
            let weights = put.iter().map(|entry| weighted.weight(*entry));
            let weights: ArrayRef = Arc::new(Int64Array::from_iter_values(weights));
            let mut columns = RowNumber::columns(put.iter().map(|entry| weighted.number(*entry)));
            columns.extend(self.rows_of(put)?);
            columns.push(weights);
            puts.push(RecordBatch::try_new(Arc::clone(&layout.schema), columns)?);
        }
        let (schema, delete_shards) = (layout.schema, Some(delete_shards));
        Ok(StateDelta { table, schema, puts, deletes, delete_shards })
    }

    /// The rows of stored ones.
    pub(super) fn stored_rows(&self, stored: &RecordBatch) -> Result<RecordBatch> {
        check_columns(&self.state_table(), stored)?;
        let columns = RowNumber::columns_of(stored)[..self.schema.fields().len()].to_vec();
        // A join on constants needs no column of a side, only how many rows there are.
        let options = RecordBatchOptions::new().with_row_count(Some(stored.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    /// Takes stored rows, which are durable, with the slots of their keys.
    pub(super) fn restore(
        &mut self,
        stored: &RecordBatch,
        rows: RecordBatch,
        slots: &[u32],
    ) -> Result<()> {
        let Kind::Weighted(weighted) = &mut self.kind else {
            self.append(rows, slots);
            if let Kind::Appended(appended) = &mut self.kind {
                appended.forget();
            }
            return Ok(());
        };
        let weights = stored.column(stored.num_columns() - 1).as_primitive::<Int64Type>();
        let hashes = hash_rows(rows.columns(), rows.num_rows())?;
        let mut entries = Vec::with_capacity(rows.num_rows());
        weighted.bring(&hashes, slots, weights.values(), &mut entries);
        weighted.restored(&entries, &RowNumber::of(stored));
        self.place(rows, &entries, slots);
        Ok(())
    }

    pub(super) fn move_cold(
        &mut self,
        wanted: usize,
        least: usize,
        to: &Scratch,
    ) -> Result<MovedRows> {
        let mut moved = self.segments.move_cold(wanted, least, to)?;
        let rest = |bytes: usize| wanted.saturating_sub(bytes);
        if let Kind::Weighted(weighted) = &mut self.kind {
            moved.bytes += weighted.move_cold(rest(moved.bytes), to)?;
        }
        moved.bytes += self.lists.move_cold(rest(moved.bytes), to)?;
        moved.bytes += self.locations.move_cold(rest(moved.bytes), to)?;
        Ok(moved)
    }

    pub(super) fn cold_bytes(&self) -> usize {
        let entries = match &self.kind {
            Kind::Appended(_) => 0,
            Kind::Weighted(weighted) => weighted.cold_bytes(),
        };
        let columns = self.lists.cold_bytes() + self.locations.cold_bytes();
        self.segments.cold_bytes() + columns + entries
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.lists.state_bytes()
            + self.locations.state_bytes()
            + self.segments.state_bytes()
            + match &self.kind {
                Kind::Appended(_) => 0,
                Kind::Weighted(weighted) => weighted.state_bytes(),
            }
    }
}
