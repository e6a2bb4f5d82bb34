//! [`equal_rows`] and [`equal_rows_at`]: compare rows pairwise.

use std::ops::Range;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, AsArray, BooleanArray, RecordBatch, downcast_primitive,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::interleave;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::datatypes::{ArrowNativeTypeOp, ArrowPrimitiveType, DataType};
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

/// Rows of batches of one schema.
#[derive(Debug, Clone, Copy)]
pub struct RowsAt<'a> {
    /// The batches.
    pub batches: &'a [&'a RecordBatch],
    /// Batch and row of each.
    pub places: &'a [(usize, usize)],
}

impl<'a> RowsAt<'a> {
    /// Some of the rows.
    pub fn slice(self, rows: Range<usize>) -> Self {
        Self { places: &self.places[rows], ..self }
    }

    fn column(self, column: usize) -> ColumnAt<'a> {
        let arrays = self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
        ColumnAt { arrays, places: self.places }
    }
}

/// The numbers, in ascending order, of the rows of `left` that equal the row of `right` with the
/// same number; NULL equals NULL, floats are compared by their bits' total order.
///
/// Nothing is gathered: most pairs differ, and one value that differs decides. So the columns that
/// cost least are compared first, from the last one on: the first are often keys, which are equal.
///
/// Shape: both have as many rows, and batches of `columns`' types.
///
/// # Errors
/// `Internal` for a nested type that Arrow's row format does not hold.
pub fn equal_rows_at(left: RowsAt<'_>, right: RowsAt<'_>) -> Result<Vec<u32>> {
    let mut equal: Vec<u32> = (0..left.places.len() as u32).collect();
    let Some(first) = left.batches.first() else { return Ok(equal) };
    let schema = first.schema();
    let mut columns: Vec<usize> = (0..schema.fields().len()).rev().collect();
    columns.sort_by_key(|column| !schema.field(*column).data_type().is_primitive());
    for column in columns {
        if equal.is_empty() {
            break;
        }
        let data_type = schema.field(column).data_type();
        keep_equal(data_type, &left.column(column), &right.column(column), &mut equal)?;
    }
    Ok(equal)
}

/// Values of arrays of one type.
struct ColumnAt<'a> {
    arrays: Vec<&'a dyn Array>,
    places: &'a [(usize, usize)],
}

/// Removes the numbers of the values that differ.
fn keep_equal(
    data_type: &DataType,
    left: &ColumnAt<'_>,
    right: &ColumnAt<'_>,
    equal: &mut Vec<u32>,
) -> Result<()> {
    macro_rules! primitive {
        ($t:ty) => {
            keep_equal_primitives::<$t>(left, right, equal)
        };
    }
    downcast_primitive! {
        data_type => (primitive),
        DataType::Boolean => keep(left, right, equal, |array| array.as_boolean(), |a, b| a == b),
        DataType::Utf8 => {
            keep(left, right, equal, |array| array.as_string::<i32>(), |a, b| a == b);
        }
        DataType::LargeUtf8 => {
            keep(left, right, equal, |array| array.as_string::<i64>(), |a, b| a == b);
        }
        DataType::Utf8View => {
            keep(left, right, equal, |array| array.as_string_view(), |a, b| a == b);
        }
        DataType::Binary => {
            keep(left, right, equal, |array| array.as_binary::<i32>(), |a, b| a == b);
        }
        DataType::LargeBinary => {
            keep(left, right, equal, |array| array.as_binary::<i64>(), |a, b| a == b);
        }
        DataType::FixedSizeBinary(_) => {
            keep(left, right, equal, |array| array.as_fixed_size_binary(), |a, b| a == b);
        }
        _ => keep_equal_encoded(data_type, left, right, equal)?,
    }
    Ok(())
}

fn keep_equal_primitives<T: ArrowPrimitiveType>(
    left: &ColumnAt<'_>,
    right: &ColumnAt<'_>,
    equal: &mut Vec<u32>,
) {
    keep(left, right, equal, |array| array.as_primitive::<T>(), |a, b| a.is_eq(b));
}

fn keep<'a, A: ArrayAccessor + Copy>(
    left: &ColumnAt<'a>,
    right: &ColumnAt<'a>,
    equal: &mut Vec<u32>,
    typed: impl Fn(&'a dyn Array) -> A,
    same: impl Fn(A::Item, A::Item) -> bool,
) {
    let of = |column: &ColumnAt<'a>| -> Vec<A> {
        column.arrays.iter().map(|array| typed(*array)).collect()
    };
    let (lefts, rights) = (of(left), of(right));
    equal.retain(|number| {
        let (batch, row) = left.places[*number as usize];
        let (other_batch, other_row) = right.places[*number as usize];
        let (array, other) = (lefts[batch], rights[other_batch]);
        match (array.is_null(row), other.is_null(other_row)) {
            (false, false) => same(array.value(row), other.value(other_row)),
            (is_null, is_other_null) => is_null == is_other_null,
        }
    });
}

/// For types that are not compared in place, such as lists.
fn keep_equal_encoded(
    data_type: &DataType,
    left: &ColumnAt<'_>,
    right: &ColumnAt<'_>,
    equal: &mut Vec<u32>,
) -> Result<()> {
    let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
    let encoded = |column: &ColumnAt<'_>| {
        let places: Vec<_> = equal.iter().map(|number| column.places[*number as usize]).collect();
        let values: ArrayRef = interleave(&column.arrays, &places)?;
        converter.convert_columns(&[values])
    };
    let (lefts, rights) = (encoded(left)?, encoded(right)?);
    let mut at = 0..;
    equal.retain(|_| at.next().is_some_and(|at| lefts.row(at) == rights.row(at)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Float64Array, Int64Array, ListArray, StringArray, StringViewArray,
    };
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(rows: &[Option<i64>]) -> RecordBatch {
        let float = |value: &i64| if *value == 0 { f64::NAN } else { *value as f64 };
        let text = || rows.iter().map(|row| row.map(|value| value.to_string()));
        let columns: [(&str, ArrayRef); 6] = [
            ("long", Arc::new(Int64Array::from(rows.to_vec()))),
            (
                "bool",
                Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.map(|it| it > 5)))),
            ),
            (
                "float",
                Arc::new(Float64Array::from_iter(rows.iter().map(|it| it.as_ref().map(float)))),
            ),
            ("text", Arc::new(StringArray::from_iter(text()))),
            ("view", Arc::new(StringViewArray::from_iter(text()))),
            (
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
                    rows.iter().map(|row| row.map(|value| vec![Some(value), None])),
                )),
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, it)| (name, it, true)))
            .unwrap()
    }

    #[test]
    fn compares_rows_of_any_batch_and_type() {
        let (first, second) = (batch(&[Some(1), None, Some(0)]), batch(&[Some(7), Some(1)]));
        let other = batch(&[None, Some(0), Some(8), Some(1)]);
        let left_places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)];
        let right_places = [(0, 3), (0, 0), (0, 1), (0, 2), (0, 0)];
        let equal = |columns: &[usize]| {
            let of = |batch: &RecordBatch| batch.project(columns).unwrap();
            let (first, second, other) = (of(&first), of(&second), of(&other));
            let left = RowsAt { batches: &[&first, &second], places: &left_places };
            let right = RowsAt { batches: &[&other], places: &right_places };
            equal_rows_at(left, right).unwrap()
        };
        assert_eq!(equal(&[0, 1, 2, 3, 4, 5]), [0, 1, 2]);
        for (column, field) in first.schema().fields().iter().enumerate() {
            // 7 and 8 are both above 5.
            let wanted = if field.name() == "bool" { 0..4 } else { 0..3 };
            assert_eq!(equal(&[column]), wanted.collect::<Vec<u32>>(), "{}", field.name());
        }
        let none = RowsAt { batches: &[], places: &[] };
        assert!(equal_rows_at(none, none).unwrap().is_empty());
    }
}
