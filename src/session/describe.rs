//! [`describe`]: what a statement takes and gives, without running it.

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::shared::Shared;
use super::{Description, Variables, explain, query, query_error, show, write};
use crate::error::Result;
use crate::sql::{Statement, StatementKind, visible_columns};

/// What a statement takes and gives.
pub(super) async fn describe(
    shared: &Shared,
    variables: &Variables,
    statement: &Statement,
    given: &[Option<DataType>],
) -> Result<Description> {
    match &statement.kind {
        StatementKind::Query(_) => {
            let planned = query::plan(shared, variables, statement, &[]).await?;
            let params = query::parameter_types(&planned.plan, given)?;
            // With typed NULLs in their places, so that `SELECT $1` has a type.
            let nulls =
                params.iter().map(|param| null_of(param.as_ref())).collect::<Result<Vec<_>>>()?;
            let planned = planned.with_params(&nulls)?;
            Ok(Description { params, columns: Some(visible_columns(&planned.plan)) })
        }
        StatementKind::Insert(_) | StatementKind::Update(_) | StatementKind::Delete(_) => {
            let params = write::parameter_types(shared, statement, given).await?;
            Ok(Description { params, columns: None })
        }
        StatementKind::Declare(declare) => {
            let query = Box::pin(describe(shared, variables, &declare.query, given)).await?;
            Ok(Description { columns: None, ..query })
        }
        StatementKind::Show(what) => {
            let batch = show::show(&shared.engine, variables, what)?;
            Ok(Description { params: Vec::new(), columns: Some(batch.schema()) })
        }
        StatementKind::Explain(_) => {
            let columns = Some(explain::columns());
            Ok(Description { params: Vec::new(), columns })
        }
        _ => Ok(Description::default()),
    }
}

fn null_of(param: Option<&DataType>) -> Result<ScalarValue> {
    ScalarValue::try_from(param.unwrap_or(&DataType::Utf8)).map_err(query_error)
}
