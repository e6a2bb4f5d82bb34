//! [`SegmentWriter`]: writes the rows of a segment in blocks by shard.
//!
//! ```text
//! segment = [block of shards 0..2][block of shards 2..3]…[directory]      block = IPC stream
//! ```
//!
//! A worker reads the blocks of its shards only, and a table shard by shard. A small segment is one
//! block without a directory, so that a checkpoint of a few rows costs no more for it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt8Array, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::interleave_record_batch;
use serde::{Deserialize, Serialize};

use super::log::{Packing, append_batches, corrupt, shard_column, stored_schema};
use super::{SegmentRef, StateDelta};
use crate::change::{RowSizes, SHARDS, ShardRange, batch_bytes, runs_up_to};
use crate::error::{Error, Result};

/// Bytes of rows from which a block ends where its shard ends, and a segment has several.
pub const BLOCK_BYTES_MIN: usize = if cfg!(test) { 200 } else { 64 << 10 };

/// Bytes of a block, about: the rows of a shard are several blocks if they are more.
const BLOCK_BYTES_MAX: usize = if cfg!(test) { 16 << 10 } else { 4 << 20 };

/// Bytes of a merged segment up to which it becomes part of a manifest.
pub const SMALL_BYTES_MAX: usize = if cfg!(test) { 12 << 10 } else { 64 << 10 };

/// A block of a segment. Those of a segment follow each other in the order of their shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Block {
    /// Shards that its rows are in.
    pub(super) shards: ShardRange,
    /// Its length in the object.
    pub(super) length: u64,
    /// Bytes of its rows in memory.
    pub(super) bytes: u64,
    /// CRC-32 of it; an earlier version wrote none.
    #[serde(default)]
    pub(super) crc: Option<u32>,
}

/// Shards of a delta's rows, by batch.
#[derive(Debug, Clone, Default)]
pub struct DeltaShards {
    /// Of its puts.
    pub puts: Vec<Vec<u8>>,
    /// Of its deletes.
    pub deletes: Vec<Vec<u8>>,
}

/// Where a segment lies in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// Bytes of these, at their end, that are the directory.
    pub directory: u64,
    /// Rows, tombstones included.
    pub rows: u64,
    /// CRC-32 of the directory, or of the one block.
    pub crc: u32,
}

/// Appends a delta to an object's bytes.
///
/// # Errors
/// Arrow's, and `Internal` if there are not as many shards as rows.
pub fn encode_delta(
    object: &mut Vec<u8>,
    delta: &StateDelta,
    shards: DeltaShards,
) -> Result<Place> {
    let schema = stored_schema(&delta.schema);
    let stored = |mut columns: Vec<ArrayRef>, shards: Vec<u8>, is_deleted: bool| {
        let deleted = if is_deleted { BooleanBuffer::new_set } else { BooleanBuffer::new_unset };
        columns.push(Arc::new(UInt8Array::from(shards)));
        columns.push(Arc::new(BooleanArray::from(deleted(columns[columns.len() - 1].len()))));
        RecordBatch::try_new(Arc::clone(&schema), columns)
    };
    let mut batches = Vec::with_capacity(delta.puts.len() + delta.deletes.len());
    let puts = std::iter::zip(&delta.puts, shards.puts);
    for (puts, shards) in puts.filter(|(puts, _)| puts.num_rows() > 0) {
        batches.push(stored(puts.columns().to_vec(), shards, false)?);
    }
    let deletes = std::iter::zip(&delta.deletes, shards.deletes);
    for (deletes, shards) in deletes.filter(|(deletes, _)| deletes.num_rows() > 0) {
        let values = delta.schema.fields()[deletes.num_columns()..].iter();
        let values = values.map(|field| new_null_array(field.data_type(), deletes.num_rows()));
        let columns = deletes.columns().iter().map(Arc::clone).chain(values);
        batches.push(stored(columns.collect(), shards, true)?);
    }
    let mut writer = SegmentWriter::new(std::mem::take(object), Packing::Fast);
    writer.push(&batches)?;
    let (bytes, place) = writer.finish()?;
    *object = bytes;
    match place.rows == delta.row_count() as u64 {
        true => Ok(place),
        false => Err(Error::internal("a delta has not as many shards as rows")),
    }
}

/// Writes a segment; see the module.
#[derive(Debug)]
pub struct SegmentWriter {
    packing: Packing,
    object: Vec<u8>,
    offset: usize,
    blocks: Vec<Block>,
    rows: u64,
}

impl SegmentWriter {
    /// Writes at the end of an object's bytes.
    pub fn new(object: Vec<u8>, packing: Packing) -> Self {
        let offset = object.len();
        Self { packing, object, offset, blocks: Vec::new(), rows: 0 }
    }

    /// Takes stored rows, of no lower shard than those before.
    ///
    /// # Errors
    /// `Corrupt` if they have no shards.
    pub fn push(&mut self, rows: &[RecordBatch]) -> Result<()> {
        self.rows += rows.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        let bytes: usize = rows.iter().map(batch_bytes).sum();
        if bytes >= BLOCK_BYTES_MIN {
            return self.push_by_shard(rows);
        }
        let mut shards = ShardRange::NONE;
        for batch in rows {
            let of_rows = shard_column(batch)?.values().iter();
            shards = of_rows.fold(shards, |all, shard| all.union(ShardRange::one(*shard)));
        }
        match rows.is_empty() {
            true => Ok(()),
            false => self.add_block(shards, rows),
        }
    }

    fn push_by_shard(&mut self, rows: &[RecordBatch]) -> Result<()> {
        let sorted = RowsByShard::of(rows)?;
        let batches: Vec<&RecordBatch> = rows.iter().collect();
        let last = (0..SHARDS).rev().find(|shard| sorted.has_rows(*shard)).unwrap_or(0);
        let (mut start, mut bytes) = (0, 0);
        for shard in 0..=last {
            bytes += sorted.bytes[shard];
            if !sorted.has_rows(start) {
                // A block has rows of its first and of its last shard.
                start = shard + 1;
                continue;
            }
            if bytes < BLOCK_BYTES_MIN && shard < last {
                continue;
            }
            let shards = ShardRange { start: start as u16, end: shard as u16 + 1 };
            let places = sorted.places(start, shard + 1);
            let row_bytes = |at| sorted.row_bytes(places[at]);
            for run in runs_up_to(BLOCK_BYTES_MAX, places.len(), row_bytes) {
                let block = interleave_record_batch(&batches, &places[run])?;
                self.add_block(shards, &[block])?;
            }
            (start, bytes) = (shard + 1, 0);
        }
        Ok(())
    }

    fn add_block(&mut self, shards: ShardRange, rows: &[RecordBatch]) -> Result<()> {
        let (start, length) = append_batches(&mut self.object, rows, self.packing)?;
        let bytes = rows.iter().map(batch_bytes).sum::<usize>() as u64;
        let crc = Some(crc32fast::hash(&self.object[start as usize..]));
        self.blocks.push(Block { shards, length, bytes, crc });
        Ok(())
    }

    /// The object's bytes and the place of the segment in them.
    ///
    /// # Errors
    /// None in practice: a directory is numbers.
    pub fn finish(mut self) -> Result<(Vec<u8>, Place)> {
        let blocks_end = self.object.len();
        if self.blocks.len() > 1 {
            serde_json::to_writer(&mut self.object, &self.blocks)
                .map_err(|error| Error::internal(format!("a segment's directory: {error}")))?;
        }
        let place = Place {
            offset: self.offset as u64,
            length: (self.object.len() - self.offset) as u64,
            directory: (self.object.len() - blocks_end) as u64,
            rows: self.rows,
            // Of one block this is the block's.
            crc: match &*self.blocks {
                [Block { crc: Some(crc), .. }] => *crc,
                _ => crc32fast::hash(&self.object[blocks_end..]),
            },
        };
        Ok((self.object, place))
    }
}

/// Compares stored bytes with their checksum. Arrow takes lengths that it reads as they are and
/// would end the process for memory that nobody has.
///
/// # Errors
/// `Corrupt`.
pub(super) fn check(bytes: &[u8], crc: Option<u32>) -> Result<()> {
    match crc.is_none_or(|crc| crc32fast::hash(bytes) == crc) {
        true => Ok(()),
        false => Err(corrupt("stored rows have another checksum than when they were written")),
    }
}

/// The blocks of a segment, of its directory's bytes.
///
/// # Errors
/// `Corrupt`.
pub(super) fn blocks_of(segment: &SegmentRef, directory: &[u8]) -> Result<Vec<Block>> {
    if segment.directory == 0 {
        let (shards, length, crc) = (segment.shards, segment.length, segment.crc);
        return Ok(vec![Block { shards, length, bytes: length, crc }]);
    }
    check(directory, segment.crc)?;
    let blocks: Vec<Block> = serde_json::from_slice(directory)
        .map_err(|error| corrupt("a segment has no directory").with_detail(error.to_string()))?;
    let length: u64 = blocks.iter().map(|block| block.length).sum();
    match length + segment.directory == segment.length {
        true => Ok(blocks),
        false => Err(corrupt("a segment is not as long as its blocks")),
    }
}

/// Rows of batches in the order of their shards.
struct RowsByShard {
    /// Rows, counted over all batches.
    order: Vec<u32>,
    /// By shard: where its rows begin in `order`; and the end.
    starts: Vec<usize>,
    /// By batch: its first row.
    firsts: Vec<usize>,
    sizes: Vec<RowSizes>,
    /// By shard: bytes of its rows.
    bytes: Vec<usize>,
}

impl RowsByShard {
    fn of(batches: &[RecordBatch]) -> Result<Self> {
        let sizes: Vec<RowSizes> =
            batches.iter().map(|batch| RowSizes::of(batch.columns())).collect();
        let (mut counts, mut bytes) = (vec![0; SHARDS], vec![0; SHARDS]);
        let (mut firsts, mut row_count) = (Vec::with_capacity(batches.len()), 0);
        for (batch, sizes) in std::iter::zip(batches, &sizes) {
            firsts.push(row_count);
            row_count += batch.num_rows();
            for (row, shard) in shard_column(batch)?.values().iter().enumerate() {
                counts[usize::from(*shard)] += 1;
                bytes[usize::from(*shard)] += sizes.bytes(row);
            }
        }
        if u32::try_from(row_count).is_err() {
            return Err(Error::internal(format!("{row_count} rows are too many at once")));
        }
        let mut starts = Vec::with_capacity(SHARDS + 1);
        starts.push(0);
        let mut next: Vec<usize> = Vec::with_capacity(SHARDS);
        for count in counts {
            let start = starts[starts.len() - 1];
            next.push(start);
            starts.push(start + count);
        }
        let mut order = vec![0; row_count];
        for (batch, first) in std::iter::zip(batches, &firsts) {
            for (row, shard) in shard_column(batch)?.values().iter().enumerate() {
                let place = &mut next[usize::from(*shard)];
                order[*place] = (first + row) as u32;
                *place += 1;
            }
        }
        Ok(Self { order, starts, firsts, sizes, bytes })
    }

    fn has_rows(&self, shard: usize) -> bool {
        self.starts[shard] < self.starts[shard + 1]
    }

    /// Batch and row of the rows of shards `start..end`.
    fn places(&self, start: usize, end: usize) -> Vec<(usize, usize)> {
        let rows = self.order[self.starts[start]..self.starts[end]].iter();
        let place = |row: &u32| {
            let row = *row as usize;
            let batch = self.firsts.partition_point(|first| *first <= row) - 1;
            (batch, row - self.firsts[batch])
        };
        rows.map(place).collect()
    }

    fn row_bytes(&self, (batch, row): (usize, usize)) -> usize {
        self.sizes[batch].bytes(row)
    }
}
