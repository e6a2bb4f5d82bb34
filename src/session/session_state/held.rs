//! What a session holds: variables, prepared statements, cursors, rows of COPY on their way.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::scalar::ScalarValue;

use super::{PreparedStatement, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::session::query_runtime::copy;
use crate::session::write::Load;
use crate::session::{Description, Outcome, query};
use crate::sql::{
    CopyIn, Declare, Discard, Execute, NoEffect, Prepare, Statement, StatementKind, Transaction,
};

impl Session {
    /// Runs a statement that concerns the session alone.
    pub(super) async fn of_session(
        &mut self,
        statement: &Statement,
        params: &[ScalarValue],
    ) -> Result<Outcome> {
        let tag = statement.kind.tag();
        match &statement.kind {
            StatementKind::Set { name, value, local } => return self.set(name, value, *local),
            StatementKind::Reset { name: None } => {
                self.variables.reset(None);
                self.keep_variables();
            }
            StatementKind::Reset { name: Some(name) } => {
                self.variables.check(name)?;
                self.variables.reset(Some(name));
                self.keep_variable(name);
            }
            StatementKind::Prepare(prepare) => return self.prepare(prepare, tag).await,
            StatementKind::Execute(execute) => return self.run_prepared(execute).await,
            StatementKind::Deallocate { name: Some(name) } => self.prepared.remove(name)?,
            StatementKind::Deallocate { name: None } => self.prepared.clear(),
            StatementKind::Declare(declare) => return self.declare(declare, params, tag).await,
            StatementKind::Fetch(fetch) => {
                return self.cursors.get(&fetch.cursor)?.fetch(fetch).await;
            }
            StatementKind::Close { name: Some(name) } => self.cursors.close(name)?,
            StatementKind::Close { name: None } => self.cursors.clear(),
            StatementKind::Discard(Discard::All) => {
                self.refuse_in_transaction(tag)?;
                self.variables.reset(None);
                self.prepared.clear();
                self.cursors.clear();
            }
            // Nothing of these is ever there.
            StatementKind::Discard(_) | StatementKind::Unlisten => {}
            StatementKind::NoEffect(statement) => return self.no_effect(statement),
            StatementKind::CopyIn(_) => {
                return Err(Error::unsupported("COPY FROM STDIN is not supported here")
                    .with_hint("use a client that sends rows to a server, such as psql's \\copy"));
            }
            _ => return Err(Error::internal("a statement is not one of the session")),
        }
        Ok(Outcome::command(tag))
    }

    /// SET and SET LOCAL.
    fn set(&mut self, name: &str, value: &[String], local: bool) -> Result<Outcome> {
        let mut changed = self.variables.clone();
        let mut notices = Vec::new();
        match value {
            [] => {
                changed.check(name)?;
                changed.reset(Some(name));
            }
            values => notices.extend(changed.set(name, &values.join(", "))?),
        }
        if local && self.transaction.is_none() {
            notices.push("SET LOCAL can only be used in transaction blocks".to_string());
            return Ok(Outcome::Command { tag: "SET".to_string(), notices });
        }
        self.variables = changed;
        if !local {
            self.keep_variable(name);
        }
        Ok(Outcome::Command { tag: "SET".to_string(), notices })
    }

    /// Accepts what needs not be done.
    fn no_effect(&self, statement: &NoEffect) -> Result<Outcome> {
        let NoEffect { tag, relations, reason } = statement;
        if *tag == "VACUUM" {
            self.refuse_in_transaction(tag)?;
        }
        let catalog = self.shared.engine.catalog();
        if let Some(missing) = relations.iter().find(|name| catalog.get(&name.value).is_none()) {
            let message = format!("relation \"{}\" does not exist", missing.value);
            return Err(Error::new(ErrorKind::UndefinedTable, message).at(missing.position));
        }
        let notices = vec![format!("{tag} has no effect: {reason}")];
        Ok(Outcome::Command { tag: (*tag).to_string(), notices })
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
        let is_of_transaction = self.is_in_transaction();
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
    pub async fn load(&self, statement: &Statement, copy: &CopyIn) -> Result<Load> {
        let timeout = self.variables.statement_timeout();
        Load::begin(&self.shared, statement, copy, timeout).await
    }

    /// Notes a write of the transaction, if there is one: a [`Self::load`] is one when it is done.
    pub fn note_write(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.has_written = true;
        }
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

    /// A variable of now is that after COMMIT, too.
    fn keep_variable(&mut self, name: &str) {
        if let Some(transaction) = &mut self.transaction {
            transaction.committed.take_from(&self.variables, name);
        }
    }

    /// All variables of now are those after COMMIT, too.
    fn keep_variables(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.committed = self.variables.clone();
        }
    }

    /// Notes that a statement of the transaction has failed, if there is a transaction.
    pub fn note_failure(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.has_failed = true;
        }
    }

    /// Lets go of what ends with a transaction.
    pub(super) fn end_transaction(&mut self, is_committed: bool) {
        self.cursors.end_transaction(is_committed);
        if let Some(ended) = self.transaction.take() {
            self.variables = if is_committed { ended.committed } else { ended.rolled_back };
        }
    }

    /// SAVEPOINT, RELEASE and ROLLBACK TO, as far as they concern the session.
    pub(super) fn savepoint(&mut self, what: &Transaction, name: &str) -> Result<()> {
        let Some(transaction) = &mut self.transaction else {
            let statement = match what {
                Transaction::Savepoint(_) => "SAVEPOINT",
                Transaction::Release(_) => "RELEASE SAVEPOINT",
                _ => "ROLLBACK TO SAVEPOINT",
            };
            let message = format!("{statement} can only be used in transaction blocks");
            return Err(Error::new(ErrorKind::NoTransaction, message));
        };
        match what {
            Transaction::Savepoint(_) => {
                transaction.save(name, &self.variables, self.cursors.declared());
            }
            Transaction::Release(_) => transaction.release(name)?,
            _ => {
                let savepoint = transaction.go_back(name)?;
                self.variables = savepoint.variables;
                self.cursors.close_since(savepoint.cursors);
            }
        }
        Ok(())
    }

    /// Makes the variables of now those of the session's start, which RESET goes back to.
    pub fn begin(&mut self) {
        self.variables.begin();
    }

    fn refuse_in_transaction(&self, tag: &str) -> Result<()> {
        if !self.is_in_transaction() {
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
}
