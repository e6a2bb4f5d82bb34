//! [`equal_rows`]: compares rows of two batches pairwise.

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::row::{RowConverter, SortField};

use crate::error::Result;

/// Bit i: row i of `left` equals row i of `right`; NULL equals NULL.
///
/// # Errors
/// `Internal` if the columns' types differ.
pub fn equal_rows(
    left: &[ArrayRef],
    right: &[ArrayRef],
    row_count: usize,
) -> Result<BooleanBuffer> {
    let mut equal = BooleanBuffer::new_set(row_count);
    for (left, right) in left.iter().zip(right) {
        equal = &equal & equal_values(left, right)?.values();
    }
    Ok(equal)
}

fn equal_values(left: &ArrayRef, right: &ArrayRef) -> Result<BooleanArray> {
    if !left.data_type().is_nested() {
        return Ok(not_distinct(left, right)?);
    }
    let converter = RowConverter::new(vec![SortField::new(left.data_type().clone())])?;
    let left = converter.convert_columns(std::slice::from_ref(left))?;
    let right = converter.convert_columns(std::slice::from_ref(right))?;
    let bits = BooleanBuffer::collect_bool(left.num_rows(), |row| left.row(row) == right.row(row));
    Ok(BooleanArray::new(bits, None))
}
