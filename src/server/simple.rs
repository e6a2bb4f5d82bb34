//! The simple protocol: text with statements in, all their replies out.

use std::fmt::Debug;

use async_trait::async_trait;
use futures::Sink;
use pgwire::api::portal::Format;
use pgwire::api::query::SimpleQueryHandler;
use pgwire::api::results::Response;
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::TransactionStatus;

use super::copy::copy_out;
use super::reply::{failed_transaction, response, wire_error};
use super::wire_handlers::{Wire, cancellable};
use crate::error::Error;
use crate::session::{Session, Statement};
use crate::sql::StatementKind;

#[async_trait]
impl SimpleQueryHandler for Wire {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = self.session(client);
        let mut session = session.lock().await;
        let statements = session.parse(query).map_err(wire_error)?;
        if statements.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        let mut responses = Vec::with_capacity(statements.len());
        let copies = |statement: &Statement| matches!(statement.kind, StatementKind::Copy(_));
        if statements.len() > 1 && statements.iter().any(copies) {
            let error = Error::unsupported("COPY beside other statements is not supported");
            return Err(wire_error(error.with_hint("send it alone")));
        }
        let mut failed = matches!(client.transaction_status(), TransactionStatus::Error);
        for statement in &statements {
            match run(client, &mut session, statement, failed).await {
                Ok(reply) => {
                    failed &= !matches!(reply, Response::TransactionEnd(_));
                    responses.push(reply);
                }
                // What went before has happened and is told before the error.
                Err(error) => {
                    responses.push(Response::Error(Box::new(error.into())));
                    break;
                }
            }
        }
        cancellable(client, &mut responses).await;
        Ok(responses)
    }
}

async fn run<C>(
    client: &mut C,
    session: &mut Session,
    statement: &Statement,
    failed: bool,
) -> PgWireResult<Response>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    if failed && !Session::ends_transaction(statement) {
        return Err(failed_transaction());
    }
    let outcome = session.execute(statement, &[]).await.map_err(wire_error)?;
    match &statement.kind {
        StatementKind::Copy(copy) => copy_out(client, outcome, &copy.format).await,
        _ => response(client, outcome, &Format::UnifiedText).await,
    }
}
