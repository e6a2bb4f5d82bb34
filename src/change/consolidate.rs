//! [`consolidate`], [`concat`] and [`negate`]: Z-sets as sets.

use std::cell::RefCell;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;

use super::ChangeBatch;
use super::equal::equal_rows;
use super::hash::{hash_bytes, hash_rows, mix};
use super::partition::take_rows;
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

fn row_converter(columns: &[ArrayRef]) -> Result<RowConverter> {
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
    use std::sync::Arc;

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
}
