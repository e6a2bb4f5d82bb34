//! [`Union`]: the sum of inputs.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::{Operator, Output};
use crate::change::ChangeBatch;
use crate::error::Result;

/// Passes the changes of every input on: UNION ALL. Linear: no state.
///
/// Shape: every input has columns of the output's types; names are the output's.
///
/// # Errors
/// `Internal` if an input's columns are of other types.
#[derive(Debug)]
pub struct Union {
    schema: SchemaRef,
}

impl Union {
    /// A union of any number of inputs; `schema` is the output's.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }
}

impl Operator for Union {
    fn name(&self) -> &'static str {
        "union"
    }

    fn on_changes(&mut self, _input: usize, changes: ChangeBatch, out: &mut Output) -> Result<()> {
        if changes.schema() == self.schema {
            out.push(changes);
            return Ok(());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(changes.num_rows()));
        let columns = changes.rows().columns().to_vec();
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        out.push(changes.with_rows(rows)?);
        Ok(())
    }

    fn on_epoch_end(&mut self, _out: &mut Output) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::dataflow::operators::testing::{Harness, assert_changes, schema};

    #[test]
    fn passes_all_inputs_under_its_own_names() {
        let (first, second) =
            (schema(&[("a", DataType::Int64)]), schema(&[("b", DataType::Int64)]));
        let mut union = Harness::new(Union::new(Arc::clone(&first)), &[Arc::clone(&first), second]);
        union.push(0, "+ 1").push(1, "- 1\n + 2");
        let output = union.end();
        assert!(output.iter().all(|batch| batch.schema() == first));
        assert_changes!(output, "+ 1\n - 1\n + 2");
    }
}
