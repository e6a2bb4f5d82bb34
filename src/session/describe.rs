//! [`describe`]: what a statement takes and gives, without running it.

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;

use super::shared::Shared;
use super::{Description, Variables, explain, query, query_error, show, write};
use crate::error::Result;
use crate::sql::{Statement, StatementKind, Write, visible_columns};

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
            let params = query::parameter_types([&planned.plan], given)?;
            let columns = Some(columns_of(planned.plan, &params)?);
            Ok(Description { params, columns })
        }
        StatementKind::Insert(_) | StatementKind::Update(_) | StatementKind::Delete(_) => {
            let Write { kind, table, plan, proposal, .. } = write::bind(shared, statement).await?;
            let proposed = proposal.as_ref().map(|proposal| &proposal.plan);
            let params = query::parameter_types(proposed.into_iter().chain([&plan]), given)?;
            let has_rows = plan.schema().fields().len() > kind.width(&table);
            let columns = match has_rows {
                true => write::returned(kind, &table, columns_of(plan, &params)?.as_ref())?,
                false => None,
            };
            Ok(Description { params, columns })
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

/// The columns of a plan with parameters of these types: with NULLs in their places, so that
/// `SELECT $1` has a type.
fn columns_of(plan: LogicalPlan, params: &[Option<DataType>]) -> Result<SchemaRef> {
    let nulls = params.iter().map(|param| null_of(param.as_ref())).collect::<Result<Vec<_>>>()?;
    Ok(visible_columns(&query::with_params(plan, &nulls)?))
}

fn null_of(param: Option<&DataType>) -> Result<ScalarValue> {
    ScalarValue::try_from(param.unwrap_or(&DataType::Utf8)).map_err(query_error)
}
