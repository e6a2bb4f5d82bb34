//! [`consolidate`], [`concat`] and [`negate`]: Z-sets as sets.

use std::cell::RefCell;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;

use super::ChangeBatch;
use super::chunks::{BATCH_BYTES_MAX, batch_bytes};
use super::equal::equal_rows;
use super::hash::{hash_bytes, hash_rows, mix};
use super::partition::{partition_evenly, take_rows};
use super::words;
use crate::error::Result;

/// Sums the weights of equal rows and drops the rows whose sum is 0.
///
/// The result has every row once, in the order of first appearance.
///
/// # Errors
/// `Internal` if the batches do not have the schema's columns.
pub fn consolidate(schema: SchemaRef, batches: Vec<ChangeBatch>) -> Result<ChangeBatch> {
    let batch = concat(schema, batches)?;
    if batch.num_rows() == 0 {
        return Ok(batch);
    }
    let (firsts, sums) = sum_weights(&batch)?;
    let all_distinct = firsts.len() == batch.num_rows();
    if all_distinct && batch.weights().is_none() {
        return Ok(batch);
    }
    if all_distinct && sums.iter().all(|sum| *sum != 0) {
        return Ok(batch);
    }
    let (rows, weights): (Vec<u32>, Vec<i64>) =
        firsts.into_iter().zip(sums).filter(|(_, weight)| *weight != 0).unzip();
    let rows = take_rows(batch.rows(), &UInt32Array::from(rows))?;
    with_weights(rows, weights)
}

/// As [`consolidate`], of any size: gives batches of about [`BATCH_BYTES_MAX`] bytes at most, so
/// that no column comes near the 2 GiB that a batch can hold.
///
/// All rows with the same values in the `key` columns are in one of the batches.
///
/// # Errors
/// As [`consolidate`].
pub fn consolidate_in_chunks(
    schema: &SchemaRef,
    batches: Vec<ChangeBatch>,
    key: &[usize],
) -> Result<Vec<ChangeBatch>> {
    let bytes: usize = batches.iter().map(|batch| batch_bytes(batch.rows())).sum();
    let parts = bytes.div_ceil(BATCH_BYTES_MAX);
    if parts <= 1 || key.is_empty() {
        let net = consolidate(Arc::clone(schema), batches)?;
        return Ok(if net.num_rows() > 0 { vec![net] } else { Vec::new() });
    }
    let mut pieces: Vec<Vec<ChangeBatch>> = vec![Vec::new(); parts];
    for batch in batches {
        let split = partition_evenly(&batch, key, parts)?;
        for (pieces, piece) in pieces.iter_mut().zip(split) {
            if piece.num_rows() > 0 {
                pieces.push(piece);
            }
        }
    }
    let net = pieces.into_iter().map(|pieces| consolidate(Arc::clone(schema), pieces));
    net.filter(|net| net.as_ref().map_or(true, |net| net.num_rows() > 0)).collect()
}

/// Puts batches of one schema together.
///
/// # Errors
/// `Internal` if the batches do not have the schema's columns.
pub fn concat(schema: SchemaRef, mut batches: Vec<ChangeBatch>) -> Result<ChangeBatch> {
    if batches.len() <= 1 {
        return Ok(batches.pop().unwrap_or_else(|| ChangeBatch::empty(schema)));
    }
    let rows = concat_batches(&schema, batches.iter().map(ChangeBatch::rows))?;
    if batches.iter().all(|batch| batch.weights().is_none()) {
        return Ok(ChangeBatch::inserts(rows));
    }
    let mut weights = Vec::with_capacity(rows.num_rows());
    for batch in &batches {
        match batch.weights() {
            Some(values) => weights.extend_from_slice(values.values()),
            None => weights.resize(weights.len() + batch.num_rows(), 1),
        }
    }
    Ok(ChangeBatch::try_new(rows, Int64Array::from(weights))?)
}

/// The Z-set with all weights negated.
///
/// # Errors
/// None in practice: the shape stays.
pub fn negate(batch: ChangeBatch) -> Result<ChangeBatch> {
    let (rows, weights) = batch.into_parts();
    match weights {
        None => Ok(ChangeBatch::retractions(rows)),
        Some(weights) => {
            with_weights(rows, weights.values().iter().map(|weight| -weight).collect())
        }
    }
}

/// Rows with weights; no weight column if all are +1.
///
/// # Errors
/// `Internal` if the lengths differ.
pub fn with_weights(rows: RecordBatch, weights: Vec<i64>) -> Result<ChangeBatch> {
    if weights.iter().all(|weight| *weight == 1) && weights.len() == rows.num_rows() {
        return Ok(ChangeBatch::inserts(rows));
    }
    Ok(ChangeBatch::try_new(rows, Int64Array::from(weights))?)
}

/// First row and sum of weights of each distinct row.
fn sum_weights(batch: &ChangeBatch) -> Result<(Vec<u32>, Vec<i64>)> {
    let columns = batch.rows().columns();
    let weights = batch.weights().map(|weights| weights.values().as_ref());
    if let [column] = columns
        && column.null_count() == 0
        && let Some(words) = words::encode(column)
    {
        let hash = |row: usize| mix(words[row], 0);
        return Ok(sum_by(batch.num_rows(), weights, hash, |a, b| words[a] == words[b]));
    }
    if columns.is_empty() {
        return Ok(sum_by(batch.num_rows(), weights, |_| 0, |_, _| true));
    }
    if let Some(summed) = sum_by_hash(columns, batch.num_rows(), weights)? {
        return Ok(summed);
    }
    let rows = row_converter(columns)?.convert_columns(columns)?;
    let hash = |row: usize| hash_bytes(0, rows.row(row).data());
    Ok(sum_by(batch.num_rows(), weights, hash, |a, b| rows.row(a) == rows.row(b)))
}

/// As [`sum_by`], by columns: rows of one hash are taken as equal, and then compared all at once.
/// `None` if two of them are not, which is rare.
fn sum_by_hash(
    columns: &[ArrayRef],
    row_count: usize,
    weights: Option<&[i64]>,
) -> Result<Option<(Vec<u32>, Vec<i64>)>> {
    let hashes = hash_rows(columns, row_count)?;
    let pairs = RefCell::new((Vec::new(), Vec::new()));
    let assume = |first: usize, row: usize| {
        let (firsts, rows) = &mut *pairs.borrow_mut();
        firsts.push(first as u32);
        rows.push(row as u32);
        true
    };
    let summed = sum_by(row_count, weights, |row| hashes[row], assume);
    let (firsts, rows) = pairs.into_inner();
    let count = rows.len();
    let (firsts, rows) = (UInt32Array::from(firsts), UInt32Array::from(rows));
    for column in columns {
        let (first, row) = (take(column, &firsts, None)?, take(column, &rows, None)?);
        if equal_rows(&[first], &[row], count)?.count_set_bits() < count {
            return Ok(None);
        }
    }
    Ok(Some(summed))
}

/// What encodes rows of such columns as bytes.
///
/// # Errors
/// `Internal` for a type that Arrow's row format does not hold.
pub(super) fn row_converter(columns: &[ArrayRef]) -> Result<RowConverter> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?)
}

fn sum_by(
    row_count: usize,
    weights: Option<&[i64]>,
    hash: impl Fn(usize) -> u64,
    equal: impl Fn(usize, usize) -> bool,
) -> (Vec<u32>, Vec<i64>) {
    let mut table: HashTable<(u64, u32)> = HashTable::with_capacity(row_count);
    let mut firsts: Vec<u32> = Vec::with_capacity(row_count);
    let mut sums: Vec<i64> = Vec::with_capacity(row_count);
    for row in 0..row_count {
        let weight = weights.map_or(1, |weights| weights[row]);
        let hash = hash(row);
        let same = |(other, group): &(u64, u32)| {
            *other == hash && equal(firsts[*group as usize] as usize, row)
        };
        if let Some((_, group)) = table.find(hash, same) {
            sums[*group as usize] += weight;
        } else {
            table.insert_unique(hash, (hash, firsts.len() as u32), |(hash, _)| *hash);
            firsts.push(row as u32);
            sums.push(weight);
        }
    }
    (firsts, sums)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Float64Array, StringArray};
    use arrow::datatypes::Float64Type;

    use super::*;

    #[test]
    fn rows_of_one_hash_that_differ_stay_apart() {
        let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, 0.0]));
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a"; 3]));
        let rows = RecordBatch::try_from_iter([("zero", zeros), ("name", names)]).unwrap();
        let hashes = hash_rows(rows.columns(), 3).unwrap();
        assert_eq!(hashes[0], hashes[1]);
        let schema = rows.schema();
        let sum = consolidate(schema, vec![ChangeBatch::inserts(rows)]).unwrap();
        let zeros = sum.rows().column(0).as_primitive::<Float64Type>();
        let bits: Vec<u64> = zeros.values().iter().map(|zero| zero.to_bits()).collect();
        assert_eq!(bits, [0, 1 << 63]);
        assert_eq!(sum.weights().unwrap().values().as_ref(), [2, 1]);
    }

    #[test]
    fn chunks_have_each_row_once_and_the_rows_of_a_key_together() {
        let batch = |round: i64| {
            let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50));
            let names = (0..50).map(|key| format!("{}", (key + round) % 3));
            let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
            let rows = RecordBatch::try_from_iter([("k", keys), ("a", names)]).unwrap();
            let weights = (0..50).map(|key| if (key + round) % 2 == 0 { 1 } else { -1 });
            ChangeBatch::try_new(rows, Int64Array::from_iter_values(weights)).unwrap()
        };
        let batches: Vec<ChangeBatch> = (0..4).map(batch).collect();
        let schema = batches[0].schema();
        let whole = consolidate(Arc::clone(&schema), batches.clone()).unwrap();
        let chunks = consolidate_in_chunks(&schema, batches, &[0]).unwrap();
        assert!(chunks.len() > 4, "{} chunks", chunks.len());
        let mut chunk_of_key = std::collections::HashMap::new();
        for (number, chunk) in chunks.iter().enumerate() {
            for key in chunk.rows().column(0).as_primitive::<arrow::datatypes::Int64Type>().values()
            {
                assert_eq!(*chunk_of_key.entry(*key).or_insert(number), number);
            }
        }
        let rows: usize = chunks.iter().map(ChangeBatch::num_rows).sum();
        assert_eq!(rows, whole.num_rows());
        let again = consolidate(schema, [chunks, vec![negate(whole).unwrap()]].concat()).unwrap();
        assert_eq!(again.num_rows(), 0);
    }
}
