//! [`Segments`]: rows in Arrow batches with deletion bitmaps, and their [`RowsSnapshot`].

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::{BooleanBuffer, Buffer, ScalarBuffer};
use arrow::compute::{filter_record_batch, interleave};
use arrow::datatypes::SchemaRef;

use super::cold_rows::{MovedRows, can_move, gather, largest_row, numbers_to_scratch, to_scratch};
use super::key_index::KeyIndex;
use super::slot_column::SlotColumn;
use crate::change::{
    BATCH_BYTES_MAX, RowSizes, RowsAt, batch_bytes, equal_rows_at, hash_rows, runs_by_bytes,
    take_rows,
};
use crate::env::Scratch;
use crate::error::Result;

/// Where a row is: segment in the high half, row in the low half.
pub type Location = u64;

/// No row.
pub const NO_ROW: Location = Location::MAX;

/// Rows of a full segment, which is a batch for readers; smaller ones are merged.
const SEGMENT_ROWS: usize = 8 * 1024;

/// Bytes of a full segment: [`MERGE_FAN_IN`] smaller ones fit into a batch.
const SEGMENT_BYTES: usize = if cfg!(test) { 4 << 10 } else { BATCH_BYTES_MAX / MERGE_FAN_IN };

/// Memory of a multiplicity that is not 1.
const COUNT_BYTES: usize = 24;

/// So many segments of about one size are merged to one.
const MERGE_FAN_IN: usize = 8;

fn location(segment: usize, row: usize) -> Location {
    (segment as u64) << 32 | row as u64
}

fn split(location: Location) -> (usize, usize) {
    ((location >> 32) as usize, (location & 0xffff_ffff) as usize)
}

/// Some rows and which of them are live. Shared with snapshots; copied when written.
#[derive(Debug, Clone)]
struct Segment {
    rows: Arc<RecordBatch>,
    /// Bit set: the row is live.
    live: Arc<Vec<u64>>,
    live_count: usize,
    /// Bytes of the rows and their owners.
    bytes: usize,
    /// They are in a scratch file.
    is_cold: bool,
    /// Bytes of the largest row of a cold segment.
    largest_row: usize,
    /// Number of segments that were made before.
    born: u64,
    /// Multiplicity of live rows that have another than 1.
    counts: Arc<BTreeMap<u32, i64>>,
    /// Copies of live rows beyond the first of each.
    copies: i64,
    /// Owner (a slot) of each row; empty if rows have none.
    owners: ScalarBuffer<u32>,
    /// Made by the first lookup by key: tables that are only scanned pay nothing for it.
    index: Arc<OnceLock<KeyIndex>>,
    /// Memory of the indexes of all segments.
    index_bytes: Arc<AtomicUsize>,
}

impl Segment {
    fn new(rows: RecordBatch, owners: Vec<u32>, index_bytes: &Arc<AtomicUsize>) -> Self {
        let count = rows.num_rows();
        let mut live = vec![u64::MAX; count.div_ceil(64)];
        if let Some(last) = live.last_mut()
            && !count.is_multiple_of(64)
        {
            *last = (1 << (count % 64)) - 1;
        }
        Self {
            bytes: batch_bytes(&rows) + owners.len() * 4,
            is_cold: false,
            largest_row: 0,
            born: 0,
            rows: Arc::new(rows),
            live: Arc::new(live),
            live_count: count,
            counts: Arc::default(),
            copies: 0,
            owners: ScalarBuffer::from(owners),
            index: Arc::default(),
            index_bytes: Arc::clone(index_bytes),
        }
    }

    /// The segment as readers see it: they do not ask for owners, whose memory is not theirs.
    fn for_readers(&self) -> Self {
        Self {
            rows: Arc::clone(&self.rows),
            live: Arc::clone(&self.live),
            counts: Arc::clone(&self.counts),
            owners: ScalarBuffer::from(Vec::new()),
            index: Arc::clone(&self.index),
            index_bytes: Arc::clone(&self.index_bytes),
            ..*self
        }
    }

    fn is_live(&self, row: u32) -> bool {
        self.live[row as usize / 64] >> (row % 64) & 1 == 1
    }

    fn live_rows(&self) -> Vec<u32> {
        (0..self.rows.num_rows() as u32).filter(|row| self.is_live(*row)).collect()
    }

    /// All rows are live, once each.
    fn is_whole(&self) -> bool {
        self.live_count == self.rows.num_rows() && self.counts.is_empty()
    }

    /// Memory without that of the index.
    fn state_bytes(&self) -> usize {
        let rows = if self.is_cold { 0 } else { self.bytes };
        rows + self.live.len() * 8 + self.counts.len() * COUNT_BYTES
    }

    /// The index by these columns, which are the same for all lookups of one relation.
    fn index_by(&self, key: &[usize]) -> Result<&KeyIndex> {
        if let Some(index) = self.index.get() {
            debug_assert!(index.is_by(key), "a relation is indexed by one key");
            return Ok(index);
        }
        let index = KeyIndex::try_new(&self.rows, key, &self.index_bytes)?;
        Ok(self.index.get_or_init(|| index))
    }

    /// Live rows whose key has one of these hashes, each with its multiplicity.
    fn rows_of(&self, key: &[usize], hashes: &[u64]) -> Result<Vec<u32>> {
        let index = self.index_by(key)?;
        let mut rows = Vec::new();
        for row in hashes.iter().flat_map(|hash| index.rows_of(*hash)) {
            if self.is_live(row) {
                let count = self.counts.get(&row).copied().unwrap_or(1);
                rows.extend((0..count).map(|_| row));
            }
        }
        Ok(rows)
    }
}

/// Rows with owners, appended and deleted by location.
///
/// `locations[owner]` is where the owner's row is; [`Segments::maintain`] moves rows and keeps it.
///
/// Shape: rows of one schema. **Invariant:** between two calls of `maintain` no row moves, so a
/// deleted row can still be read.
#[derive(Debug)]
pub struct Segments {
    schema: SchemaRef,
    segments: Vec<Segment>,
    free: Vec<usize>,
    /// Memory of the segments without their indexes, kept up to date: it is asked for often.
    bytes: usize,
    /// Bytes in scratch files.
    cold_bytes: usize,
    /// These files, once rows were moved to them.
    scratch: Option<Scratch>,
    /// Number of segments ever made.
    made: u64,
    index_bytes: Arc<AtomicUsize>,
    /// Something was appended or deleted since the last `maintain`.
    is_touched: bool,
}

impl Segments {
    /// No rows yet.
    pub fn new(schema: SchemaRef) -> Self {
        let (segments, free, index_bytes) = (Vec::new(), Vec::new(), Arc::default());
        let (bytes, cold_bytes, made) = (0, 0, 0);
        let (scratch, is_touched) = (None, false);
        Self { schema, segments, free, bytes, cold_bytes, scratch, made, index_bytes, is_touched }
    }

    /// Appends rows; `owners` has one slot a row and `locations` is set for them, or is empty.
    pub fn append(
        &mut self,
        rows: RecordBatch,
        owners: Vec<u32>,
        locations: &mut SlotColumn<Location>,
    ) {
        if rows.num_rows() > 0 {
            let segment = Segment::new(rows, owners, &self.index_bytes);
            self.place(segment, locations);
        }
    }

    fn place(&mut self, mut segment: Segment, locations: &mut SlotColumn<Location>) {
        self.is_touched = true;
        segment.born = self.made;
        self.made += 1;
        self.bytes += segment.state_bytes();
        let index = self.free.pop().unwrap_or(self.segments.len());
        for (row, owner) in segment.owners.iter().enumerate() {
            locations.set(*owner, location(index, row));
        }
        if index == self.segments.len() {
            self.segments.push(segment);
        } else {
            self.segments[index] = segment;
        }
    }

    /// Deletes the row at a location.
    pub fn delete(&mut self, place: Location) {
        let (segment, row) = split(place);
        let segment = &mut self.segments[segment];
        Arc::make_mut(&mut segment.live)[row / 64] &= !(1 << (row % 64));
        segment.live_count -= 1;
        if let Some(count) = segment.counts.get(&(row as u32)) {
            segment.copies -= count - 1;
            Arc::make_mut(&mut segment.counts).remove(&(row as u32));
            self.bytes -= COUNT_BYTES;
        }
        self.is_touched = true;
    }

    /// Sets the multiplicity of a live row.
    pub fn set_count(&mut self, place: Location, count: i64) {
        let (segment, row) = split(place);
        let Segment { counts, copies, .. } = &mut self.segments[segment];
        *copies += count - counts.get(&(row as u32)).copied().unwrap_or(1);
        self.bytes -= counts.len() * COUNT_BYTES;
        if count != 1 {
            Arc::make_mut(counts).insert(row as u32, count);
        } else if counts.contains_key(&(row as u32)) {
            Arc::make_mut(counts).remove(&(row as u32));
        }
        self.bytes += counts.len() * COUNT_BYTES;
    }

    /// The rows at locations, in their order.
    ///
    /// # Errors
    /// Arrow kernels' only, such as text beyond 2 GiB.
    pub fn take(&self, places: &[Location]) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        let columns = self.take_columns(places)?;
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    /// The columns of the rows at locations.
    ///
    /// # Errors
    /// As [`Segments::take`].
    pub fn take_columns(&self, places: &[Location]) -> Result<Vec<ArrayRef>> {
        if places.is_empty() {
            let empty = RecordBatch::new_empty(Arc::clone(&self.schema));
            return Ok(empty.columns().to_vec());
        }
        let (used, indices) = self.used_segments(places);
        let reader = self.cold_among(&used).map(Scratch::reader);
        let column = |column: usize| -> Result<ArrayRef> {
            let rows = used.iter().map(|segment| &self.segments[*segment].rows);
            let arrays: Vec<_> = rows.map(|rows| rows.column(column).as_ref()).collect();
            match &reader {
                Some(reader) => gather(&arrays, &indices, reader),
                None => Ok(interleave(&arrays, &indices)?),
            }
        };
        (0..self.schema.fields().len()).map(column).collect()
    }

    /// The numbers of the rows at locations that equal the row of `others` with the same number:
    /// see [`equal_rows_at`].
    ///
    /// # Errors
    /// As that.
    pub fn equal_to(&self, places: &[Location], others: RowsAt<'_>) -> Result<Vec<u32>> {
        let (used, indices) = self.used_segments(places);
        if self.cold_among(&used).is_none() {
            let batches = used.iter().map(|segment| self.segments[*segment].rows.as_ref());
            let own = RowsAt { batches: &batches.collect::<Vec<_>>(), places: &indices };
            return equal_rows_at(own, others);
        }
        let mut equal = Vec::new();
        for run in self.runs(places, |_| 0) {
            let own = self.take(&places[run.clone()])?;
            let indices: Vec<_> = (0..run.len()).map(|row| (0, row)).collect();
            let own = RowsAt { batches: &[&own], places: &indices };
            let numbers = equal_rows_at(own, others.slice(run.clone()))?;
            equal.extend(numbers.into_iter().map(|number| number + run.start as u32));
        }
        Ok(equal)
    }

    /// The scratch files, if rows of these segments are there.
    fn cold_among(&self, used: &[usize]) -> Option<&Scratch> {
        let is_cold = used.iter().any(|segment| self.segments[*segment].is_cold);
        self.scratch.as_ref().filter(|_| is_cold)
    }

    /// Runs of locations whose rows, with `more` bytes for each, are of bounded size: what is to
    /// be taken at once. [`NO_ROW`] has no bytes.
    pub fn runs(
        &self,
        places: &[Location],
        mut more: impl FnMut(usize) -> usize,
    ) -> Vec<Range<usize>> {
        let mut sizes: Vec<Option<RowSizes>> = vec![None; self.segments.len()];
        let mut runs = |is_exact: bool| {
            runs_by_bytes(places.len(), |index| {
                if places[index] == NO_ROW {
                    return more(index);
                }
                let (number, row) = split(places[index]);
                let segment = &self.segments[number];
                if segment.is_cold && !is_exact {
                    return segment.largest_row + more(index);
                }
                let of = || RowSizes::of(segment.rows.columns());
                sizes[number].get_or_insert_with(of).bytes(row) + more(index)
            })
        };
        // To read the sizes of rows in scratch files costs page faults; a bound mostly suffices.
        let bounded = runs(false);
        if bounded.len() <= 1 || self.cold_bytes == 0 { bounded } else { runs(true) }
    }

    /// One column of the rows at locations, as arrays and an array and row for each location.
    pub fn places_in_column(
        &self,
        places: &[Location],
        column: usize,
    ) -> (Vec<ArrayRef>, Vec<(usize, usize)>) {
        let (used, indices) = self.used_segments(places);
        let arrays = used.into_iter().map(|segment| &self.segments[segment].rows);
        (arrays.map(|rows| Arc::clone(rows.column(column))).collect(), indices)
    }

    /// The segments that locations are in, and the locations as indices into them.
    fn used_segments(&self, places: &[Location]) -> (Vec<usize>, Vec<(usize, usize)>) {
        let mut position = vec![usize::MAX; self.segments.len()];
        let mut used = Vec::new();
        let indices = places
            .iter()
            .map(|place| {
                let (segment, row) = split(*place);
                if position[segment] == usize::MAX {
                    position[segment] = used.len();
                    used.push(segment);
                }
                (position[segment], row)
            })
            .collect();
        (used, indices)
    }

    /// Merges small segments and drops deleted rows where they are many. Rows move.
    ///
    /// # Errors
    /// As [`Segments::take`].
    pub fn maintain(&mut self, locations: &mut SlotColumn<Location>) -> Result<()> {
        if !std::mem::take(&mut self.is_touched) {
            return Ok(());
        }
        let mut tiers: [Vec<usize>; 6] = Default::default();
        for index in 0..self.segments.len() {
            let segment = &self.segments[index];
            let row_count = segment.rows.num_rows();
            if row_count == 0 {
                continue;
            }
            if segment.live_count == 0 {
                self.clear(index);
            } else if segment.live_count * 2 < row_count {
                self.merge(&[index], locations)?;
            } else if row_count < SEGMENT_ROWS && segment.bytes < SEGMENT_BYTES {
                let tier = (row_count.ilog2() / 3) as usize;
                tiers[tier.min(5)].push(index);
            }
        }
        for tier in tiers {
            if tier.len() >= MERGE_FAN_IN {
                for group in tier.chunks(MERGE_FAN_IN) {
                    self.merge(group, locations)?;
                }
            }
        }
        self.is_touched = false;
        Ok(())
    }

    fn clear(&mut self, index: usize) {
        let empty = RecordBatch::new_empty(Arc::clone(&self.schema));
        let empty = Segment::new(empty, Vec::new(), &self.index_bytes);
        let gone = std::mem::replace(&mut self.segments[index], empty);
        self.bytes -= gone.state_bytes();
        self.cold_bytes -= if gone.is_cold { gone.bytes } else { 0 };
        self.free.push(index);
    }

    /// Puts the live rows of segments into one new segment.
    fn merge(&mut self, group: &[usize], locations: &mut SlotColumn<Location>) -> Result<()> {
        let mut batches = Vec::with_capacity(group.len());
        let mut owners = Vec::new();
        let mut counts = BTreeMap::new();
        let mut start = 0;
        for index in group {
            let segment = &self.segments[*index];
            if segment.is_whole() {
                owners.extend_from_slice(&segment.owners);
                start += segment.live_count as u32;
                batches.push(segment.rows.as_ref().clone());
                continue;
            }
            let live = segment.live_rows();
            for (position, row) in live.iter().enumerate() {
                if let Some(owner) = segment.owners.get(*row as usize) {
                    owners.push(*owner);
                }
                if let Some(count) = segment.counts.get(row) {
                    counts.insert(start + position as u32, *count);
                }
            }
            start += live.len() as u32;
            batches.push(take_rows(&segment.rows, &UInt32Array::from(live))?);
        }
        let rows = arrow::compute::concat_batches(&self.schema, &batches)?;
        let is_cold = self.cold_among(group).is_some();
        for index in group {
            self.clear(*index);
        }
        if is_cold && let Some(scratch) = &self.scratch {
            scratch.trim();
        }
        let mut segment = Segment::new(rows, owners, &self.index_bytes);
        segment.copies = counts.values().map(|count| count - 1).sum();
        segment.counts = Arc::new(counts);
        self.place(segment, locations);
        Ok(())
    }

    /// Moves rows to scratch files until about `wanted` bytes have left the heap: of segments with
    /// at least `least` bytes, the largest and of these the oldest first. No row changes its
    /// location, so that this may be done at any time.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses them; what was moved before stays there.
    pub fn move_cold(
        &mut self,
        wanted: usize,
        least: usize,
        scratch: &Scratch,
    ) -> Result<MovedRows> {
        let mut moved = MovedRows::default();
        if !can_move(&self.schema) {
            return Ok(moved);
        }
        let is_warm = |it: &Segment| !it.is_cold && it.live_count > 0 && it.bytes >= least;
        let warm = (0..self.segments.len()).filter(|index| is_warm(&self.segments[*index]));
        let mut warm: Vec<usize> = warm.collect();
        warm.sort_unstable_by_key(|index| {
            let segment = &self.segments[*index];
            // Sizes within a factor of two are alike.
            (std::cmp::Reverse(segment.bytes.max(1).ilog2()), segment.born)
        });
        for index in warm {
            if moved.bytes >= wanted {
                break;
            }
            self.scratch.get_or_insert_with(|| scratch.clone());
            let segment = &mut self.segments[index];
            segment.largest_row = largest_row(&segment.rows);
            let rows = Arc::new(to_scratch(&segment.rows, scratch)?);
            segment.owners = numbers_to_scratch(&segment.owners, scratch)?;
            let before = std::mem::replace(&mut segment.rows, Arc::clone(&rows));
            moved.pairs.push((before, rows));
            segment.is_cold = true;
            moved.bytes += segment.bytes;
            self.bytes -= segment.bytes;
            self.cold_bytes += segment.bytes;
        }
        Ok(moved)
    }

    /// Bytes in scratch files.
    pub fn cold_bytes(&self) -> usize {
        self.cold_bytes
    }

    /// The live rows as they are now.
    pub fn snapshot(&self) -> RowsSnapshot {
        let live = self.segments.iter().filter(|segment| segment.live_count > 0);
        let segments: Vec<Segment> = live.map(Segment::for_readers).collect();
        let own_bytes = segments.len() * size_of::<Segment>();
        let own_bytes = own_bytes + segments.iter().map(|it| it.live.len() * 8).sum::<usize>();
        RowsSnapshot { schema: Arc::clone(&self.schema), segments, own_bytes }
    }

    /// Memory in bytes.
    pub fn state_bytes(&self) -> usize {
        self.bytes
            + self.segments.capacity() * size_of::<Segment>()
            + self.index_bytes.load(Ordering::Relaxed)
    }
}

/// The rows of an arrangement at one epoch. Cheap to make and to clone; never changes.
///
/// Shape: the arrangement's schema; a row with multiplicity n comes n times.
#[derive(Debug, Clone)]
pub struct RowsSnapshot {
    schema: SchemaRef,
    segments: Vec<Segment>,
    own_bytes: usize,
}

impl RowsSnapshot {
    /// No rows of a schema.
    pub fn empty(schema: SchemaRef) -> Self {
        Self { schema, segments: Vec::new(), own_bytes: 0 }
    }

    /// Schema of the rows.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Schema of the rows with some of the columns if `projection` is given.
    ///
    /// # Errors
    /// `Internal` if a projected column is not there.
    pub fn projected_schema(&self, projection: Option<&[usize]>) -> Result<SchemaRef> {
        Ok(match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        })
    }

    /// Reads moved rows from where they are now.
    pub fn follow(&mut self, moved: &HashMap<*const RecordBatch, Arc<RecordBatch>>) {
        for segment in &mut self.segments {
            if let Some(rows) = moved.get(&Arc::as_ptr(&segment.rows)) {
                segment.rows = Arc::clone(rows);
            }
        }
    }

    /// Number of rows, each with its multiplicity.
    pub fn row_count(&self) -> usize {
        let rows = self.segments.iter().map(|segment| segment.live_count as i64 + segment.copies);
        usize::try_from(rows.sum::<i64>()).unwrap_or(0)
    }

    /// The rows, with some of the columns if `projection` is given.
    ///
    /// # Errors
    /// `Internal` if a projected column is not there.
    pub fn batches(&self, projection: Option<&[usize]>) -> Result<Vec<RecordBatch>> {
        let segments = 0..self.segment_count();
        let batches = segments.map(|segment| self.segment_batches(segment, projection));
        Ok(batches.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Number of segments, whose rows can be asked for one after the other.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The rows of a segment, with some of the columns if `projection` is given.
    ///
    /// # Errors
    /// `Internal` if a projected column is not there.
    pub fn segment_batches(
        &self,
        segment: usize,
        projection: Option<&[usize]>,
    ) -> Result<Vec<RecordBatch>> {
        self.segments.get(segment).map_or(Ok(Vec::new()), |it| live_batches(it, projection))
    }

    /// The rows whose `key` columns are equal to one of the rows of `wanted`, and perhaps a few
    /// others: the caller compares. Costs a binary search per segment and wanted key; the first
    /// lookup in a segment indexes it.
    ///
    /// # Errors
    /// `Internal` if a projected column is not there.
    pub fn lookup(
        &self,
        key: &[usize],
        wanted: &[ArrayRef],
        projection: Option<&[usize]>,
    ) -> Result<Vec<RecordBatch>> {
        let mut hashes = hash_rows(wanted, wanted.first().map_or(0, |column| column.len()))?;
        // A key that is wanted twice is found once.
        hashes.sort_unstable();
        hashes.dedup();
        let mut batches = Vec::new();
        for segment in &self.segments {
            let rows = segment.rows_of(key, &hashes)?;
            if !rows.is_empty() {
                let found = match projection {
                    // A projection may leave no column to tell the number of rows.
                    Some([]) | None => take_rows(&segment.rows, &UInt32Array::from(rows))?,
                    Some(columns) => {
                        take_rows(&segment.rows.project(columns)?, &UInt32Array::from(rows))?
                    }
                };
                batches.push(match projection {
                    Some([]) => found.project(&[])?,
                    _ => found,
                });
            }
        }
        Ok(batches)
    }

    /// Memory in bytes that is not the arrangement's: which segments there are, and which of their
    /// rows live.
    pub fn own_bytes(&self) -> usize {
        self.own_bytes
    }
}

fn live_batches(segment: &Segment, projection: Option<&[usize]>) -> Result<Vec<RecordBatch>> {
    let rows = match projection {
        Some(columns) => segment.rows.project(columns)?,
        None => segment.rows.as_ref().clone(),
    };
    if !segment.counts.is_empty() {
        let mut indices = Vec::with_capacity(segment.live_count);
        for row in segment.live_rows() {
            let count = segment.counts.get(&row).copied().unwrap_or(1);
            indices.extend((0..count).map(|_| row));
        }
        let sizes = RowSizes::of(segment.rows.columns());
        let runs = runs_by_bytes(indices.len(), |index| sizes.bytes(indices[index] as usize));
        let batch = |run: Range<usize>| {
            // Taken before the projection, which may leave no column to tell the number of rows.
            let rows = take_rows(&segment.rows, &UInt32Array::from(indices[run].to_vec()))?;
            Ok(match projection {
                Some(columns) => rows.project(columns)?,
                None => rows,
            })
        };
        return runs.into_iter().map(batch).collect();
    }
    if segment.live_count == rows.num_rows() {
        return Ok(vec![rows]);
    }
    let bits = BooleanBuffer::new(Buffer::from_slice_ref(&*segment.live), 0, rows.num_rows());
    Ok(vec![filter_record_batch(&rows, &BooleanArray::new(bits, None))?])
}

mod scan;
#[cfg(test)]
mod tests;

pub use scan::ScanPlace;
