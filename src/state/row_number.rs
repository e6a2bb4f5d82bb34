//! [`RowNumber`]: names rows that have no key of their own in durable state.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, UInt64Type};

use super::StateTable;

/// Columns before the rows' own: `__writer`, `__row`.
const NUMBER_COLUMNS: usize = 2;

/// A row's name in a state table `[__writer, __row] -> [column..]`.
///
/// **Invariant:** a writer's number is unique among all workers of all processes that ever wrote
/// to the table (such as fence and worker), and it gives each row another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowNumber {
    /// Who named it.
    pub writer: u64,
    /// Number among the writer's rows.
    pub row: u64,
}

impl RowNumber {
    /// The table of rows with such names and these columns.
    pub fn table(fields: &[FieldRef]) -> StateTable {
        let number = |name: &str| Arc::new(Field::new(name, DataType::UInt64, false));
        let numbers = vec![number("__writer"), number("__row")];
        StateTable {
            schema: Arc::new(Schema::new([numbers, fields.to_vec()].concat())),
            key_columns: NUMBER_COLUMNS,
            row_start: NUMBER_COLUMNS,
        }
    }

    /// Names as columns.
    pub fn columns(numbers: impl Iterator<Item = Self> + Clone) -> Vec<ArrayRef> {
        let writers = UInt64Array::from_iter_values(numbers.clone().map(|number| number.writer));
        let rows = UInt64Array::from_iter_values(numbers.map(|number| number.row));
        vec![Arc::new(writers), Arc::new(rows)]
    }

    /// The names of stored rows, which have the table's columns.
    pub fn of(stored: &RecordBatch) -> Vec<Self> {
        let number = |column: usize| stored.column(column).as_primitive::<UInt64Type>().values();
        let numbers = number(0).iter().zip(number(1));
        numbers.map(|(writer, row)| Self { writer: *writer, row: *row }).collect()
    }

    /// The columns of stored rows after their names.
    pub fn columns_of(stored: &RecordBatch) -> &[ArrayRef] {
        &stored.columns()[NUMBER_COLUMNS..]
    }
}
