//! [`Session`]: one client; [`Sessions`]: what all clients of an engine share.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use futures::{FutureExt, StreamExt};

#[cfg(test)]
use super::cached_plans::CachedPlans;
use super::describe::describe;
use super::failure::panic_error;
use super::outcome::{SELECT, rows};
use super::query_runtime::{Deadline, copy};
use super::shared::Shared;
use super::{Description, Outcome, Variables, query, show, write};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Engine, PipelineRunState};
use crate::sql::{self, Bound, Drop, Statement, StatementKind, Transaction};

mod cursors;
mod held;
mod open_transaction;
mod prepared_statements;

use cursors::Cursors;
use open_transaction::OpenTransaction;
pub use prepared_statements::PreparedStatement;
use prepared_statements::PreparedStatements;

/// Makes sessions of one engine.
#[derive(Debug, Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

impl Sessions {
    /// Sessions over an engine.
    pub fn new(engine: Engine) -> Self {
        Self { shared: Arc::new(Shared::new(engine)) }
    }

    /// The plans that are kept.
    #[cfg(test)]
    pub(super) fn plans(&self) -> &CachedPlans {
        &self.shared.plans
    }

    /// A session for one client.
    pub fn open(&self) -> Session {
        Session {
            shared: Arc::clone(&self.shared),
            variables: Variables::default(),
            prepared: PreparedStatements::default(),
            cursors: Cursors::default(),
            transaction: None,
        }
    }
}

/// One client: its variables, prepared statements and cursors, and its transaction.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    variables: Variables,
    prepared: PreparedStatements,
    cursors: Cursors,
    transaction: Option<Box<OpenTransaction>>,
}

impl Session {
    /// A session that shares nothing with others. Clients of one engine that may write to the same
    /// tables come from one [`Sessions`].
    pub fn new(engine: Engine) -> Self {
        Sessions::new(engine).open()
    }

    /// The statements of a text.
    ///
    /// # Errors
    /// `Syntax` with the place.
    pub fn parse(&self, text: &str) -> Result<Vec<Statement>> {
        sql::parse(text)
    }

    /// The settings.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// Sets a variable; gives a notice if nothing here knows it.
    ///
    /// # Errors
    /// `InvalidParameter`.
    pub fn set_variable(&mut self, name: &str, value: &str) -> Result<Option<String>> {
        self.variables.set(name, value)
    }

    /// Whether a statement may run in a transaction that has failed.
    pub fn ends_transaction(statement: &Statement) -> bool {
        let kind = &statement.kind;
        matches!(
            kind,
            StatementKind::Transaction(
                Transaction::Commit | Transaction::Rollback | Transaction::RollbackTo(_)
            )
        )
    }

    /// Runs a statement with values of `$1`, `$2` ….
    ///
    /// # Errors
    /// What planning, the engine or the rows say; `Internal` for a panic.
    pub async fn execute(
        &mut self,
        statement: &Statement,
        params: &[ScalarValue],
    ) -> Result<Outcome> {
        let mut deadline = self.variables.statement_timeout().map(Deadline::after);
        // On the heap: what wraps it would copy it on the stack, which test threads have little of.
        let dispatched = Box::pin(self.dispatch(statement, params));
        let dispatched = AssertUnwindSafe(dispatched).catch_unwind();
        let dispatched = dispatched
            .map(|outcome| outcome.unwrap_or_else(|panic| Err(panic_error(panic.as_ref()))));
        let outcome = match &mut deadline {
            None => dispatched.await,
            Some(deadline) => deadline.bound(dispatched).await,
        };
        match outcome? {
            Outcome::Rows { schema, stream, tag } => {
                let stream = guarded(Arc::clone(&schema), stream);
                let stream = match deadline {
                    None => stream,
                    Some(deadline) => deadline.bound_rows(stream),
                };
                Ok(Outcome::Rows { schema, stream, tag })
            }
            command => Ok(command),
        }
    }

    /// What a statement takes and gives; `given` are the types that the client has told.
    ///
    /// # Errors
    /// What planning says.
    pub async fn describe(
        &mut self,
        statement: &Statement,
        given: &[Option<DataType>],
    ) -> Result<Description> {
        if let StatementKind::Execute(execute) = &statement.kind {
            let columns = self.prepared.get(&execute.name)?.description.columns.clone();
            return Ok(Description { params: Vec::new(), columns });
        }
        if let StatementKind::Fetch(fetch) = &statement.kind {
            let columns = self.cursors.get(&fetch.cursor)?.schema.clone();
            let columns = (!fetch.is_move).then_some(columns);
            return Ok(Description { params: Vec::new(), columns });
        }
        let (shared, variables) = (Arc::clone(&self.shared), self.variables.clone());
        let (statement, given) = (copy(statement), given.to_vec());
        let queries = self.shared.queries().await?;
        queries.run(async move { describe(&shared, &variables, &statement, &given).await }).await
    }

    async fn dispatch(&mut self, statement: &Statement, params: &[ScalarValue]) -> Result<Outcome> {
        let shared = Arc::clone(&self.shared);
        let engine = &shared.engine;
        let tag = statement.kind.tag();
        match &statement.kind {
            StatementKind::Query(_) | StatementKind::Explain(_) => {
                self.query(statement, params).await
            }
            StatementKind::Insert(_) | StatementKind::Update(_) | StatementKind::Delete(_) => {
                self.note_write();
                write::run(&shared, statement, params).await
            }
            StatementKind::Truncate(_) => {
                self.note_write();
                write::truncate(&shared, statement).await
            }
            StatementKind::CreateTableAs(table) => {
                write::create_table_as(&shared, statement, table, params).await
            }
            StatementKind::Show(what) => {
                let batch = show::show(engine, &self.variables, what)?;
                Ok(rows(batch.schema(), [batch], SELECT))
            }
            StatementKind::Drop(drop) => drop_relations(engine, statement, drop).await,
            StatementKind::Resume(_) => resume(engine, statement).await,
            StatementKind::Flush => {
                let left_out = engine.flush().await?;
                let notice = |reason| format!("not flushed: {reason}");
                let notices = left_out.into_iter().map(notice).collect();
                Ok(Outcome::Command { tag: tag.to_string(), notices })
            }
            StatementKind::RunPipeline { name } => run_pipeline(engine, &name.value).await,
            StatementKind::Copy(copy) => {
                self.query(&copy.query, params).await.map_err(|error| {
                    // The query is bound in words of its own, so its places are not the text's.
                    Error { position: None, ..error }
                })
            }
            StatementKind::Set { .. }
            | StatementKind::Reset { .. }
            | StatementKind::Prepare(_)
            | StatementKind::Execute(_)
            | StatementKind::Deallocate { .. }
            | StatementKind::Declare(_)
            | StatementKind::Fetch(_)
            | StatementKind::Close { .. }
            | StatementKind::Discard(_)
            | StatementKind::Unlisten
            | StatementKind::NoEffect(_)
            | StatementKind::CopyIn(_) => self.of_session(statement, params).await,
            StatementKind::Transaction(what) => self.transaction(what, tag),
            StatementKind::CreateTable(_)
            | StatementKind::CreateSource(_)
            | StatementKind::CreateMaterializedView(_)
            | StatementKind::CreateView(_)
            | StatementKind::CreateSink(_)
            | StatementKind::CreatePipeline(_)
            | StatementKind::CreateCatalog(_) => create(engine, statement).await,
        }
    }

    /// Runs a query on the threads of queries.
    async fn query(&self, statement: &Statement, params: &[ScalarValue]) -> Result<Outcome> {
        let (shared, variables) = (Arc::clone(&self.shared), self.variables.clone());
        let (statement, params) = (copy(statement), params.to_vec());
        let queries = self.shared.queries().await?;
        queries.run(async move { query::run(&shared, &variables, &statement, &params).await }).await
    }

    /// True between BEGIN and its end.
    pub fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    fn transaction(&mut self, what: &Transaction, tag: &str) -> Result<Outcome> {
        let is_open = self.transaction.is_some();
        let has_failed = self.transaction.as_ref().is_some_and(|it| it.has_failed);
        let has_written = self.transaction.as_ref().is_some_and(|it| it.has_written);
        let is_undone = match what {
            Transaction::Begin if is_open => {
                return Ok(noticed(tag, "there is already a transaction in progress"));
            }
            Transaction::Begin => {
                self.transaction = Some(Box::new(OpenTransaction::new(&self.variables)));
                return Ok(Outcome::command(tag));
            }
            Transaction::Commit | Transaction::Rollback => {
                // As in PostgreSQL, a transaction that has failed is not committed.
                let is_committed = *what == Transaction::Commit && !has_failed;
                self.end_transaction(is_committed);
                !is_committed
            }
            Transaction::Savepoint(name)
            | Transaction::Release(name)
            | Transaction::RollbackTo(name) => {
                self.savepoint(what, name)?;
                matches!(what, Transaction::RollbackTo(_))
            }
            Transaction::SetCharacteristics | Transaction::SetConstraints => {
                return Ok(Outcome::command(tag));
            }
        };
        let tag = if has_failed && *what == Transaction::Commit { "ROLLBACK" } else { tag };
        Ok(match is_open {
            false => noticed(tag, "there is no transaction in progress"),
            // It is only undone in name.
            true if is_undone && has_written => {
                noticed(tag, "each statement commits by itself: what was written is not undone")
            }
            true => Outcome::command(tag),
        })
    }
}

fn noticed(tag: &str, notice: &str) -> Outcome {
    Outcome::Command { tag: tag.to_string(), notices: vec![notice.to_string()] }
}

/// Rows whose panics are errors.
fn guarded(schema: SchemaRef, stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let rows = AssertUnwindSafe(stream).catch_unwind().map(|rows| {
        rows.unwrap_or_else(|panic| {
            Err(DataFusionError::External(Box::new(panic_error(panic.as_ref()))))
        })
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

async fn create(engine: &Engine, statement: &Statement) -> Result<Outcome> {
    let tag = statement.kind.tag();
    let made = engine.apply(&statement.text).await.map_err(|error| shifted(error, statement))?;
    if let (Some((name, _)), true) = (statement.kind.created(), made.is_empty()) {
        let notice = format!("relation \"{}\" already exists, skipping", name.value);
        return Ok(Outcome::Command { tag: tag.to_string(), notices: vec![notice] });
    }
    let notices = match &statement.kind {
        StatementKind::CreateTable(create) | StatementKind::CreateSource(create) => {
            let mut notices = create.columns.as_ref().map(sql::unenforced).unwrap_or_default();
            let ignored = |name: &String| format!("storage parameter \"{name}\" has no effect");
            notices.extend(create.storage.iter().map(ignored));
            notices
        }
        _ => Vec::new(),
    };
    Ok(Outcome::Command { tag: tag.to_string(), notices })
}

async fn drop_relations(engine: &Engine, statement: &Statement, drop: &Drop) -> Result<Outcome> {
    let dropped = engine.apply(&statement.text).await.map_err(|error| shifted(error, statement))?;
    let missing =
        drop.names.iter().filter(|name| dropped.iter().all(|gone| gone.name != name.value));
    let skipped = |name: &sql::Name| {
        format!("{} \"{}\" does not exist, skipping", drop.kind.noun(), name.value)
    };
    let notices: Vec<String> =
        if drop.if_exists { missing.map(skipped).collect() } else { Vec::new() };
    Ok(Outcome::Command { tag: statement.kind.tag().to_string(), notices })
}

async fn resume(engine: &Engine, statement: &Statement) -> Result<Outcome> {
    let Bound::Resume(relation) = sql::bind(&engine.catalog(), statement)? else {
        return Err(Error::internal("ALTER was bound to something else"));
    };
    let notices = engine.resume(relation.id).await?;
    Ok(Outcome::Command { tag: statement.kind.tag().to_string(), notices })
}

/// The engine binds the statement's own text, so its places count from there.
fn shifted(mut error: Error, statement: &Statement) -> Error {
    error.position = error.position.map(|position| position + statement.offset);
    error
}

async fn run_pipeline(engine: &Engine, name: &str) -> Result<Outcome> {
    let run = engine.run_pipeline(name).await?;
    let notice = match run.state {
        PipelineRunState::Committed { snapshot } => format!("committed snapshot {snapshot}"),
        PipelineRunState::Empty => "there was nothing new".to_string(),
        PipelineRunState::Running => "still running".to_string(),
        PipelineRunState::Retrying { error, .. } | PipelineRunState::Failed { error } => {
            return Err(
                Error::new(ErrorKind::Unavailable, error).within(format!("pipeline \"{name}\""))
            );
        }
    };
    Ok(Outcome::Command { tag: "RUN PIPELINE".to_string(), notices: vec![notice] })
}
