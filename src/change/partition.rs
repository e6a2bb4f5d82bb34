//! Partitioning of changes by key: the exchange's kernel.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take_record_batch;

use super::hash::{hash_rows, mix};
use super::shard::{owner_of, shard_of};
use super::{ChangeBatch, UpsertBatch, UpsertOp};
use crate::error::Result;

/// Splits a batch by the shard of key columns; part `i` of the result goes to worker `i`.
///
/// Equal keys go to the same part in every process. `keys` are columns of the batch.
///
/// # Errors
/// As [`hash_rows`].
pub fn partition_by_key(
    batch: &ChangeBatch,
    keys: &[usize],
    parts: usize,
) -> Result<Vec<ChangeBatch>> {
    let keys: Vec<ArrayRef> =
        keys.iter().map(|key| ArrayRef::clone(batch.rows().column(*key))).collect();
    partition_by(batch, &keys, parts)
}

/// Splits a batch by the hash of evaluated keys, arrays of the batch's length.
///
/// # Errors
/// As [`hash_rows`].
pub fn partition_by(
    batch: &ChangeBatch,
    keys: &[ArrayRef],
    parts: usize,
) -> Result<Vec<ChangeBatch>> {
    if parts <= 1 {
        return Ok(vec![batch.clone()]);
    }
    let hashes = hash_rows(keys, batch.num_rows())?;
    let indices = rows_by_part(&hashes, parts, owner, |_| false);
    indices.into_iter().map(|rows| take_changes(batch, rows)).collect()
}

/// The worker that owns the shard of a hash.
#[inline]
fn owner(hash: u64, workers: usize) -> usize {
    owner_of(shard_of(hash), workers)
}

/// As [`partition_by_key`], by a hash that is spread over all parts also where the rows are those
/// of one worker, which have hashes of one range.
///
/// # Errors
/// As [`hash_rows`].
pub(super) fn partition_evenly(
    batch: &ChangeBatch,
    keys: &[usize],
    parts: usize,
) -> Result<Vec<ChangeBatch>> {
    let keys: Vec<ArrayRef> =
        keys.iter().map(|key| ArrayRef::clone(batch.rows().column(*key))).collect();
    let mut hashes = hash_rows(&keys, batch.num_rows())?;
    hashes.iter_mut().for_each(|hash| *hash = mix(*hash, 1));
    let part_of = |hash, parts| ((u128::from(hash) * parts as u128) >> 64) as usize;
    let indices = rows_by_part(&hashes, parts, part_of, |_| false);
    indices.into_iter().map(|rows| take_changes(batch, rows)).collect()
}

/// Splits changes by key in their order; a truncation goes to every part.
///
/// # Errors
/// As [`hash_rows`].
pub fn partition_upserts(
    batch: &UpsertBatch,
    keys: &[usize],
    parts: usize,
) -> Result<Vec<UpsertBatch>> {
    if parts <= 1 {
        return Ok(vec![batch.clone()]);
    }
    let keys: Vec<ArrayRef> =
        keys.iter().map(|key| ArrayRef::clone(batch.rows().column(*key))).collect();
    let hashes = hash_rows(&keys, batch.num_rows())?;
    let to_all = |row: usize| batch.ops()[row] == UpsertOp::Truncate;
    let indices = rows_by_part(&hashes, parts, owner, to_all);
    indices.into_iter().map(|rows| take_upserts(batch, &rows)).collect()
}

fn rows_by_part(
    hashes: &[u64],
    parts: usize,
    part_of: impl Fn(u64, usize) -> usize,
    to_all: impl Fn(usize) -> bool,
) -> Vec<Vec<u32>> {
    let mut indices = vec![Vec::with_capacity(hashes.len() / parts + 16); parts];
    for (row, hash) in hashes.iter().enumerate() {
        if to_all(row) {
            indices.iter_mut().for_each(|rows| rows.push(row as u32));
        } else {
            indices[part_of(*hash, parts)].push(row as u32);
        }
    }
    indices
}

fn take_changes(batch: &ChangeBatch, rows: Vec<u32>) -> Result<ChangeBatch> {
    let indices = UInt32Array::from(rows);
    let rows = take_rows(batch.rows(), &indices)?;
    let Some(weights) = batch.weights() else {
        return Ok(ChangeBatch::inserts(rows));
    };
    let weights: Vec<i64> =
        indices.values().iter().map(|row| weights.value(*row as usize)).collect();
    Ok(ChangeBatch::try_new(rows, Int64Array::from(weights))?)
}

fn take_upserts(batch: &UpsertBatch, rows: &[u32]) -> Result<UpsertBatch> {
    let ops = rows.iter().map(|row| batch.ops()[*row as usize]).collect();
    let unchanged = batch
        .unchanged()
        .iter()
        .map(|marks| {
            marks.as_ref().map(|marks| {
                BooleanBuffer::collect_bool(rows.len(), |row| marks.value(rows[row] as usize))
            })
        })
        .collect();
    let indices = UInt32Array::from(rows.to_vec());
    let origins = batch.origins().map(|origins| take_rows(origins, &indices)).transpose()?;
    let taken = take_rows(batch.rows(), &indices)?;
    Ok(UpsertBatch::try_new(taken, ops, unchanged)?.with_origins(origins)?)
}

/// Rows by index; also of a batch without columns, whose rows are a number only (`count(*)`).
///
/// # Errors
/// Arrow kernels' only.
pub fn take_rows(rows: &RecordBatch, indices: &UInt32Array) -> Result<RecordBatch> {
    if rows.num_columns() > 0 {
        return Ok(take_record_batch(rows, indices)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), Vec::new(), &options)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn rows(keys: Vec<i64>) -> RecordBatch {
        let keys: ArrayRef = Arc::new(Int64Array::from(keys));
        RecordBatch::try_from_iter([("k", keys)]).unwrap()
    }

    #[test]
    fn keeps_every_row_in_the_part_of_its_key() {
        let batch = ChangeBatch::inserts(rows((0..3000).map(|row| row % 1000).collect()));
        let parts = partition_by_key(&batch, &[0], 3).unwrap();
        assert_eq!(parts.iter().map(ChangeBatch::num_rows).sum::<usize>(), 3000);
        let mut part_of_key = std::collections::HashMap::new();
        for (part, batch) in parts.iter().enumerate() {
            assert!(batch.num_rows() > 600, "part {part} has {} rows", batch.num_rows());
            for key in batch.rows().column(0).as_primitive::<Int64Type>().values() {
                assert_eq!(*part_of_key.entry(*key).or_insert(part), part);
            }
        }
    }

    #[test]
    fn sends_truncations_everywhere_in_order() {
        let ops = vec![UpsertOp::Upsert, UpsertOp::Truncate, UpsertOp::Delete];
        let marks = vec![Some(BooleanBuffer::from(vec![true, false, true]))];
        let batch = UpsertBatch::try_new(rows(vec![7, 0, 7]), ops, marks).unwrap();
        let parts = partition_upserts(&batch, &[0], 2).unwrap();
        let mut counts: Vec<usize> = parts.iter().map(UpsertBatch::num_rows).collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 3]);
        let all = parts.iter().find(|part| part.num_rows() == 3).unwrap();
        assert_eq!(all.ops(), batch.ops());
        assert_eq!(all.unchanged(), batch.unchanged());
    }
}
