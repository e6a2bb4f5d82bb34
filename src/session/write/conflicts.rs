//! [`beside_current`]: the rows that INSERT … ON CONFLICT proposes, beside those of their keys.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{filter_record_batch, interleave};
use datafusion::catalog::MemTable;

use crate::catalog::Relation;
use crate::error::Result;
use crate::job::RelationSnapshot;
use crate::session::query_error;
use crate::sql::conflicts_schema;
use crate::state::KeyTable;

/// A row of a batch: number of the batch, and of the row in it.
type Place = (usize, usize);

/// What is known of each proposed row of a batch.
#[derive(Default)]
struct Proposed {
    /// The table's row with its key.
    current: Vec<Option<Place>>,
    /// A row before it has its key.
    is_repeated: Vec<bool>,
    /// A row behind it has its key, which is of no account for DO NOTHING.
    again: Vec<bool>,
}

/// The table `sql::CONFLICTS`: of all proposed rows, or of those alone that DO NOTHING inserts.
///
/// # Errors
/// As [`RelationSnapshot::lookup`].
pub(super) async fn beside_current(
    proposed: &[RecordBatch],
    table: &Relation,
    rows: &RelationSnapshot,
    updates: bool,
) -> Result<MemTable> {
    let key = table.upsert_key.clone().unwrap_or_default();
    let key_of = |batch: &RecordBatch| -> Vec<ArrayRef> {
        key.iter().map(|column| Arc::clone(batch.column(*column))).collect()
    };
    let mut current = Vec::new();
    for batch in proposed {
        current.extend(rows.lookup(&key, &key_of(batch), None).await?);
    }
    let keys = |batches: &[RecordBatch]| batches.iter().map(key_of).collect::<Vec<_>>();
    let facts = facts(table, &key, &keys(proposed), &keys(&current), updates)?;
    let schema = conflicts_schema(table);
    let batches = proposed.iter().zip(facts).map(|(batch, facts)| {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(BooleanArray::from(facts.again))];
        columns.extend(batch.columns().iter().map(Arc::clone));
        for (index, column) in batch.columns().iter().enumerate() {
            let null = new_null_array(column.data_type(), 1);
            let arrays = current.iter().map(|batch| batch.column(index).as_ref());
            let arrays: Vec<&dyn Array> = arrays.chain([null.as_ref()]).collect();
            let places = facts.current.iter().map(|place| place.unwrap_or((current.len(), 0)));
            columns.push(interleave(&arrays, &places.collect::<Vec<_>>())?);
        }
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        if updates {
            return Ok(rows);
        }
        let inserted = facts.current.iter().zip(&facts.is_repeated);
        let inserted = inserted.map(|(current, is_repeated)| current.is_none() && !is_repeated);
        Ok(filter_record_batch(&rows, &BooleanArray::from_iter(inserted.map(Some)))?)
    });
    let batches = batches.collect::<Result<Vec<_>>>()?;
    MemTable::try_new(schema, vec![batches]).map_err(query_error)
}

/// What is known of the rows of proposed batches, whose keys are compared as the table compares
/// them.
fn facts(
    table: &Relation,
    key: &[usize],
    proposed: &[Vec<ArrayRef>],
    current: &[Vec<ArrayRef>],
    updates: bool,
) -> Result<Vec<Proposed>> {
    let types = key.iter().map(|column| table.schema.field(*column).data_type().clone());
    let mut keys = KeyTable::try_new(&types.collect::<Vec<_>>())?;
    let mut slots = Vec::new();
    let mut in_table: Vec<Option<Place>> = Vec::new();
    for (batch, columns) in current.iter().enumerate() {
        keys.intern(columns, columns.first().map_or(0, |it| it.len()), &mut slots)?;
        in_table.resize(keys.slot_count(), None);
        for (row, slot) in slots.iter().enumerate() {
            in_table[*slot as usize] = Some((batch, row));
        }
    }
    let mut facts: Vec<Proposed> = Vec::with_capacity(proposed.len());
    let mut last: Vec<Option<Place>> = Vec::new();
    for (batch, columns) in proposed.iter().enumerate() {
        let count = columns.first().map_or(0, |it| it.len());
        keys.intern(columns, count, &mut slots)?;
        in_table.resize(keys.slot_count(), None);
        last.resize(keys.slot_count(), None);
        facts.push(Proposed { again: vec![false; count], ..Proposed::default() });
        for (row, slot) in slots.iter().enumerate() {
            let before = last[*slot as usize].replace((batch, row));
            if let Some((batch, row)) = before.filter(|_| updates) {
                facts[batch].again[row] = true;
            }
            facts[batch].current.push(in_table[*slot as usize]);
            facts[batch].is_repeated.push(before.is_some());
        }
    }
    Ok(facts)
}
