//! INSERT, UPDATE and DELETE on own tables: a query, and what it changes.

use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::DataType;
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;
use frazil_connector_api::ChangeBatch;
use futures::StreamExt;

use super::cached_plans::{Asked, CachedPlan};
use super::lake_table::LakeTables;
use super::query::{self, Planned};
use super::query_runtime::copy;
use super::relation_schema::RelationSchema;
use super::shared::Shared;
use super::table_locks::TableLock;
use super::{Outcome, query_error};
use crate::catalog::{Catalog, Relation};
use crate::change::{batch_bytes, runs_by_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{ReadToWrite, uncancelled};
use crate::sql::{self, Bound, Statement};

mod load;

pub use load::{Load, LoadedRows, shown};

/// How often an UPDATE or DELETE reads before it gives up. From the second time on it holds the
/// table's lock alone, so that only a write whose client has gone can still come between.
const ATTEMPTS_MAX: u32 = 10;

/// The query of a write.
#[derive(Clone)]
enum WritePlan {
    Bound(Box<LogicalPlan>),
    Cached(Arc<CachedPlan>),
}

/// A write that is to begin.
enum Asks {
    Statement(Box<Statement>),
    Cached(Arc<CachedPlan>),
}

/// What is known of a write before anything is written.
enum Begun {
    Insert { table: Arc<Relation>, rows: Vec<RecordBatch> },
    Replace(Box<(Replacement, Attempt)>),
}

/// An UPDATE or DELETE: replaces the rows of a table that a query gives. The new rows, if it
/// `has_new` ones, are the query's columns behind the old ones.
#[derive(Clone)]
struct Replacement {
    table: Arc<Relation>,
    /// What it was bound to.
    catalog: Arc<Catalog>,
    plan: WritePlan,
    params: Vec<ScalarValue>,
    has_new: bool,
}

/// What a [`Replacement`] has read, and what it would write.
struct Attempt {
    lock: TableLock,
    read: ReadToWrite,
    count: usize,
    changes: Vec<ChangeBatch>,
}

/// Runs a write; it is durable and visible in every view when this returns.
///
/// Queries run on their threads, the rest where the engine's tasks are: each change of threads is a
/// part of what a short statement costs.
pub(super) async fn run(
    shared: &Arc<Shared>,
    statement: &Statement,
    params: &[ScalarValue],
) -> Result<Outcome> {
    let tag = statement.kind.tag();
    let catalog = shared.engine.catalog();
    let asks = match shared.plans.get(&catalog, &statement.text, params) {
        Some(cached) => Asks::Cached(cached),
        None => Asks::Statement(Box::new(copy(statement))),
    };
    let begin = begin(Arc::clone(shared), catalog, asks, params.to_vec());
    let count = match shared.queries().await?.run(begin).await? {
        Begun::Insert { table, rows } => {
            let count = row_count(&rows);
            if count > 0 {
                let _lock = shared.locks.shared(table.id).await;
                let changes = rows.into_iter().map(ChangeBatch::inserts).collect();
                shared.engine.write(table.id, changes).await?;
            }
            return Ok(Outcome::command(format!("{tag} 0 {count}")));
        }
        Begun::Replace(begun) => {
            let (replacement, attempt) = *begun;
            // A client that goes away must not give the lock back before the write is decided.
            uncancelled(replace(Arc::clone(shared), replacement, attempt)).await?
        }
    };
    Ok(Outcome::command(format!("{tag} {count}")))
}

/// Evaluates what a write is to write.
async fn begin(
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    asks: Asks,
    params: Vec<ScalarValue>,
) -> Result<Begun> {
    let (asked, plan) = match asks {
        Asks::Cached(cached) => (cached.asked.clone(), WritePlan::Cached(cached)),
        Asks::Statement(statement) => bound(&shared, &catalog, &statement, &params).await?,
    };
    let (table, has_new) = match asked {
        Asked::Insert(table) => {
            let tables = RelationSchema::new(catalog, shared.engine.snapshot());
            let rows = evaluated(&shared, &tables, plan, &params).await?;
            let rows = rows.iter().map(|rows| with_schema(rows, &table));
            let rows = rows.collect::<Result<_>>()?;
            return Ok(Begun::Insert { table, rows });
        }
        Asked::Update(table) => (table, true),
        Asked::Delete(table) => (table, false),
        Asked::Query => return Err(Error::internal("a write was bound to a query")),
    };
    let lock = shared.locks.shared(table.id).await;
    let replacement = Replacement { table, catalog, plan, params, has_new };
    let attempt = replacement.attempt(&shared, lock).await?;
    Ok(Begun::Replace(Box::new((replacement, attempt))))
}

/// Binds a write, and keeps its plan for other values of its parameters.
async fn bound(
    shared: &Shared,
    catalog: &Arc<Catalog>,
    statement: &Statement,
    params: &[ScalarValue],
) -> Result<(Asked, WritePlan)> {
    let lake = LakeTables::load(catalog, statement).await?;
    let bound = sql::bind_with(catalog, statement, &lake)?;
    let tables = RelationSchema::new(Arc::clone(catalog), shared.engine.snapshot());
    shared.keep_plan(catalog, &tables, statement, &bound, params).await?;
    let (asked, plan) = match bound {
        Bound::Insert { table, plan } => (Asked::Insert(table), plan),
        Bound::Update { table, plan } => (Asked::Update(table), plan),
        Bound::Delete { table, plan } => (Asked::Delete(table), plan),
        _ => return Err(Error::internal("a write was bound to something else")),
    };
    Ok((asked, WritePlan::Bound(Box::new(plan))))
}

/// Writes what an attempt would; returns the number of rows.
///
/// The rows are read without a lock. If another statement has written one of their keys meanwhile,
/// the write is refused as a whole, and the statement begins again with what is there by then.
async fn replace(
    shared: Arc<Shared>,
    replacement: Replacement,
    mut attempt: Attempt,
) -> Result<usize> {
    let table = replacement.table.id;
    let mut attempts = 1;
    loop {
        let Attempt { lock, read, count, changes } = attempt;
        if changes.is_empty() {
            return Ok(0);
        }
        match shared.engine.write_after(read, table, changes).await {
            Err(error)
                if error.kind == ErrorKind::SerializationFailure && attempts < ATTEMPTS_MAX =>
            {
                drop(lock);
                attempts += 1;
                let lock = shared.locks.exclusive(table).await;
                let (replacement, owned) = (replacement.clone(), Arc::clone(&shared));
                let again = async move { replacement.attempt(&owned, lock).await };
                attempt = shared.queries().await?.run(again).await?;
            }
            outcome => return outcome.map(|()| count),
        }
    }
}

impl Replacement {
    async fn attempt(&self, shared: &Shared, lock: TableLock) -> Result<Attempt> {
        let read = shared.engine.read_to_write();
        let tables = RelationSchema::new(Arc::clone(&self.catalog), read.snapshot().clone());
        let rows = evaluated(shared, &tables, self.plan.clone(), &self.params).await?;
        let changes = replacement(&rows, &self.table, self.has_new)?;
        Ok(Attempt { lock, read, count: row_count(&rows), changes })
    }
}

/// Old rows out of a table, and new ones in their places once all are out: a new row may have the
/// key of an old one.
fn replacement(rows: &[RecordBatch], table: &Relation, has_new: bool) -> Result<Vec<ChangeBatch>> {
    let width = table.schema.fields().len();
    let parts = |start| rows.iter().map(move |rows| part(rows, start, width, table));
    let old = parts(0).collect::<Result<Vec<_>>>()?;
    if !has_new {
        return Ok(old.into_iter().map(ChangeBatch::retractions).collect());
    }
    let new = parts(width).collect::<Result<Vec<_>>>()?;
    if let ([old], [new]) = (&old[..], &new[..]) {
        // As most are: one batch for all that follows.
        let count = old.num_rows();
        let weights = (0..2 * count).map(|row| if row < count { -1 } else { 1 });
        let both = concat_batches(&table.schema, [old, new])?;
        return Ok(vec![ChangeBatch::try_new(both, Int64Array::from_iter_values(weights))?]);
    }
    let new = new.into_iter().map(ChangeBatch::inserts);
    Ok(old.into_iter().map(ChangeBatch::retractions).chain(new).collect())
}

fn row_count(rows: &[RecordBatch]) -> usize {
    rows.iter().map(RecordBatch::num_rows).sum()
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

/// All rows of a write's query over a snapshot, in batches of bounded size.
async fn evaluated(
    shared: &Shared,
    tables: &RelationSchema,
    plan: WritePlan,
    params: &[ScalarValue],
) -> Result<Vec<RecordBatch>> {
    let planned = match plan {
        WritePlan::Bound(plan) => {
            Planned::attach(shared, tables, *plan).await?.with_params(params)?
        }
        WritePlan::Cached(cached) => Planned::cached(shared, tables, &cached, params).await?,
    };
    let Outcome::Rows { mut stream, .. } = planned.run().await? else {
        return Err(Error::internal("a write's query gave no rows"));
    };
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(query_error)?;
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    combined(&batches)
}

/// Small batches put together.
fn combined(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let runs = runs_by_bytes(batches.len(), |at| batch_bytes(&batches[at]));
    let combined = runs.into_iter().map(|run| match &batches[run] {
        [only] => Ok(only.clone()),
        run => Ok(concat_batches(&run[0].schema(), run)?),
    });
    combined.collect()
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

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, StringArray};

    use super::*;
    use crate::change::BATCH_BYTES_MAX;

    /// A column of text has 32-bit offsets: one batch of all rows would hold 2 GiB at most.
    #[test]
    fn batches_are_put_together_up_to_the_bound() {
        let text = |row: usize| row.to_string().repeat(20);
        let batch = |row| {
            let column = Arc::new(StringArray::from_iter_values([text(row)])) as ArrayRef;
            RecordBatch::try_from_iter([("t", column)]).unwrap()
        };
        let batches: Vec<_> = (0..20).map(batch).collect();
        let combined = combined(&batches).unwrap();
        assert!(combined.len() > 1 && combined.len() < batches.len());
        assert!(combined.iter().all(|batch| batch_bytes(batch) <= BATCH_BYTES_MAX));
        let texts = combined.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter());
        assert!(texts.flatten().eq((0..20).map(text)));
        assert_eq!(row_count(&combined), 20);
    }
}
