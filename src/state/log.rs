//! Segments: deltas of state tables as Arrow IPC streams in one object a worker and checkpoint.
//!
//! ```text
//! object = [IPC stream of table a][IPC stream of table b]…     a stream = columns.., $deleted
//! ```

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{KeyTable, StateDelta, StateTable};
use crate::catalog::RelationId;
use crate::change::batch_bytes;
use crate::error::{Error, ErrorKind, Result};

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
    /// Worker that needs it; `None`: all, each its share, since the number of workers has changed.
    pub worker: Option<usize>,
    /// Number of key columns, so that segments can be merged without their operator.
    pub key_columns: usize,
    /// Path on the object store.
    pub object: String,
    /// First byte in the object.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// Rows, tombstones included.
    pub rows: u64,
}

/// Appends a delta to an object's bytes; returns its place as (offset, length).
///
/// # Errors
/// Arrow's only.
pub fn encode_delta(object: &mut Vec<u8>, delta: &StateDelta) -> Result<(u64, u64)> {
    let schema = stored_schema(&delta.schema);
    let stored = |mut columns: Vec<ArrayRef>, row_count: usize, is_deleted: bool| {
        let deleted = if is_deleted { BooleanBuffer::new_set } else { BooleanBuffer::new_unset };
        columns.push(Arc::new(BooleanArray::from(deleted(row_count))));
        RecordBatch::try_new(Arc::clone(&schema), columns)
    };
    let mut batches = Vec::with_capacity(delta.puts.len() + delta.deletes.len());
    for puts in delta.puts.iter().filter(|puts| puts.num_rows() > 0) {
        batches.push(stored(puts.columns().to_vec(), puts.num_rows(), false)?);
    }
    for deletes in delta.deletes.iter().filter(|deletes| deletes.num_rows() > 0) {
        let gone = deletes.num_rows();
        let values = delta.schema.fields()[deletes.num_columns()..].iter();
        let values = values.map(|field| new_null_array(field.data_type(), gone));
        let columns = deletes.columns().iter().map(Arc::clone).chain(values);
        batches.push(stored(columns.collect(), gone, true)?);
    }
    append_batches(object, &batches, Packing::Fast)
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

fn stored_schema(schema: &SchemaRef) -> SchemaRef {
    let stored = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
    let mut fields: Vec<Field> = schema.fields().iter().map(stored).collect();
    fields.push(Field::new(DELETED, DataType::Boolean, false));
    Arc::new(Schema::new(fields))
}

/// Reads one IPC stream.
///
/// # Errors
/// `Corrupt`.
pub fn read_batches(bytes: &[u8]) -> Result<Vec<RecordBatch>> {
    let reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    Ok(reader.collect::<std::result::Result<_, _>>()?)
}

/// Live rows of segments, with the columns and nullability of the state table.
///
/// # Errors
/// `Corrupt` if a segment does not have the table's columns.
pub fn live_rows(table: &StateTable, segments: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let merged = merge(table.key_columns, segments, true)?;
    let width = table.schema.fields().len();
    merged
        .into_iter()
        .map(|batch| {
            if batch.num_columns() != width + 1 {
                return Err(corrupt("a segment has other columns than its operator"));
            }
            let columns = batch.columns()[..width].to_vec();
            Ok(RecordBatch::try_new(Arc::clone(&table.schema), columns)?)
        })
        .collect()
}

/// Keeps the newest row of each key; `segments` are oldest first. Tombstones go if the oldest
/// segment of the table is among them (`drop_tombstones`).
///
/// Law: reading the result in the place of `segments` gives the same table.
///
/// # Errors
/// Arrow's only.
pub fn merge(
    key_columns: usize,
    segments: &[RecordBatch],
    drop_tombstones: bool,
) -> Result<Vec<RecordBatch>> {
    let mut kept = Vec::with_capacity(segments.len());
    let mut seen = match segments {
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
    batch
        .columns()
        .last()
        .and_then(|column| column.as_any().downcast_ref::<BooleanArray>())
        .ok_or_else(|| corrupt("a segment has no tombstone column"))
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

fn corrupt(message: &str) -> Error {
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
        let keys = Int64Array::from(puts.iter().map(|(key, _)| *key).collect::<Vec<_>>());
        let values = StringArray::from(puts.iter().map(|(_, value)| *value).collect::<Vec<_>>());
        let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(values)];
        let puts = RecordBatch::try_new(table().schema, columns).unwrap();
        let key_schema = Arc::new(table().schema.project(&[0]).unwrap());
        let deletes: ArrayRef = Arc::new(Int64Array::from(deletes.to_vec()));
        let deletes = RecordBatch::try_new(key_schema, vec![deletes]).unwrap();
        let mut object = vec![7; 5];
        let delta = StateDelta {
            table: 0,
            schema: table().schema,
            puts: vec![puts],
            deletes: vec![deletes],
        };
        let (offset, length) = encode_delta(&mut object, &delta).unwrap();
        let stored = &object[offset as usize..(offset + length) as usize];
        let batches = read_batches(stored).unwrap();
        arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
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
        let live = live_rows(&table(), &segments).unwrap();
        assert_eq!(rows(&live), ["1 x", "2 y"]);
    }

    #[test]
    fn a_merge_of_newer_segments_keeps_tombstones_for_the_older_ones() {
        let older = delta(&[(1, "a"), (2, "b")], &[]);
        let newer = [delta(&[(3, "c")], &[1]), delta(&[(3, "d")], &[2])];
        let mut segments = vec![older];
        segments.extend(merge(1, &newer, false).unwrap());
        assert_eq!(rows(&live_rows(&table(), &segments).unwrap()), ["3 d"]);
    }
}
