//! [`ChangeBatch`]: rows with signed weights.

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use crate::{ConnectorError, Result};

/// Rows of one schema, each with a signed weight: a piece of a Z-set.
///
/// +1 inserts a row, -1 retracts it; an update is both in one epoch. Within an epoch order does
/// not matter. `weights == None` means that every weight is +1, so that append-only streams carry
/// no weight column at all.
///
/// Shape: `rows` with n rows, `weights` none or n non-null values, none of them 0 by custom.
#[derive(Debug, Clone)]
pub struct ChangeBatch {
    rows: RecordBatch,
    weights: Option<Int64Array>,
}

impl ChangeBatch {
    /// Rows with a weight each.
    ///
    /// # Errors
    /// `Internal` if the lengths differ or a weight is null.
    pub fn try_new(rows: RecordBatch, weights: Int64Array) -> Result<Self> {
        if rows.num_rows() != weights.len() || weights.null_count() > 0 {
            return Err(ConnectorError::internal(
                "weights do not match the rows of a change batch",
            ));
        }
        Ok(Self { rows, weights: Some(weights) })
    }

    /// Every row inserted once.
    pub fn inserts(rows: RecordBatch) -> Self {
        Self { rows, weights: None }
    }

    /// Every row retracted once.
    pub fn retractions(rows: RecordBatch) -> Self {
        let weights = Int64Array::from_value(-1, rows.num_rows());
        Self { rows, weights: Some(weights) }
    }

    /// No rows.
    pub fn empty(schema: SchemaRef) -> Self {
        Self::inserts(RecordBatch::new_empty(schema))
    }

    /// The rows.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// The weights; `None` means all +1.
    pub fn weights(&self) -> Option<&Int64Array> {
        self.weights.as_ref()
    }

    /// The weight of row `index`.
    pub fn weight(&self, index: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights.value(index))
    }

    /// The weights as a column, made when they are implicit.
    pub fn weight_column(&self) -> Int64Array {
        self.weights.clone().unwrap_or_else(|| Int64Array::from_value(1, self.rows.num_rows()))
    }

    /// Number of rows (not the sum of weights).
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// Schema of the rows.
    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    /// The same weights over other rows, as a projection makes them.
    ///
    /// # Errors
    /// `Internal` if the number of rows differs.
    pub fn with_rows(&self, rows: RecordBatch) -> Result<Self> {
        if rows.num_rows() != self.rows.num_rows() {
            return Err(ConnectorError::internal("projected rows do not match their weights"));
        }
        Ok(Self { rows, weights: self.weights.clone() })
    }

    /// Some of the rows, which are not copied.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn slice(&self, start: usize, count: usize) -> Self {
        let weights = self.weights.as_ref().map(|weights| weights.slice(start, count));
        Self { rows: self.rows.slice(start, count), weights }
    }

    /// Takes the batch apart.
    pub fn into_parts(self) -> (RecordBatch, Option<Int64Array>) {
        (self.rows, self.weights)
    }
}
