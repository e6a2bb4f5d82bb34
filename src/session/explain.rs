//! EXPLAIN: a plan as text.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::Outcome;
use super::outcome::{SELECT, rows};
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::plan;
use crate::sql::{self, Bound, Explain, ExtraTables, Statement};

/// Its one column, as in PostgreSQL.
pub(super) fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8, false)]))
}

/// Plans a statement and shows the plan, a line a row.
pub(super) fn run(
    shared: &Shared,
    statement: &Statement,
    extra: &dyn ExtraTables,
) -> Result<Outcome> {
    let text = match sql::bind_with(&shared.engine.catalog(), statement, extra)? {
        Bound::Explain(Explain::Batch(plan)) => {
            sql::visible_text(&plan.display_indent().to_string())
        }
        Bound::Explain(Explain::Incremental(plan)) => sql::visible_text(&plan::explain(&plan)),
        _ => return Err(Error::internal("EXPLAIN was bound to something else")),
    };
    let column = Arc::new(StringArray::from(text.lines().collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(columns(), vec![column])?;
    Ok(rows(batch.schema(), [batch], SELECT))
}
