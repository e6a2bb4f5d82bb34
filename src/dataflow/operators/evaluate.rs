//! Evaluation of DataFusion's expressions over a batch, with errors as ours.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::prep_null_mask_filter;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};

/// An expression over rows, as an array of their number.
///
/// # Errors
/// What the expression met: `DivisionByZero`, `InvalidValue`, `OutOfRange`.
pub(super) fn evaluate(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<ArrayRef> {
    let value = expr.evaluate(rows).map_err(expression_error)?;
    value.into_array(rows.num_rows()).map_err(expression_error)
}

/// Several expressions over rows.
///
/// # Errors
/// As [`evaluate`].
pub(super) fn evaluate_all(
    exprs: &[Arc<dyn PhysicalExpr>],
    rows: &RecordBatch,
) -> Result<Vec<ArrayRef>> {
    exprs.iter().map(|expr| evaluate(expr, rows)).collect()
}

/// A condition over rows; NULL is false.
///
/// # Errors
/// As [`evaluate`].
pub(super) fn evaluate_condition(
    expr: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
) -> Result<BooleanArray> {
    let values = evaluate(expr, rows)?;
    let mask = values.as_boolean_opt().ok_or_else(|| {
        Error::internal(format!("condition {expr} is of type {}", values.data_type()))
    })?;
    // The kernel takes masks with a validity only.
    Ok(if mask.nulls().is_some() { prep_null_mask_filter(mask) } else { mask.clone() })
}

/// An error of DataFusion's as ours.
pub(super) fn expression_error(error: DataFusionError) -> Error {
    match error {
        DataFusionError::ArrowError(error, _) => Error::from(*error),
        DataFusionError::Context(_, error) | DataFusionError::Diagnostic(_, error) => {
            expression_error(*error)
        }
        DataFusionError::Execution(text) => Error::of_values(&text),
        DataFusionError::External(error) => Error::carried(error.as_ref()),
        DataFusionError::NotImplemented(text) => Error::unsupported(text),
        other => Error::internal(other.to_string()),
    }
}
