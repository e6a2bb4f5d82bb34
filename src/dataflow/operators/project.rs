//! [`Project`]: computes columns.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;

use super::evaluate::evaluate_all;
use super::{EpochInfo, Operator, Output};
use crate::change::ChangeBatch;
use crate::error::Result;

/// Computes the output's columns from each row.
///
/// For input changes `dI` it emits `{f(r) : r in dI}` at once, weights untouched. Linear: no state.
/// The output is not consolidated: `-f(a) +f(b)` comes also when both are equal.
///
/// Shape: one column an expression.
///
/// # Errors
/// What an expression meets in a row.
#[derive(Debug)]
pub struct Project {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl Project {
    /// A projection; `schema` is the output's, one field an expression.
    pub fn new(exprs: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef) -> Self {
        Self { exprs, schema }
    }
}

impl Operator for Project {
    fn name(&self) -> &'static str {
        "project"
    }

    fn on_changes(&mut self, _input: usize, changes: ChangeBatch, out: &mut Output) -> Result<()> {
        let columns = evaluate_all(&self.exprs, changes.rows())?;
        let options = RecordBatchOptions::new().with_row_count(Some(changes.num_rows()));
        let schema = Arc::clone(&self.schema);
        let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
        out.push(changes.with_rows(rows)?);
        Ok(())
    }

    fn on_epoch_end(&mut self, _epoch: &EpochInfo, _out: &mut Output) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::dataflow::operators::testing::{Harness, assert_changes, column, schema};

    #[test]
    fn computes_columns_and_keeps_weights() {
        let input = schema(&[("a", DataType::Int64), ("b", DataType::Utf8)]);
        let output = schema(&[("b", DataType::Utf8), ("again", DataType::Utf8)]);
        let exprs = vec![column(&input, 1), column(&input, 1)];
        let mut project = Harness::new(Project::new(exprs, output), &[input]);
        project.push(0, "+ 1 x\n -3 2 y");
        assert_changes!(project.end(), "+ x x\n -3 y y");
    }
}
