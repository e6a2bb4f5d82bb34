//! INSERT, UPDATE and DELETE on own tables: a query, and what it changes.

use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;
use frazil_connector_api::{ChangeBatch, Decoded};
use futures::StreamExt;

use super::lake_table::LakeTables;
use super::query::{self, Planned};
use super::relation_schema::RelationSchema;
use super::session_state::Shared;
use super::{Outcome, query_error};
use crate::catalog::Relation;
use crate::error::{Error, ErrorKind, Result};
use crate::job::uncancelled;
use crate::sql::{self, Bound, Statement};

/// Runs a write; it is durable and visible in every view when this returns.
pub(super) async fn run(
    shared: &Arc<Shared>,
    statement: &Statement,
    params: &[ScalarValue],
) -> Result<Outcome> {
    let catalog = shared.engine.catalog();
    let lake = LakeTables::load(&catalog, statement).await?;
    match sql::bind_with(&catalog, statement, &lake)? {
        Bound::Insert { table, plan } => {
            let rows = evaluated(shared, plan, params).await?;
            let rows = with_schema(&rows, &table)?;
            let count = rows.num_rows();
            if count > 0 {
                let changes = Decoded::Changes(ChangeBatch::inserts(rows));
                shared.engine.write(table.id, changes).await?;
            }
            Ok(Outcome::command(format!("INSERT 0 {count}")))
        }
        Bound::Update { table, plan } => {
            let count = replace(shared, table, plan, params, true).await?;
            Ok(Outcome::command(format!("UPDATE {count}")))
        }
        Bound::Delete { table, plan } => {
            let count = replace(shared, table, plan, params, false).await?;
            Ok(Outcome::command(format!("DELETE {count}")))
        }
        _ => Err(Error::internal("a write was bound to something else")),
    }
}

/// Takes rows that a query gives out of a table and, if it `has_new` ones behind them, puts these
/// in their places; one statement a table at a time. Gives the number of rows.
async fn replace(
    shared: &Arc<Shared>,
    table: Arc<Relation>,
    plan: LogicalPlan,
    params: &[ScalarValue],
    has_new: bool,
) -> Result<usize> {
    let (shared, params) = (Arc::clone(shared), params.to_vec());
    uncancelled(async move {
        let _lock = shared.locks.lock(table.id).await;
        let rows = evaluated(&shared, plan, &params).await?;
        let width = table.schema.fields().len();
        let old = part(&rows, 0, width, &table)?;
        let new = has_new.then(|| part(&rows, width, width, &table)).transpose()?;
        let parts: Vec<_> =
            std::iter::once((&old, -1)).chain(new.as_ref().map(|new| (new, 1))).collect();
        change(&shared, &table, &parts).await?;
        Ok(old.num_rows())
    })
    .await
}

/// Types of a write's parameters.
pub(super) async fn parameter_types(
    shared: &Shared,
    statement: &Statement,
    given: &[Option<DataType>],
) -> Result<Vec<Option<DataType>>> {
    let catalog = shared.engine.catalog();
    let lake = LakeTables::load(&catalog, statement).await?;
    match sql::bind_with(&catalog, statement, &lake)? {
        Bound::Insert { plan, .. } | Bound::Update { plan, .. } | Bound::Delete { plan, .. } => {
            query::parameter_types(&plan, given)
        }
        _ => Err(Error::internal("a write was bound to something else")),
    }
}

/// All rows of a write's query, over the newest snapshot: an UPDATE that waited for the lock sees
/// what was written before it.
async fn evaluated(
    shared: &Shared,
    plan: LogicalPlan,
    params: &[ScalarValue],
) -> Result<RecordBatch> {
    let tables = RelationSchema::new(shared.engine.catalog(), shared.engine.snapshot());
    let planned = Planned::attach(shared, &tables, plan)?.with_params(params)?;
    let Outcome::Rows { schema, mut stream } = planned.run().await? else {
        return Err(Error::internal("a write's query gave no rows"));
    };
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch.map_err(query_error)?);
    }
    let schema: SchemaRef = batches.first().map_or(schema, RecordBatch::schema);
    Ok(concat_batches(&schema, &batches)?)
}

/// Some columns of a batch, as rows of the table.
fn part(both: &RecordBatch, start: usize, width: usize, table: &Relation) -> Result<RecordBatch> {
    let columns: Vec<usize> = (start..start + width).collect();
    with_schema(&both.project(&columns)?, table)
}

/// The rows under the table's own schema.
///
/// # Errors
/// `NotNullViolation`.
fn with_schema(rows: &RecordBatch, table: &Relation) -> Result<RecordBatch> {
    let schema = Arc::clone(&table.schema);
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        if !field.is_nullable() && column.null_count() > 0 {
            let (column, table) = (field.name(), &table.name);
            return Err(Error::new(
                ErrorKind::NotNullViolation,
                format!(
                    "null value in column \"{column}\" of relation \"{table}\" violates \
                     not-null constraint"
                ),
            ));
        }
    }
    // A parameter comes in the client's own type.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = schema.fields().iter().zip(rows.columns());
    let columns = columns.map(|(field, column)| match column.data_type() {
        own if own == field.data_type() => Ok(Arc::clone(column)),
        _ => cast_with_options(column, field.data_type(), &options),
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Writes batches with a weight each as one set of changes.
async fn change(shared: &Shared, table: &Relation, parts: &[(&RecordBatch, i64)]) -> Result<()> {
    let weights =
        parts.iter().flat_map(|(rows, weight)| (0..rows.num_rows()).map(move |_| *weight));
    let weights = Int64Array::from_iter_values(weights);
    if weights.is_empty() {
        return Ok(());
    }
    let rows = concat_batches(&table.schema, parts.iter().map(|(rows, _)| *rows))?;
    let changes = ChangeBatch::try_new(rows, weights)?;
    shared.engine.write(table.id, Decoded::Changes(changes)).await
}
