//! The extended protocol: statements with parameters, prepared once and run often.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use futures::{Sink, SinkExt};
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{
    ExtendedQueryHandler, send_describe_response, send_execution_response,
    send_partial_query_response,
};
use pgwire::api::results::{DescribePortalResponse, FieldInfo, QueryResponse, Response};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};

use super::copy::copy_out;
use super::parameters::parameters;
use super::reply::{
    check_columns, check_transaction, no_portal, report_changes, response, transaction_status,
    variables_before, wire_error,
};
use super::wire_handlers::{Wire, cancel_handle, unless_cancelled};
use crate::error::{Error, ErrorKind};
use crate::session::{Description, Outcome, PreparedStatement, pg_fields, wire_type};
use crate::sql::StatementKind;
use crate::types::of_pg;

/// The name of the statement without one.
const UNNAMED: &str = "";

#[async_trait]
impl QueryParser for Wire {
    type Statement = Arc<PreparedStatement>;

    async fn parse_sql<C>(
        &self,
        client: &C,
        sql: &str,
        types: &[Option<Type>],
    ) -> PgWireResult<Arc<PreparedStatement>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let session = self.session(client);
        let mut session = session.lock().await;
        let mut statements = session.parse(sql).map_err(wire_error)?;
        if statements.len() > 1 {
            return Err(wire_error(Error::new(
                ErrorKind::Syntax,
                "cannot insert multiple commands into a prepared statement",
            )));
        }
        let Some(statement) = statements.pop() else {
            let description = Description::default();
            let told = types.to_vec();
            return Ok(Arc::new(PreparedStatement { statement: None, description, told }));
        };
        let given: Vec<Option<DataType>> =
            types.iter().map(|given| given.as_ref().and_then(of_pg)).collect();
        let description = session.describe(&statement, &given).await.map_err(wire_error)?;
        let told = types.to_vec();
        Ok(Arc::new(PreparedStatement { statement: Some(statement), description, told }))
    }

    fn get_parameter_types(&self, prepared: &Arc<PreparedStatement>) -> PgWireResult<Vec<Type>> {
        let params = prepared.description.params.iter();
        params
            .map(|param| match param {
                Some(data_type) => wire_type(data_type).map_err(wire_error),
                None => Ok(Type::TEXT),
            })
            .collect()
    }

    fn get_result_schema(
        &self,
        prepared: &Arc<PreparedStatement>,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        let Some(columns) = &prepared.description.columns else { return Ok(Vec::new()) };
        let fields = pg_fields(columns, format.unwrap_or(&Format::UnifiedText));
        fields.map(|fields| fields.as_ref().clone()).map_err(wire_error)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Wire {
    type Statement = Arc<PreparedStatement>;
    type QueryParser = Self;

    fn query_parser(&self) -> Arc<Self> {
        Arc::new(self.clone())
    }

    async fn on_parse<C>(&self, client: &mut C, mut message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        // "unknown" is what a client says when it leaves the type to the server.
        for oid in &mut message.type_oids {
            if *oid == Type::UNKNOWN.oid() {
                *oid = 0;
            }
        }
        let stored = StoredStatement::parse(client, &message, self.query_parser()).await?;
        let name = message.name.as_deref().unwrap_or(UNNAMED);
        let session = self.session(client);
        session.lock().await.keep_prepared(name, stored.statement).map_err(wire_error)?;
        client.send(PgWireBackendMessage::ParseComplete(ParseComplete::new())).await?;
        Ok(())
    }

    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.statement_name.as_deref().unwrap_or(UNNAMED);
        let portal = Portal::try_new(&message, self.stored(client, name).await?)?;
        client.portal_store().put_portal(Arc::new(portal));
        client.send(PgWireBackendMessage::BindComplete(BindComplete::new())).await?;
        Ok(())
    }

    /// A statement without rows is answered by NoData, as in PostgreSQL, and not by a description
    /// of no columns, which drivers take for rows.
    async fn on_describe<C>(&self, client: &mut C, message: Describe) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if message.target_type != TARGET_TYPE_BYTE_STATEMENT {
            let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
            return match client.portal_store().get_portal(name) {
                None => self.describe_cursor(client, name).await,
                Some(_) => self._on_describe(client, message).await,
            };
        }
        let stored = self.stored(client, message.name.as_deref().unwrap_or(UNNAMED)).await?;
        let described = self.do_describe_statement(client, &stored).await?;
        if stored.statement.description.columns.is_some() {
            return send_describe_response(client, &described).await;
        }
        let oids = described.parameters.iter().map(Type::oid).collect();
        let parameters = ParameterDescription::new(oids);
        client.feed(PgWireBackendMessage::ParameterDescription(parameters)).await?;
        client.send(PgWireBackendMessage::NoData(NoData::new())).await?;
        Ok(())
    }

    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            let session = self.session(client);
            session.lock().await.drop_prepared(message.name.as_deref().unwrap_or(UNNAMED));
        } else {
            let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
            client.portal_store().rm_portal(name);
            self.session(client).lock().await.drop_cursor(name);
        }
        client.send(PgWireBackendMessage::CloseComplete(CloseComplete::new())).await?;
        Ok(())
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Self::Statement>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        let Some(statement) = &prepared.statement else { return Ok(Response::EmptyQuery) };
        check_transaction(client, statement)?;
        let params = parameters(portal, &prepared.description)?;
        let session = self.session(client);
        let mut session = session.lock().await;
        let before = variables_before(&session, statement);
        let outcome = session.execute(statement, &params).await.map_err(wire_error)?;
        report_changes(client, before, session.variables()).await?;
        if let StatementKind::Copy(copy) = &statement.kind {
            return copy_out(client, outcome, &copy.format).await;
        }
        if let Outcome::Rows { schema, .. } = &outcome {
            let described = prepared.description.columns.as_ref();
            check_columns(described, schema, &portal.result_column_format)?;
        }
        response(client, outcome, &portal.result_column_format).await
    }

    /// Sends rows as they come, as many as the client asks for.
    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let Some(portal) = client.portal_store().get_portal(name) else {
            return Err(no_portal(name));
        };
        if let Some(statement) = &portal.statement.statement.statement
            && let StatementKind::CopyIn(copy) = &statement.kind
        {
            check_transaction(client, statement)?;
            let session = self.session(client);
            let session = session.lock().await;
            return self.begin_copy(client, &session, statement, copy, None).await;
        }
        // As in PostgreSQL, where a number below zero is all rows, too.
        let max_rows = usize::try_from(message.max_rows).unwrap_or(0);
        let handle = cancel_handle(client);
        let status = unless_cancelled(handle, self.answer(client, &portal, max_rows)).await?;
        client.set_state(PgWireConnectionState::ReadyForQuery);
        client.set_transaction_status(status);
        Ok(())
    }
}

impl Wire {
    /// A prepared statement of the session, as the protocol's messages take it.
    async fn stored<C: ClientInfo>(
        &self,
        client: &C,
        name: &str,
    ) -> PgWireResult<Arc<StoredStatement<Arc<PreparedStatement>>>> {
        let session = self.session(client);
        let prepared = session.lock().await.prepared(name).map_err(wire_error)?;
        let told = prepared.told.clone();
        Ok(Arc::new(StoredStatement::new(name.to_owned(), prepared, told)))
    }

    /// Describes a cursor of DECLARE, as drivers do that know it by its name only.
    async fn describe_cursor<C>(&self, client: &mut C, name: &str) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = self.session(client);
        let columns = session.lock().await.cursor_columns(name);
        let columns = columns.map_err(|_| no_portal(name))?;
        let fields = pg_fields(&columns, &Format::UnifiedText).map_err(wire_error)?;
        let described = DescribePortalResponse::new(fields.as_ref().clone());
        send_describe_response(client, &described).await
    }

    /// Runs a portal, or continues it, and sends what it gives; tells the state of the transaction
    /// after it.
    async fn answer<C>(
        &self,
        client: &mut C,
        portal: &Portal<Arc<PreparedStatement>>,
        max_rows: usize,
    ) -> PgWireResult<TransactionStatus>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Arc<PreparedStatement>>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let status = client.transaction_status();
        let state = portal.state();
        let mut state = state.lock().await;
        // What fails, or is cancelled, has no more rows.
        let before = std::mem::replace(&mut *state, PortalExecutionState::Finished);
        let mut rows = match before {
            PortalExecutionState::Suspended(rows) => rows,
            PortalExecutionState::Finished => {
                QueryResponse::new(Arc::new(Vec::new()), futures::stream::empty())
            }
            PortalExecutionState::Initial => match self.do_query(client, portal, max_rows).await? {
                Response::Query(rows) => rows,
                Response::EmptyQuery => {
                    let empty = EmptyQueryResponse::new();
                    client.feed(PgWireBackendMessage::EmptyQueryResponse(empty)).await?;
                    return Ok(status);
                }
                Response::Execution(tag) => {
                    send_execution_response(client, tag).await?;
                    let now = transaction_status(&*self.session(client).lock().await);
                    if matches!(now, TransactionStatus::Idle)
                        && !matches!(status, TransactionStatus::Idle)
                    {
                        client.portal_store().rm_portal(DEFAULT_NAME);
                    }
                    return Ok(now);
                }
                _ => {
                    let message = "a statement was answered in an unknown way";
                    return Err(wire_error(Error::internal(message)));
                }
            },
        };
        if send_partial_query_response(client, &mut rows, max_rows).await? {
            *state = PortalExecutionState::Suspended(rows);
        }
        Ok(status)
    }
}
