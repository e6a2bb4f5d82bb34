//! INSERT, UPDATE and DELETE on own tables: a query, and what it changes.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, is_not_null};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::MemTable;
use datafusion::scalar::ScalarValue;
use frazil_connector_api::ChangeBatch;

use super::Outcome;
use super::cached_plans::{Asked, CachedPlan};
use super::lake_table::LakeTables;
use super::outcome::rows;
use super::query::Planned;
use super::query_runtime::copy;
use super::relation_schema::RelationSchema;
use super::shared::Shared;
use super::table_locks::TableLock;
use crate::catalog::{Catalog, Relation};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{ReadToWrite, Snapshot, uncancelled};
use crate::sql::{self, Bound, Proposal, Statement, Write, WriteKind};

mod conflicts;
mod create_table_as;
mod load;
mod numbers;
mod table_rows;

use conflicts::beside_current;
pub(super) use create_table_as::create_table_as;
use numbers::numbered;
use table_rows::{all_rows, first_of_keys, part, row_count, with_schema};

pub use load::{Load, LoadedRows, shown};

/// How often an UPDATE or DELETE reads before it gives up. From the second time on it holds the
/// table's lock alone, so that only a write whose client has gone can still come between.
const ATTEMPTS_MAX: u32 = 10;

/// The query of a write.
#[derive(Clone)]
enum WritePlan {
    Bound(Box<Write>),
    Cached(Arc<CachedPlan>),
}

/// A write that is to begin.
enum Asks {
    Statement(Box<Statement>),
    Planned(WritePlan),
}

/// What is known of a write before anything is written.
enum Begun {
    Insert { table: Arc<Relation>, written: Written },
    Replace(Box<(Replacement, Attempt)>),
}

/// A write that depends on rows of its table.
#[derive(Clone)]
struct Replacement {
    kind: WriteKind,
    table: Arc<Relation>,
    /// What it was bound to.
    catalog: Arc<Catalog>,
    plan: WritePlan,
    params: Vec<ScalarValue>,
}

/// What a [`Replacement`] has read, and what it would write.
struct Attempt {
    lock: TableLock,
    read: ReadToWrite,
    written: Written,
}

/// What a write's query says.
struct Written {
    /// Number of rows.
    count: usize,
    changes: Vec<ChangeBatch>,
    /// Columns and rows of RETURNING.
    returned: Option<(SchemaRef, Vec<RecordBatch>)>,
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
    let catalog = shared.engine.catalog();
    let asks = match shared.plans.get(&catalog, &statement.text, params) {
        Some(cached) => Asks::Planned(WritePlan::Cached(cached)),
        None => Asks::Statement(Box::new(copy(statement))),
    };
    let Written { count, returned, .. } = write(shared, catalog, asks, params).await?;
    let tag = match statement.kind.tag() {
        "INSERT" => "INSERT 0",
        tag => tag,
    };
    Ok(match returned {
        Some((columns, batches)) => rows(columns, batches, tag),
        None => Outcome::command(format!("{tag} {count}")),
    })
}

/// Runs TRUNCATE, a table after the other.
pub(super) async fn truncate(shared: &Arc<Shared>, statement: &Statement) -> Result<Outcome> {
    let catalog = shared.engine.catalog();
    let Bound::Truncate(writes) = sql::bind(&catalog, statement)? else {
        return Err(Error::internal("TRUNCATE was bound to something else"));
    };
    for all in writes {
        let asks = Asks::Planned(WritePlan::Bound(Box::new(all)));
        write(shared, Arc::clone(&catalog), asks, &[]).await?;
    }
    Ok(Outcome::command(statement.kind.tag()))
}

/// Runs a write to its end.
async fn write(
    shared: &Arc<Shared>,
    catalog: Arc<Catalog>,
    asks: Asks,
    params: &[ScalarValue],
) -> Result<Written> {
    let begin = begin(Arc::clone(shared), catalog, asks, params.to_vec());
    Ok(match shared.queries().await?.run(begin).await? {
        Begun::Insert { table, mut written } => {
            let changes = std::mem::take(&mut written.changes);
            if !changes.is_empty() {
                let _lock = shared.locks.shared(table.id).await;
                shared.engine.write(table.id, changes).await?;
            }
            written
        }
        Begun::Replace(begun) => {
            let (replacement, attempt) = *begun;
            // A client that goes away must not give the lock back before the write is decided.
            uncancelled(replace(Arc::clone(shared), replacement, attempt)).await?
        }
    })
}

/// Evaluates what a write is to write.
async fn begin(
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    asks: Asks,
    params: Vec<ScalarValue>,
) -> Result<Begun> {
    let plan = match asks {
        Asks::Planned(plan) => plan,
        Asks::Statement(statement) => {
            WritePlan::Bound(bound(&shared, &catalog, &statement, &params).await?)
        }
    };
    let (kind, table) = match &plan {
        WritePlan::Bound(write) => (write.kind, Arc::clone(&write.table)),
        WritePlan::Cached(cached) => match &cached.asked {
            Asked::Write(kind, table) => (*kind, Arc::clone(table)),
            Asked::Query => return Err(Error::internal("a write was bound to a query")),
        },
    };
    if kind == WriteKind::Insert {
        let tables = RelationSchema::new(catalog, shared.engine.snapshot());
        let rows = all_rows(plan.planned(&shared, &tables, &params).await?).await?;
        return Ok(Begun::Insert { written: written(kind, &table, rows)?, table });
    }
    let lock = shared.locks.shared(table.id).await;
    let replacement = Replacement { kind, table, catalog, plan, params };
    let attempt = replacement.attempt(&shared, lock).await?;
    Ok(Begun::Replace(Box::new((replacement, attempt))))
}

/// Binds a write, and keeps its plan for other values of its parameters.
async fn bound(
    shared: &Shared,
    catalog: &Arc<Catalog>,
    statement: &Statement,
    params: &[ScalarValue],
) -> Result<Box<Write>> {
    let lake = LakeTables::load(catalog, statement).await?;
    let bound = sql::bind_with(catalog, statement, &lake)?;
    let tables = RelationSchema::new(Arc::clone(catalog), shared.engine.snapshot());
    shared.keep_plan(catalog, &tables, statement, &bound, params).await?;
    match bound {
        Bound::Write(write) => Ok(write),
        _ => Err(Error::internal("a write was bound to something else")),
    }
}

/// Writes what an attempt would, and tells what that was.
///
/// The rows are read without a lock. If another statement has written one of their keys meanwhile,
/// the write is refused as a whole, and the statement begins again with what is there by then.
async fn replace(
    shared: Arc<Shared>,
    replacement: Replacement,
    mut attempt: Attempt,
) -> Result<Written> {
    let table = replacement.table.id;
    let mut attempts = 1;
    loop {
        let Attempt { lock, read, mut written } = attempt;
        let changes = std::mem::take(&mut written.changes);
        if changes.is_empty() {
            return Ok(written);
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
            outcome => return outcome.map(|()| written),
        }
    }
}

impl Replacement {
    async fn attempt(&self, shared: &Arc<Shared>, lock: TableLock) -> Result<Attempt> {
        let read = shared.engine.read_to_write();
        let mut tables = RelationSchema::new(Arc::clone(&self.catalog), read.snapshot().clone());
        if let WritePlan::Bound(write) = &self.plan
            && let Some(proposal) = &write.proposal
        {
            let conflicts = self.conflicts(shared, &tables, proposal, read.snapshot()).await?;
            tables = tables.with_conflicts(Arc::new(conflicts));
        }
        let mut rows = all_rows(self.plan.planned(shared, &tables, &self.params).await?).await?;
        if matches!(&self.plan, WritePlan::Bound(write) if write.is_joined) {
            rows.1 = first_of_keys(rows.1, &self.table)?;
        }
        Ok(Attempt { lock, read, written: written(self.kind, &self.table, rows)? })
    }

    /// The rows that INSERT … ON CONFLICT proposes, beside those that the snapshot has.
    async fn conflicts(
        &self,
        shared: &Arc<Shared>,
        tables: &RelationSchema,
        proposal: &Proposal,
        snapshot: &Snapshot,
    ) -> Result<MemTable> {
        let proposed =
            Planned::attach(shared, tables, numbered(proposal.plan.clone(), &self.table, shared)?)
                .await?;
        let (_, proposed) = all_rows(proposed.with_params(&self.params)?).await?;
        let proposed = proposed.iter().map(|rows| with_schema(rows, &self.table));
        let proposed = proposed.collect::<Result<Vec<_>>>()?;
        let Some(rows) = snapshot.relation(self.table.id) else {
            return Err(Error::internal("a table has no rows to write to"));
        };
        beside_current(&proposed, &self.table, &rows, proposal.updates).await
    }
}

impl WritePlan {
    /// The query over a snapshot, with the values of parameters.
    async fn planned(
        &self,
        shared: &Arc<Shared>,
        tables: &RelationSchema,
        params: &[ScalarValue],
    ) -> Result<Planned> {
        match self {
            Self::Bound(write) => {
                let plan = numbered(write.plan.clone(), &write.table, shared)?;
                Planned::attach(shared, tables, plan).await?.with_params(params)
            }
            Self::Cached(cached) => Planned::cached(shared, tables, cached, params).await,
        }
    }
}

/// The columns of RETURNING among those of a write's query; `None` if there is none.
pub(super) fn returned(
    kind: WriteKind,
    table: &Relation,
    columns: &Schema,
) -> Result<Option<SchemaRef>> {
    let returned: Vec<usize> = (kind.width(table)..columns.fields().len()).collect();
    if returned.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(columns.project(&returned)?)))
}

/// What the rows of a write's query say.
fn written(
    kind: WriteKind,
    table: &Relation,
    (columns, rows): (SchemaRef, Vec<RecordBatch>),
) -> Result<Written> {
    let width = table.schema.fields().len();
    let parts = |start: usize| {
        rows.iter().map(|rows| part(rows, start, width, table)).collect::<Result<Vec<_>>>()
    };
    let changes = match kind {
        WriteKind::Insert => parts(0)?.into_iter().map(ChangeBatch::inserts).collect(),
        WriteKind::Delete => parts(0)?.into_iter().map(ChangeBatch::retractions).collect(),
        WriteKind::Update => replacement(parts(0)?, parts(width)?, table)?,
        WriteKind::Merge => {
            refuse_repeated(&rows, 2 * width)?;
            let old = rows.iter().map(|rows| current_rows(rows, table));
            replacement(old.collect::<Result<_>>()?, parts(width)?, table)?
        }
    };
    let start = kind.width(table);
    let given = |columns: SchemaRef| {
        let of_rows: Vec<usize> = (start..start + columns.fields().len()).collect();
        let batches = rows.iter().map(|rows| Ok(rows.project(&of_rows)?));
        batches.collect::<Result<Vec<_>>>().map(|batches| (columns, batches))
    };
    let returned = returned(kind, table, &columns)?.map(given).transpose()?;
    Ok(Written { count: row_count(&rows), changes, returned })
}

/// The old rows of [`WriteKind::Merge`], where there are any: their keys are not NULL.
fn current_rows(rows: &RecordBatch, table: &Relation) -> Result<RecordBatch> {
    let key = table.upsert_key.as_ref().and_then(|key| key.first()).copied().unwrap_or(0);
    let is_there = is_not_null(rows.column(key))?;
    let columns: Vec<usize> = (0..table.schema.fields().len()).collect();
    with_schema(&filter_record_batch(&rows.project(&columns)?, &is_there)?, table)
}

/// Refuses to write a key twice by one INSERT … ON CONFLICT: which of its rows would stay?
fn refuse_repeated(rows: &[RecordBatch], again: usize) -> Result<()> {
    let is_repeated = |rows: &RecordBatch| rows.column(again).as_boolean().true_count() > 0;
    if !rows.iter().any(is_repeated) {
        return Ok(());
    }
    let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
    let hint = "ensure that no rows proposed for insertion within the same command have duplicate \
                constrained values";
    Err(Error::new(ErrorKind::Cardinality, message).with_hint(hint))
}

/// Old rows out of a table, and new ones in their places once all are out: a new row may have the
/// key of an old one.
fn replacement(
    old: Vec<RecordBatch>,
    new: Vec<RecordBatch>,
    table: &Relation,
) -> Result<Vec<ChangeBatch>> {
    if let ([old], [new]) = (&old[..], &new[..]) {
        // As most are: one batch for all that follows.
        let count = old.num_rows();
        let weights = (0..count + new.num_rows()).map(|row| if row < count { -1 } else { 1 });
        let both = concat_batches(&table.schema, [old, new])?;
        return Ok(vec![ChangeBatch::try_new(both, Int64Array::from_iter_values(weights))?]);
    }
    let new = new.into_iter().map(ChangeBatch::inserts);
    let old = old.into_iter().filter(|rows| rows.num_rows() > 0).map(ChangeBatch::retractions);
    Ok(old.chain(new).collect())
}

/// Binds a write in order to describe it.
pub(super) async fn bind(shared: &Shared, statement: &Statement) -> Result<Write> {
    let catalog = shared.engine.catalog();
    let lake = LakeTables::load(&catalog, statement).await?;
    match sql::bind_with(&catalog, statement, &lake)? {
        Bound::Write(write) => Ok(*write),
        _ => Err(Error::internal("a write was bound to something else")),
    }
}
