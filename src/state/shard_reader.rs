//! [`ShardReader`] and [`NewestRows`]: the rows of some shards of a state table, a group of shards
//! at a time.
//!
//! ```text
//! segments, oldest first:  [0..2][2..3][3..7]…   [0..256]   [0..5][5..9]…
//! group of shards 0..3  ◄─ [0..2][2..3]          [0..256]   [0..5]           newest row of a key
//! group of shards 3..9  ◄─            [3..7]…    (kept)     (kept)[5..9]
//! ```
//!
//! Rows of one key are in one shard, so that a group is complete by itself: memory is bounded by
//! the rows of a group and not of the table.
//!
//! **Invariant:** the reader of some shards reads each block that has rows of them once.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::SegmentRef;
use super::blocks::{Block, blocks_of, check};
use super::log::{merge, read_batches, shard_column};
use crate::change::{SHARDS, ShardRange};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result, caught};

/// Bytes of rows in a group, about; the rows of one shard are in one.
const GROUP_BYTES: u64 = if cfg!(test) { 500 } else { 4 << 20 };
/// Reads that are under way at once. Of a local store each is a thread that keeps memory.
const READS: usize = 2;
/// Reads of an object before its state counts as lost, and the first pause between them, doubled.
const READ_ATTEMPTS_MAX: u32 = 6;
const READ_PAUSE: Duration = Duration::from_millis(50);

/// Reads blocks by shard; see the module.
#[derive(Debug)]
pub struct ShardReader {
    env: Env,
    /// What is not read yet, oldest segment first.
    segments: Vec<Unread>,
    /// Groups to come.
    groups: VecDeque<ShardRange>,
}

/// What is read of a group of shards: still encoded.
#[derive(Debug)]
pub struct ShardGroup {
    shards: ShardRange,
    pieces: Vec<Piece>,
}

/// Makes rows of the groups of a [`ShardReader`], one after the other. It works on the thread of
/// its caller, who keeps the rows: an allocator keeps what one thread allocates and another frees.
#[derive(Debug)]
pub struct NewestRows {
    key_columns: usize,
    drops_tombstones: bool,
    /// Blocks that also have rows of later groups.
    kept: Vec<Piece>,
}

/// The blocks of a segment that are not read yet, and where they begin.
#[derive(Debug)]
struct Unread {
    object: String,
    blocks: VecDeque<(u64, Block)>,
}

/// A block that is read.
#[derive(Debug)]
struct Piece {
    /// The segment, as in [`ShardReader::segments`].
    segment: usize,
    shards: ShardRange,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    Encoded(Bytes),
    Decoded(Vec<RecordBatch>),
}

/// Blocks of a segment that follow each other.
struct Read {
    segment: usize,
    object: String,
    range: Range<u64>,
    blocks: Vec<Block>,
}

impl ShardReader {
    /// A reader of the rows in `shards` of one state table's segments, oldest first.
    ///
    /// # Errors
    /// `Corrupt` if an object is gone or is not what it was; `Unavailable`.
    pub async fn open(env: Env, segments: Vec<SegmentRef>, shards: ShardRange) -> Result<Self> {
        let needed = segments.into_iter().filter(|segment| segment.shards.meets(shards));
        let unread = needed.map(|segment| unread(&env, segment, shards));
        let segments: Vec<Unread> =
            futures::stream::iter(unread).buffered(READS).try_collect().await?;
        let groups = groups(&segments, shards);
        Ok(Self { env, segments, groups })
    }

    /// The next group; `None` at the end.
    ///
    /// # Errors
    /// As [`ShardReader::open`].
    pub async fn next(&mut self) -> Result<Option<ShardGroup>> {
        let Some(group) = self.groups.pop_front() else { return Ok(None) };
        let reads = self.take_reads(group);
        let env = &self.env;
        let read = reads.into_iter().map(|read| async move {
            let bytes = read_range(env, &read.object, read.range).await?;
            Ok::<_, Error>((read.segment, read.blocks, bytes))
        });
        let mut read = futures::stream::iter(read).buffered(READS);
        let mut pieces = Vec::new();
        while let Some((segment, blocks, bytes)) = read.try_next().await? {
            let mut start = 0;
            for Block { shards, length, crc, .. } in blocks {
                let block = bytes.slice(start..start + length as usize);
                check(&block, crc)?;
                pieces.push(Piece { segment, shards, rows: Rows::Encoded(block) });
                start += length as usize;
            }
        }
        Ok(Some(ShardGroup { shards: group, pieces }))
    }

    /// The blocks of a group that are not read yet.
    fn take_reads(&mut self, group: ShardRange) -> Vec<Read> {
        let mut reads: Vec<Read> = Vec::new();
        for (segment, unread) in self.segments.iter_mut().enumerate() {
            while let Some((offset, block)) =
                unread.blocks.pop_front_if(|(_, block)| block.shards.start < group.end)
            {
                let end = offset + block.length;
                match reads.last_mut() {
                    Some(Read { segment: of, range, blocks, .. })
                        if *of == segment && range.end == offset =>
                    {
                        range.end = end;
                        blocks.push(block);
                    }
                    _ => {
                        let (object, range) = (unread.object.clone(), offset..end);
                        reads.push(Read { segment, object, range, blocks: vec![block] });
                    }
                }
            }
        }
        reads
    }
}

/// Finds the blocks of a segment.
async fn unread(env: &Env, segment: SegmentRef, shards: ShardRange) -> Result<Unread> {
    let end = segment.offset + segment.length;
    let directory = match segment.directory {
        0 => Bytes::new(),
        length => read_range(env, &segment.object, end - length..end).await?,
    };
    let mut offset = segment.offset;
    let mut blocks = VecDeque::new();
    for block in blocks_of(&segment, &directory)? {
        if block.shards.meets(shards) {
            blocks.push_back((offset, block));
        }
        offset += block.length;
    }
    Ok(Unread { object: segment.object, blocks })
}

/// Cuts shards into groups of bounded size.
fn groups(segments: &[Unread], shards: ShardRange) -> VecDeque<ShardRange> {
    let mut bytes = vec![0; SHARDS];
    for (_, block) in segments.iter().flat_map(|segment| &segment.blocks) {
        let count = u64::from(block.shards.end - block.shards.start).max(1);
        for shard in block.shards.start..block.shards.end {
            bytes[usize::from(shard)] += block.bytes.div_ceil(count);
        }
    }
    let mut groups = VecDeque::new();
    let (mut start, mut sum) = (shards.start, 0);
    for shard in shards.start..shards.end {
        let of_shard = bytes[usize::from(shard)];
        if sum > 0 && sum + of_shard > GROUP_BYTES {
            groups.push_back(ShardRange { start, end: shard });
            (start, sum) = (shard, 0);
        }
        sum += of_shard;
    }
    if sum > 0 {
        groups.push_back(ShardRange { start, end: shards.end });
    }
    groups
}

impl NewestRows {
    /// For a table with this number of key columns; without tombstones if the table has no older
    /// segment than those that are read.
    pub fn new(key_columns: usize, drops_tombstones: bool) -> Self {
        Self { key_columns, drops_tombstones, kept: Vec::new() }
    }

    /// The newest row of each key of the next group, with its columns as stored.
    ///
    /// # Errors
    /// `Corrupt` if the bytes are not what they were.
    pub fn of(&mut self, group: ShardGroup) -> Result<Vec<RecordBatch>> {
        let ShardGroup { shards: group, pieces: read } = group;
        let mut pieces = std::mem::take(&mut self.kept);
        pieces.extend(read);
        // The order of blocks in a segment does not matter.
        pieces.sort_by_key(|piece| piece.segment);
        let ends = pieces.first().zip(pieces.last());
        let is_one_segment = ends.is_none_or(|(first, last)| first.segment == last.segment);
        let mut rows = Vec::new();
        for Piece { segment, shards, rows: stored } in pieces {
            let batches = match stored {
                Rows::Encoded(bytes) => caught("a segment", || read_batches(&bytes))?,
                Rows::Decoded(batches) => batches,
            };
            for batch in &batches {
                let of_group = match group.covers(shards) {
                    true => batch.clone(),
                    false => rows_in(batch, group)?,
                };
                if of_group.num_rows() > 0 {
                    rows.push(of_group);
                }
            }
            if shards.end > group.end {
                self.kept.push(Piece { segment, shards, rows: Rows::Decoded(batches) });
            }
        }
        merge(self.key_columns, &rows, is_one_segment, self.drops_tombstones)
    }
}

/// Stored rows that are in some shards.
fn rows_in(batch: &RecordBatch, shards: ShardRange) -> Result<RecordBatch> {
    let of_rows = shard_column(batch)?.values();
    let is_in = BooleanBuffer::collect_bool(of_rows.len(), |row| shards.contains(of_rows[row]));
    Ok(filter_record_batch(batch, &BooleanArray::from(is_in))?)
}

/// Reads bytes of an object. A store that does not answer is tried some times: what is built on the
/// object would have failed for good.
async fn read_range(env: &Env, object: &str, range: Range<u64>) -> Result<Bytes> {
    let path = Path::from(object);
    let mut attempts = 1;
    loop {
        match env.store().get_range(&path, range.clone()).await {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => return Ok(bytes),
            Ok(_) => {
                let message = format!("object \"{object}\" is shorter than it was");
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            Err(object_store::Error::NotFound { .. }) => {
                let message = format!("object \"{object}\" is missing");
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            Err(error) if attempts == READ_ATTEMPTS_MAX => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, object, attempts, "an object could not be read, again");
                tokio::time::sleep(READ_PAUSE * 2_u32.pow(attempts)).await;
                attempts += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
