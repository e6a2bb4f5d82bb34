//! [`Filter`]: keeps the rows for which a condition is true.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::FilterBuilder;
use datafusion::physical_plan::PhysicalExpr;

use super::evaluate::evaluate_condition;
use super::{EpochInfo, Operator, Output};
use crate::change::ChangeBatch;
use crate::error::Result;

/// Keeps the changes whose row fulfils the predicate; NULL is false.
///
/// For input changes `dI` it emits `{r in dI : p(r)}` at once, weights untouched. Linear: no state.
///
/// Shape: output has the input's columns.
///
/// # Errors
/// What the predicate meets in a row.
#[derive(Debug)]
pub struct Filter {
    predicate: Arc<dyn PhysicalExpr>,
}

impl Filter {
    /// A filter by a boolean expression over the input's columns.
    pub fn new(predicate: Arc<dyn PhysicalExpr>) -> Self {
        Self { predicate }
    }
}

impl Operator for Filter {
    fn name(&self) -> &'static str {
        "filter"
    }

    fn on_changes(&mut self, _input: usize, changes: ChangeBatch, out: &mut Output) -> Result<()> {
        let mask = evaluate_condition(&self.predicate, changes.rows())?;
        out.push(keep(changes, &mask)?);
        Ok(())
    }

    fn on_epoch_end(&mut self, _epoch: &EpochInfo, _out: &mut Output) -> Result<()> {
        Ok(())
    }
}

/// The changes whose bit is set; `mask` has no NULL.
///
/// # Errors
/// Arrow kernels' only.
pub(super) fn keep(changes: ChangeBatch, mask: &BooleanArray) -> Result<ChangeBatch> {
    let kept = mask.true_count();
    if kept == mask.len() {
        return Ok(changes);
    }
    if kept == 0 {
        return Ok(ChangeBatch::empty(changes.schema()));
    }
    let filter = FilterBuilder::new(mask).optimize().build();
    let rows = filter.filter_record_batch(changes.rows())?;
    match changes.weights() {
        None => Ok(ChangeBatch::inserts(rows)),
        Some(weights) => {
            let weights = filter.filter(weights)?;
            Ok(ChangeBatch::try_new(rows, weights.as_primitive().clone())?)
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::dataflow::operators::testing::{Harness, assert_changes, column, schema};

    #[test]
    fn keeps_true_rows_with_their_weights() {
        let schema = schema(&[("a", DataType::Int64), ("keep", DataType::Boolean)]);
        let filter = Filter::new(column(&schema, 1));
        let mut filter = Harness::new(filter, &[schema]);
        filter.push(0, "+ 1 true\n -2 2 true\n + 3 false\n - 4 NULL").push(0, "+ 5 false");
        assert_changes!(filter.end(), "+ 1 true\n -2 2 true");
    }
}
