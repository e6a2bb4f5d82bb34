//! [`StateTable`] and [`StateDelta`]: what an operator keeps, and what changed in it.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use crate::change::batch_bytes;

/// A keyed table of an operator's durable state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateTable {
    /// All columns; the first `key_columns` of them are the key, which is unique.
    pub schema: SchemaRef,
    /// Number of leading key columns; 0 for a table of a single row.
    pub key_columns: usize,
    /// The column where the rows as they came begin; rows without a key have their numbers before.
    pub row_start: usize,
}

impl StateTable {
    /// The key's columns.
    pub fn key_schema(&self) -> Schema {
        Schema::new(self.schema.fields()[..self.key_columns].to_vec())
    }
}

/// The keys of one state table that changed since the last checkpoint.
///
/// Law: applying the deltas of all checkpoints in order gives the table. A key is in `puts` or in
/// `deletes`, never in both, and once.
#[derive(Debug, Clone)]
pub struct StateDelta {
    /// Index in [`Operator::state_tables`](crate::dataflow::operators::Operator::state_tables).
    pub table: usize,
    /// All columns of the table.
    pub schema: SchemaRef,
    /// New or changed rows, all columns; in several batches where they are large.
    pub puts: Vec<RecordBatch>,
    /// Keys that went: the key columns only; in several batches where they are large.
    pub deletes: Vec<RecordBatch>,
    /// Shards of the keys that went, of all batches, if the key does not tell them.
    pub delete_shards: Option<Vec<u8>>,
}

impl StateDelta {
    /// Memory in bytes.
    pub fn bytes(&self) -> usize {
        let shards = self.delete_shards.as_ref().map_or(0, Vec::len);
        self.puts.iter().chain(&self.deletes).map(batch_bytes).sum::<usize>() + shards
    }

    /// Number of keys that changed.
    pub fn row_count(&self) -> usize {
        self.puts.iter().chain(&self.deletes).map(RecordBatch::num_rows).sum()
    }
}
