//! INSERT, UPDATE and DELETE on own tables: a query, and what it changes.

use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;
use frazil_connector_api::ChangeBatch;
use futures::StreamExt;

use super::lake_table::LakeTables;
use super::query::{self, Planned};
use super::relation_schema::RelationSchema;
use super::session_state::Shared;
use super::{Outcome, query_error};
use crate::catalog::Relation;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Snapshot, uncancelled};
use crate::sql::{self, Bound, Statement};

/// How often an UPDATE or DELETE reads before it gives up. From the second time on it holds the
/// table's lock alone, so that only a write whose client has gone can still come between.
const ATTEMPTS_MAX: u32 = 10;

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
            let rows = evaluated(shared, &shared.engine.snapshot(), plan, params).await?;
            let rows = with_schema(&rows, &table)?;
            let count = rows.num_rows();
            if count > 0 {
                let _lock = shared.locks.shared(table.id).await;
                shared.engine.write(table.id, ChangeBatch::inserts(rows)).await?;
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

/// Replaces the rows of a table that a query gives; the new rows, if it `has_new` ones, are the
/// query's columns behind the old ones. Returns the number of rows.
///
/// The rows are read without a lock. If another statement has written one of their keys meanwhile,
/// the write is refused as a whole, and the statement begins again with what is there by then.
async fn replace(
    shared: &Arc<Shared>,
    table: Arc<Relation>,
    plan: LogicalPlan,
    params: &[ScalarValue],
    has_new: bool,
) -> Result<usize> {
    let (shared, params) = (Arc::clone(shared), params.to_vec());
    uncancelled(async move {
        let mut lock = shared.locks.shared(table.id).await;
        let mut attempts = 1;
        loop {
            let read = shared.engine.read_to_write();
            let rows = evaluated(&shared, read.snapshot(), plan.clone(), &params).await?;
            let count = rows.num_rows();
            let Some(changes) = replacement(&rows, &table, has_new)? else { return Ok(0) };
            match shared.engine.write_after(read, table.id, changes).await {
                Err(error)
                    if error.kind == ErrorKind::SerializationFailure && attempts < ATTEMPTS_MAX =>
                {
                    drop(lock);
                    attempts += 1;
                    lock = shared.locks.exclusive(table.id).await;
                }
                outcome => return outcome.map(|()| count),
            }
        }
    })
    .await
}

/// Old rows out of a table, and new ones in their places; `None` if there are none.
fn replacement(rows: &RecordBatch, table: &Relation, has_new: bool) -> Result<Option<ChangeBatch>> {
    let count = rows.num_rows();
    if count == 0 {
        return Ok(None);
    }
    let width = table.schema.fields().len();
    let old = part(rows, 0, width, table)?;
    if !has_new {
        return Ok(Some(ChangeBatch::retractions(old)));
    }
    let new = part(rows, width, width, table)?;
    let weights = (0..2 * count).map(|row| if row < count { -1 } else { 1 });
    let both = concat_batches(&table.schema, [&old, &new])?;
    Ok(Some(ChangeBatch::try_new(both, Int64Array::from_iter_values(weights))?))
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

/// All rows of a write's query over a snapshot.
async fn evaluated(
    shared: &Shared,
    snapshot: &Snapshot,
    plan: LogicalPlan,
    params: &[ScalarValue],
) -> Result<RecordBatch> {
    let tables = RelationSchema::new(shared.engine.catalog(), snapshot.clone());
    let planned = Planned::attach(shared, &tables, plan).await?.with_params(params)?;
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
