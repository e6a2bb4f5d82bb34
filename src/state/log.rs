//! Segments: rows of state tables as Arrow IPC on the object store, and what their rows mean.
//!
//! ```text
//! stored row = columns of the table.., $shard, $deleted
//! ```

use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt8Array,
};
use arrow::compute::{concat_batches, filter_record_batch, not};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type};
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{KeyTable, StateTable};
use crate::catalog::RelationId;
use crate::change::{ShardRange, batch_bytes, runs_by_bytes};
use crate::error::{Error, ErrorKind, Result};

const SHARD: &str = "$shard";
const DELETED: &str = "$deleted";

/// What a checkpoint knows a stateful operator by: a digest of what the operator computes, so that
/// state is never given to an operator that means something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperatorId(pub Uuid);

/// Where a piece of a state table lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    /// Fragment.
    pub relation: RelationId,
    /// Operator in it.
    pub operator: OperatorId,
    /// State table of the operator.
    pub table: usize,
    /// Shards that its rows are in.
    pub shards: ShardRange,
    /// Number of key columns, so that segments can be merged without their operator.
    pub key_columns: usize,
    /// Path on the object store.
    pub object: String,
    /// First byte in the object.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// Bytes of these, at their end, that tell where its blocks are; 0: it is one block.
    pub directory: u64,
    /// Rows, tombstones included.
    pub rows: u64,
    /// CRC-32 of the directory, or of the one block; an earlier version wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc: Option<u32>,
}

/// Segments, and the bytes that they lie in if these are few.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StoredSegments {
    /// The segments.
    pub segments: Vec<SegmentRef>,
    /// Their bytes, if they have no object yet: they are to lie in that of the manifest that is the
    /// first to name them, so that a checkpoint of few rows is one object.
    pub body: Option<Vec<u8>>,
}

/// Bytes of rows from which they are compressed: a compressor's own buffers cost more than a few
/// rows do, and a single INSERT is a few rows.
const PACKED_BYTES_MIN: usize = 4 << 10;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// For what is soon merged: a quarter of the time of the other (LZ4).
    Fast,
    /// For what stays (Zstandard).
    Small,
}

/// Appends batches of one schema as an IPC stream; returns its place as (offset, length).
///
/// # Errors
/// Arrow's, and `Internal` without a batch.
pub fn append_batches(
    object: &mut Vec<u8>,
    batches: &[RecordBatch],
    packing: Packing,
) -> Result<(u64, u64)> {
    let offset = object.len() as u64;
    let bytes: usize = batches.iter().map(batch_bytes).sum();
    let compression = match packing {
        _ if bytes < PACKED_BYTES_MIN => None,
        Packing::Fast => Some(CompressionType::LZ4_FRAME),
        Packing::Small => Some(CompressionType::ZSTD),
    };
    let options = IpcWriteOptions::default().try_with_compression(compression)?;
    let first = batches.first().ok_or_else(|| Error::internal("a segment without a batch"))?;
    let mut writer = StreamWriter::try_new_with_options(&mut *object, &first.schema(), options)?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    drop(writer);
    Ok((offset, object.len() as u64 - offset))
}

/// The schema of a table's stored rows.
pub(super) fn stored_schema(schema: &SchemaRef) -> SchemaRef {
    let stored = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
    let mut fields: Vec<Field> = schema.fields().iter().map(stored).collect();
    fields.push(Field::new(SHARD, DataType::UInt8, false));
    fields.push(Field::new(DELETED, DataType::Boolean, false));
    Arc::new(Schema::new(fields))
}

/// Reads one IPC stream.
///
/// # Errors
/// `Corrupt`.
pub fn read_batches(bytes: &[u8]) -> Result<Vec<RecordBatch>> {
    let read = || StreamReader::try_new(Cursor::new(bytes), None)?.collect();
    let batches: std::result::Result<_, arrow::error::ArrowError> = read();
    batches.map_err(|error| corrupt("stored rows cannot be decoded").with_detail(error.to_string()))
}

/// Stored rows that are live with the columns and nullability of the state table, put together.
///
/// # Errors
/// `Corrupt` if they do not have the table's columns.
pub fn table_rows(table: &StateTable, stored: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let width = table.schema.fields().len();
    let of_table = |run: Range<usize>| {
        let stored = &stored[run];
        if stored.iter().any(|batch| batch.num_columns() != width + 2) {
            return Err(corrupt("a segment has other columns than its operator"));
        }
        let whole = concat_batches(&stored[0].schema(), stored)?;
        let columns = whole.columns()[..width].to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(whole.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&table.schema), columns, &options)?)
    };
    let runs = runs_by_bytes(stored.len(), |at| batch_bytes(&stored[at]));
    runs.into_iter().map(of_table).collect()
}

/// Keeps the newest row of each key; `segments` are oldest first. Tombstones go if the oldest
/// segment of the table is among them (`drop_tombstones`). Keys of one segment are unique
/// (`is_one_segment`).
///
/// Law: reading the result in the place of `segments` gives the same table.
///
/// # Errors
/// Arrow's only.
pub(super) fn merge(
    key_columns: usize,
    segments: &[RecordBatch],
    is_one_segment: bool,
    drop_tombstones: bool,
) -> Result<Vec<RecordBatch>> {
    let mut kept = Vec::with_capacity(segments.len());
    let mut seen = match segments {
        _ if is_one_segment => None,
        [] | [_] => None,
        [first, ..] => Some(SeenKeys::try_new(&first.columns()[..key_columns])?),
    };
    for batch in segments.iter().rev() {
        let deleted = deleted_column(batch)?;
        let columns = &batch.columns()[..key_columns];
        let newest =
            seen.as_mut().map(|seen| seen.unseen(columns, batch.num_rows())).transpose()?;
        let mask = match (newest, drop_tombstones) {
            (None, false) => None,
            (None, true) => Some(not(deleted)?),
            (Some(newest), false) => Some(newest),
            (Some(newest), true) => Some(arrow::compute::and(&newest, &not(deleted)?)?),
        };
        kept.push(match mask {
            Some(mask) => filter_record_batch(batch, &mask)?,
            None => batch.clone(),
        });
    }
    kept.retain(|batch| batch.num_rows() > 0);
    kept.reverse();
    Ok(kept)
}

fn deleted_column(batch: &RecordBatch) -> Result<&BooleanArray> {
    // A column of the table may have its name.
    let column = batch.columns().last().and_then(|column| column.as_boolean_opt());
    column.ok_or_else(|| corrupt("a segment has no tombstone column"))
}

/// The shards of stored rows.
///
/// # Errors
/// `Corrupt` if they have none.
pub(super) fn shard_column(batch: &RecordBatch) -> Result<&UInt8Array> {
    let place = batch.num_columns().checked_sub(2);
    let column = place.and_then(|place| batch.column(place).as_primitive_opt::<UInt8Type>());
    column.ok_or_else(|| corrupt("a segment has no shard column"))
}

/// The keys that newer segments had.
struct SeenKeys {
    keys: KeyTable,
    /// By slot.
    seen: Vec<bool>,
    slots: Vec<u32>,
}

impl SeenKeys {
    fn try_new(columns: &[ArrayRef]) -> Result<Self> {
        let types: Vec<DataType> = columns.iter().map(|key| key.data_type().clone()).collect();
        Ok(Self { keys: KeyTable::try_new(&types)?, seen: Vec::new(), slots: Vec::new() })
    }

    /// Marks the rows whose key no newer segment had, and remembers their keys.
    fn unseen(&mut self, columns: &[ArrayRef], row_count: usize) -> Result<BooleanArray> {
        self.keys.intern(columns, row_count, &mut self.slots)?;
        self.seen.resize(self.keys.slot_count(), false);
        let fresh = |slot: &u32| !std::mem::replace(&mut self.seen[*slot as usize], true);
        let fresh: Vec<bool> = self.slots.iter().map(fresh).collect();
        Ok(BooleanArray::from(fresh))
    }
}

pub(super) fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    fn table() -> StateTable {
        let schema = Schema::new(vec![
            Field::new("k", DataType::Int64, false),
            Field::new("v", DataType::Utf8, true),
        ]);
        StateTable { schema: Arc::new(schema), key_columns: 1, row_start: 0 }
    }

    fn delta(puts: &[(i64, &str)], deletes: &[i64]) -> RecordBatch {
        let puts = puts.iter().map(|(key, value)| (*key, Some(*value), false));
        let rows = puts.chain(deletes.iter().map(|key| (*key, None, true)));
        let rows: Vec<(i64, Option<&str>, bool)> = rows.collect();
        let keys = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
        let values = StringArray::from_iter(rows.iter().map(|row| row.1));
        let shards = UInt8Array::from_iter_values(rows.iter().map(|row| row.0 as u8));
        let deleted = BooleanArray::from(rows.iter().map(|row| row.2).collect::<Vec<_>>());
        let columns: Vec<ArrayRef> =
            vec![Arc::new(keys), Arc::new(values), Arc::new(shards), Arc::new(deleted)];
        RecordBatch::try_new(stored_schema(&table().schema), columns).unwrap()
    }

    fn live(segments: &[RecordBatch]) -> Vec<String> {
        rows(&table_rows(&table(), &merge(1, segments, false, true).unwrap()).unwrap())
    }

    fn rows(batches: &[RecordBatch]) -> Vec<String> {
        let text = |batch: &RecordBatch, row: usize| {
            let key = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(row);
            let value = batch.column(1).as_any().downcast_ref::<StringArray>().unwrap();
            format!("{key} {}", value.value(row))
        };
        let mut rows: Vec<String> = batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(move |row| text(batch, row)))
            .collect();
        rows.sort();
        rows
    }

    #[test]
    fn newest_row_of_a_key_wins_and_tombstones_hide_older_ones() {
        let segments = [
            delta(&[(1, "a"), (2, "b"), (3, "c")], &[]),
            delta(&[(1, "x")], &[2]),
            delta(&[(2, "y")], &[3]),
        ];
        assert_eq!(live(&segments), ["1 x", "2 y"]);
    }

    #[test]
    fn a_merge_of_newer_segments_keeps_tombstones_for_the_older_ones() {
        let older = delta(&[(1, "a"), (2, "b")], &[]);
        let newer = [delta(&[(3, "c")], &[1]), delta(&[(3, "d")], &[2])];
        let mut segments = vec![older];
        segments.extend(merge(1, &newer, false, false).unwrap());
        assert_eq!(live(&segments), ["3 d"]);
    }
}
