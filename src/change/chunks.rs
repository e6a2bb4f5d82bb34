//! [`chunks_by_bytes`]: batches of bounded size.
//!
//! An Arrow array has 32-bit offsets into its text, so a batch holds at most 2 GiB of a column.
//! Every step that puts rows of several batches together works in runs of rows of at most
//! [`BATCH_BYTES_MAX`] bytes.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;

use super::ChangeBatch;

/// Bytes of a batch that is put together from others, about; a row that is larger is a batch.
pub const BATCH_BYTES_MAX: usize = if cfg!(test) { 128 } else { 64 << 20 };

/// Bytes that each row of some columns takes.
#[derive(Debug, Clone, Default)]
pub struct RowSizes {
    fixed: usize,
    texts: Vec<Offsets>,
}

#[derive(Debug, Clone)]
enum Offsets {
    Small(OffsetBuffer<i32>),
    Large(OffsetBuffer<i64>),
}

impl RowSizes {
    /// Sizes of the rows of columns; an average for nested types.
    pub fn of(columns: &[ArrayRef]) -> Self {
        let mut sizes = Self::default();
        for column in columns {
            match column.data_type() {
                DataType::Null => {}
                DataType::Boolean => sizes.fixed += 1,
                DataType::FixedSizeBinary(width) => {
                    sizes.fixed += usize::try_from(*width).unwrap_or(0);
                }
                DataType::Utf8 => {
                    let offsets = column.as_string::<i32>().offsets().clone();
                    sizes.texts.push(Offsets::Small(offsets));
                }
                DataType::Binary => {
                    let offsets = column.as_binary::<i32>().offsets().clone();
                    sizes.texts.push(Offsets::Small(offsets));
                }
                DataType::LargeUtf8 => {
                    let offsets = column.as_string::<i64>().offsets().clone();
                    sizes.texts.push(Offsets::Large(offsets));
                }
                DataType::LargeBinary => {
                    let offsets = column.as_binary::<i64>().offsets().clone();
                    sizes.texts.push(Offsets::Large(offsets));
                }
                other => {
                    let average = || array_bytes(column) / column.len().max(1);
                    sizes.fixed += other.primitive_width().unwrap_or_else(average);
                }
            }
        }
        sizes
    }

    /// Bytes of a row.
    #[inline]
    pub fn bytes(&self, row: usize) -> usize {
        let text = |offsets: &Offsets| match offsets {
            Offsets::Small(offsets) => (offsets[row + 1] - offsets[row]) as usize + 4,
            Offsets::Large(offsets) => (offsets[row + 1] - offsets[row]) as usize + 8,
        };
        self.fixed + self.texts.iter().map(text).sum::<usize>()
    }
}

/// Bytes of an array's values, without those of the array that it is a slice of.
fn array_bytes(array: &ArrayRef) -> usize {
    let data = array.to_data();
    data.get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size())
}

/// Bytes of a batch's rows, without those of the batch that it is a slice of.
pub fn batch_bytes(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(array_bytes).sum()
}

/// Cuts `count` rows into runs of at most [`BATCH_BYTES_MAX`] bytes, or of one row.
pub fn runs_by_bytes(count: usize, bytes: impl FnMut(usize) -> usize) -> Vec<Range<usize>> {
    runs_up_to(BATCH_BYTES_MAX, count, bytes)
}

/// Cuts `count` rows into runs of at most `most` bytes, or of one row.
pub fn runs_up_to(
    most: usize,
    count: usize,
    mut bytes: impl FnMut(usize) -> usize,
) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for row in 0..count {
        let size = bytes(row);
        if row > start && sum + size > most {
            runs.push(start..row);
            (start, sum) = (row, 0);
        }
        sum += size;
    }
    if start < count {
        runs.push(start..count);
    }
    runs
}

/// Cuts a batch into slices of at most [`BATCH_BYTES_MAX`] bytes, or of one row; the batch itself
/// if it is no larger. Rows are not copied.
pub fn chunks_by_bytes(rows: &RecordBatch) -> Vec<RecordBatch> {
    let runs = row_runs(rows);
    if runs.len() <= 1 {
        return vec![rows.clone()];
    }
    runs.into_iter().map(|run| rows.slice(run.start, run.len())).collect()
}

/// As [`chunks_by_bytes`], of changes.
pub fn change_chunks(changes: &ChangeBatch) -> Vec<ChangeBatch> {
    let runs = row_runs(changes.rows());
    if runs.len() <= 1 {
        return vec![changes.clone()];
    }
    runs.into_iter().map(|run| changes.slice(run.start, run.len())).collect()
}

fn row_runs(rows: &RecordBatch) -> Vec<Range<usize>> {
    if batch_bytes(rows) <= BATCH_BYTES_MAX {
        return std::iter::once(0..rows.num_rows()).collect();
    }
    let sizes = RowSizes::of(rows.columns());
    runs_by_bytes(rows.num_rows(), |row| sizes.bytes(row))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn rows(lengths: &[usize]) -> RecordBatch {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..lengths.len() as i64));
        let texts = lengths.iter().map(|length| "x".repeat(*length));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        RecordBatch::try_from_iter([("k", keys), ("a", texts)]).unwrap()
    }

    #[test]
    fn chunks_are_bounded_and_together_the_batch() {
        let lengths = [10, 500, 0, 60, 60, 60, 3, 3, 3, 120, 1000];
        let whole = rows(&lengths);
        let weights = Int64Array::from_iter_values((0..lengths.len() as i64).map(|row| row - 5));
        let chunks = chunks_by_bytes(&whole);
        for chunk in &chunks {
            let sizes = RowSizes::of(chunk.columns());
            let bytes: usize = (0..chunk.num_rows()).map(|row| sizes.bytes(row)).sum();
            assert!(bytes <= BATCH_BYTES_MAX || chunk.num_rows() == 1, "{bytes}");
        }
        assert!(chunks.len() > 5);
        assert_eq!(arrow::compute::concat_batches(&whole.schema(), &chunks).unwrap(), whole);
        let changes = ChangeBatch::try_new(whole.clone(), weights.clone()).unwrap();
        let chunks = change_chunks(&changes);
        let found: Vec<i64> =
            chunks.iter().flat_map(|chunk| chunk.weights().unwrap().values().to_vec()).collect();
        assert_eq!(found, weights.values().to_vec());
    }

    #[test]
    fn a_slice_counts_its_own_rows_only() {
        let whole = rows(&[100; 50]);
        assert!(batch_bytes(&whole.slice(3, 1)) < 300);
        let sizes = RowSizes::of(whole.slice(3, 2).columns());
        assert_eq!(sizes.bytes(1), 8 + 100 + 4);
    }
}
