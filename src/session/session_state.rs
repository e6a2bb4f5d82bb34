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
use super::outcome::rows;
use super::query_runtime::{Deadline, copy};
use super::shared::Shared;
use super::write::Load;
use super::{Description, Outcome, Variables, query, show, write};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Engine, PipelineRunState};
use crate::sql::{
    self, Bound, CopyIn, Declare, Discard, Drop, Execute, Prepare, Statement, StatementKind,
    Transaction,
};

mod cursors;
mod prepared_statements;

use cursors::Cursors;
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
            written_in_transaction: None,
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
    /// In a transaction: whether anything was written. A write is durable at once, so that a
    /// rollback must say that it undoes nothing.
    written_in_transaction: Option<bool>,
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
                Transaction::Commit | Transaction::Rollback | Transaction::RollbackTo
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
        let dispatched = AssertUnwindSafe(self.dispatch(statement, params)).catch_unwind();
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
                if let Some(written) = &mut self.written_in_transaction {
                    *written = true;
                }
                write::run(&shared, statement, params).await
            }
            StatementKind::Show(what) => rows(show::show(engine, &self.variables, what)?),
            StatementKind::Drop(drop) => drop_relations(engine, statement, drop).await,
            StatementKind::Resume(_) => resume(engine, statement).await,
            StatementKind::Flush => {
                let left_out = engine.flush().await?;
                let notice = |reason| format!("not flushed: {reason}");
                let notices = left_out.into_iter().map(notice).collect();
                Ok(Outcome::Command { tag: tag.to_string(), notices })
            }
            StatementKind::RunPipeline { name } => run_pipeline(engine, &name.value).await,
            StatementKind::Set { name, value, .. } => {
                let notice = match value.as_slice() {
                    [] => {
                        self.variables.reset(Some(name));
                        None
                    }
                    values => self.variables.set(name, &values.join(", "))?,
                };
                Ok(Outcome::Command { tag: tag.to_string(), notices: notice.into_iter().collect() })
            }
            StatementKind::Reset { name } => {
                self.variables.reset(name.as_deref());
                Ok(Outcome::command(tag))
            }
            StatementKind::Prepare(prepare) => self.prepare(prepare, tag).await,
            StatementKind::Execute(execute) => self.run_prepared(execute).await,
            StatementKind::Deallocate { name } => {
                match name {
                    Some(name) => self.prepared.remove(name)?,
                    None => self.prepared.clear(),
                }
                Ok(Outcome::command(tag))
            }
            StatementKind::Declare(declare) => self.declare(declare, params, tag).await,
            StatementKind::Fetch(fetch) => self.cursors.get(&fetch.cursor)?.fetch(fetch).await,
            StatementKind::Close { name } => {
                match name {
                    Some(name) => self.cursors.close(name)?,
                    None => self.cursors.clear(),
                }
                Ok(Outcome::command(tag))
            }
            StatementKind::Discard(what) => {
                if *what == Discard::All {
                    self.refuse_in_transaction(tag)?;
                    self.variables.reset(None);
                    self.prepared.clear();
                    self.cursors.clear();
                }
                Ok(Outcome::command(tag))
            }
            // Nothing is ever listened to.
            StatementKind::Unlisten => Ok(Outcome::command(tag)),
            StatementKind::Copy(copy) => {
                self.query(&copy.query, params).await.map_err(|error| {
                    // The query is bound in words of its own, so its places are not the text's.
                    Error { position: None, ..error }
                })
            }
            StatementKind::CopyIn(_) => Err(Error::unsupported(
                "COPY FROM STDIN is not supported here",
            )
            .with_hint("use a client of a server that sends the rows, such as psql's \\copy")),
            StatementKind::Transaction(what) => Ok(self.transaction(*what, tag)),
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

    async fn prepare(&mut self, prepare: &Prepare, tag: &str) -> Result<Outcome> {
        let description = self.describe(&prepare.statement, &prepare.types).await?;
        let statement = Some(copy(&prepare.statement));
        let prepared = PreparedStatement { statement, description, told: Vec::new() };
        self.prepared.insert(&prepare.name, Arc::new(prepared))?;
        Ok(Outcome::command(tag))
    }

    /// Runs a prepared statement as the protocol's Bind and Execute do, with values from SQL.
    async fn run_prepared(&mut self, execute: &Execute) -> Result<Outcome> {
        let prepared = self.prepared.get(&execute.name)?;
        let Some(statement) = prepared.statement.as_ref().filter(|it| it.kind.is_preparable())
        else {
            let what = prepared.statement.as_ref().map_or("an empty text", |it| it.kind.tag());
            return Err(Error::unsupported(format!("EXECUTE of {what} is not supported")));
        };
        let params = self.arguments(execute, &prepared.description).await?;
        let outcome = Box::pin(self.dispatch(statement, &params)).await;
        // Its places are those of another text.
        outcome.map_err(|error| Error { position: None, ..error })
    }

    /// The values of EXECUTE, in the types of the parameters.
    async fn arguments(&self, execute: &Execute, of: &Description) -> Result<Vec<ScalarValue>> {
        let shared = Arc::clone(&self.shared);
        let (name, values) = (execute.name.clone(), execute.values.as_deref().map(copy));
        let execute = Execute { name, values: values.map(Box::new) };
        let params = of.params.clone();
        let queries = self.shared.queries().await?;
        queries.run(async move { query::arguments(&shared, &execute, &params).await }).await
    }

    async fn declare(
        &mut self,
        declare: &Declare,
        params: &[ScalarValue],
        tag: &str,
    ) -> Result<Outcome> {
        let is_of_transaction = self.written_in_transaction.is_some();
        if !declare.is_held && !is_of_transaction {
            let message = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(Error::new(ErrorKind::NoTransaction, message)
                .with_hint("use BEGIN, or declare the cursor WITH HOLD"));
        }
        self.cursors.check_free(&declare.name)?;
        let Outcome::Rows { schema, stream, .. } = self.query(&declare.query, params).await? else {
            return Err(Error::internal("the query of a cursor gave no rows"));
        };
        self.cursors.open(declare, schema, stream, is_of_transaction);
        Ok(Outcome::command(tag))
    }

    /// Begins COPY FROM, whose rows the client sends.
    ///
    /// # Errors
    /// As those of INSERT.
    pub async fn load(&mut self, statement: &Statement, copy: &CopyIn) -> Result<Load> {
        let load = Load::begin(&self.shared, statement, copy).await?;
        if let Some(written) = &mut self.written_in_transaction {
            *written = true;
        }
        Ok(load)
    }

    /// True if FETCH is to send binary values also where the protocol does not ask for them.
    pub fn sends_binary(&self, statement: &Statement) -> bool {
        let StatementKind::Fetch(fetch) = &statement.kind else { return false };
        self.cursors.get(&fetch.cursor).is_ok_and(|cursor| cursor.is_binary)
    }

    /// The columns of a cursor that DECLARE has opened.
    ///
    /// # Errors
    /// `UndefinedCursor`.
    pub fn cursor_columns(&self, name: &str) -> Result<SchemaRef> {
        Ok(Arc::clone(&self.cursors.get(name)?.schema))
    }

    /// Closes a cursor, if there is one of the name.
    pub fn drop_cursor(&mut self, name: &str) {
        // To close what does not exist is no error of the protocol.
        let _ = self.cursors.close(name);
    }

    fn refuse_in_transaction(&self, tag: &str) -> Result<()> {
        if self.written_in_transaction.is_none() {
            return Ok(());
        }
        let message = format!("{tag} cannot run inside a transaction block");
        Err(Error::new(ErrorKind::InTransaction, message))
    }

    /// Keeps a statement of the protocol under a name; the empty name is free again at once.
    ///
    /// # Errors
    /// `DuplicateStatement`.
    pub fn keep_prepared(&mut self, name: &str, prepared: Arc<PreparedStatement>) -> Result<()> {
        if name.is_empty() {
            self.drop_prepared(name);
        }
        self.prepared.insert(name, prepared)
    }

    /// A prepared statement.
    ///
    /// # Errors
    /// `UndefinedStatement`.
    pub fn prepared(&self, name: &str) -> Result<Arc<PreparedStatement>> {
        self.prepared.get(name)
    }

    /// Forgets a prepared statement, if there is one of the name.
    pub fn drop_prepared(&mut self, name: &str) {
        // To close what does not exist is no error of the protocol.
        let _ = self.prepared.remove(name);
    }

    fn transaction(&mut self, what: Transaction, tag: &str) -> Outcome {
        let before = match what {
            Transaction::Begin => self.written_in_transaction.replace(false),
            Transaction::Commit | Transaction::Rollback => {
                self.cursors.end_transaction(what == Transaction::Commit);
                self.written_in_transaction.take()
            }
            // What was written stays: a savepoint is accepted, and only undone in name.
            Transaction::Savepoint | Transaction::Release | Transaction::RollbackTo => {
                self.written_in_transaction
            }
            Transaction::SetCharacteristics => return Outcome::command(tag),
        };
        let notice = match (what, before) {
            (Transaction::Begin, Some(_)) => "there is already a transaction in progress",
            (Transaction::Begin | Transaction::SetCharacteristics, None) => {
                return Outcome::command(tag);
            }
            (_, None) => "there is no transaction in progress",
            (Transaction::Rollback | Transaction::RollbackTo, Some(true)) => {
                "each statement commits by itself: what was written is not undone"
            }
            _ => return Outcome::command(tag),
        };
        Outcome::Command { tag: tag.to_string(), notices: vec![notice.to_string()] }
    }
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
            create.columns.as_ref().map(sql::unenforced).unwrap_or_default()
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
