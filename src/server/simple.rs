//! The simple protocol: text with statements in, all their replies out.
//!
//! Each statement's rows and its end are sent before the next statement runs, and the first fault
//! ends the text, so that the client knows what has happened.

use std::fmt::Debug;

use async_trait::async_trait;
use futures::{Sink, SinkExt};
use pgwire::api::portal::Format;
use pgwire::api::query::{
    SimpleQueryHandler, send_execution_response, send_query_response, send_ready_for_query,
};
use pgwire::api::results::Response;
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, PgWireConnectionState};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use pgwire::messages::simplequery::Query;

use super::copy::copy_out;
use super::reply::{
    check_transaction, report_changes, response, transaction_status, variables_before, wire_error,
};
use super::wire_handlers::{Wire, cancel_handle, unless_cancelled};
use crate::error::Error;
use crate::session::{Session, Statement};
use crate::sql::StatementKind;

#[async_trait]
impl SimpleQueryHandler for Wire {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        let session = self.session(client);
        let statements = session.lock().await.parse(&query.query).map_err(wire_error)?;
        if statements.is_empty() {
            let empty = EmptyQueryResponse::new();
            client.feed(PgWireBackendMessage::EmptyQueryResponse(empty)).await?;
        }
        self.answer_all(client, statements).await
    }

    /// Not called: [`Self::on_query`] answers statement by statement.
    async fn do_query<C>(&self, _client: &mut C, _query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Err(wire_error(Error::internal("a text was not answered statement by statement")))
    }
}

impl Wire {
    /// Answers the statements of a text, up to one for which the client is to send rows.
    pub(super) async fn answer_all<C>(
        &self,
        client: &mut C,
        statements: Vec<Statement>,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = self.session(client);
        let mut session = session.lock().await;
        let mut statements = statements.into_iter();
        while let Some(statement) = statements.next() {
            check_transaction(client, &statement)?;
            if let StatementKind::CopyIn(copy) = &statement.kind {
                let rest = Some(statements.collect());
                return self.begin_copy(client, &session, &statement, copy, rest).await;
            }
            let handle = cancel_handle(client);
            // An error is sent by the caller, who takes the status from the client.
            let status = unless_cancelled(handle, answer(client, &mut session, &statement)).await?;
            client.set_transaction_status(status);
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        send_ready_for_query(client, client.transaction_status()).await
    }
}

/// Runs a statement and sends all that it gives; tells the state of the transaction after it.
async fn answer<C>(
    client: &mut C,
    session: &mut Session,
    statement: &Statement,
) -> PgWireResult<TransactionStatus>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let format = match session.sends_binary(statement) {
        true => Format::UnifiedBinary,
        false => Format::UnifiedText,
    };
    let before = variables_before(session, statement);
    let outcome = session.execute(statement, &[]).await.map_err(wire_error)?;
    report_changes(client, before, session.variables()).await?;
    let response = match &statement.kind {
        StatementKind::Copy(copy) => copy_out(client, outcome, &copy.format).await?,
        _ => response(client, outcome, &format).await?,
    };
    match response {
        Response::Query(rows) => send_query_response(client, rows, true).await?,
        Response::Execution(tag) => send_execution_response(client, tag).await?,
        _ => {
            let message = "a statement was answered in an unknown way";
            return Err(wire_error(Error::internal(message)));
        }
    }
    Ok(transaction_status(session))
}
