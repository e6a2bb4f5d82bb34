//! Outcomes and errors as messages of the protocol.

use std::fmt::Debug;

use arrow::datatypes::{FieldRef, SchemaRef};
use futures::{Sink, SinkExt, StreamExt};
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldFormat, QueryResponse, Response, Tag};
use pgwire::api::{ClientInfo, DEFAULT_NAME};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{NoticeResponse, TransactionStatus};
use pgwire::messages::startup::ParameterStatus;

use crate::error::{Error, ErrorKind};
use crate::session::{Outcome, Session, Statement, Variables, pg_fields, pg_rows};
use crate::sql::StatementKind;
use crate::types::pg_type;

/// SQLSTATE of a statement in a transaction that has failed.
const IN_FAILED_TRANSACTION: &str = "25P02";

/// An error with all that a client shows of it.
pub(super) fn error_info(error: &Error) -> ErrorInfo {
    let code = error.kind.sqlstate().to_string();
    let mut info = ErrorInfo::new("ERROR".to_string(), code, error.message.clone());
    info.severity_nonlocalized = Some("ERROR".to_string());
    info.detail = error.detail.clone();
    info.hint = error.hint.clone();
    info.position = error.position.map(|position| position.to_string());
    info.where_context = (!error.context.is_empty()).then(|| error.context.join("\n"));
    info
}

/// The same as pgwire's error.
pub(super) fn wire_error(error: Error) -> PgWireError {
    PgWireError::UserError(Box::new(error_info(&error)))
}

/// The error for a portal that does not exist.
pub(super) fn no_portal(name: &str) -> PgWireError {
    let name = if name == DEFAULT_NAME { "" } else { name };
    let message = format!("portal \"{name}\" does not exist");
    wire_error(Error::new(ErrorKind::UndefinedCursor, message))
}

/// The state of the transaction after a statement that has not failed.
pub(super) fn transaction_status(session: &Session) -> TransactionStatus {
    match session.is_in_transaction() {
        true => TransactionStatus::Transaction,
        false => TransactionStatus::Idle,
    }
}

/// Refuses rows with other columns than the client was told: the relations of a prepared statement,
/// or the cursor of its FETCH, may have changed.
pub(super) fn check_columns(
    described: Option<&SchemaRef>,
    columns: &SchemaRef,
    format: &Format,
) -> PgWireResult<()> {
    let Some(described) = described else { return Ok(()) };
    if described.fields() == columns.fields() {
        return Ok(());
    }
    let (told, now) = (described.fields(), columns.fields());
    let is_same = |(at, (told, now)): (usize, (&FieldRef, &FieldRef))| {
        let is_typed = format.format_for(at) == FieldFormat::Text
            || pg_type(told.data_type()) == pg_type(now.data_type());
        told.name() == now.name() && is_typed
    };
    if told.len() == now.len() && told.iter().zip(now).enumerate().all(is_same) {
        return Ok(());
    }
    let error = Error::unsupported("cached plan must not change result type");
    Err(wire_error(error.with_hint("prepare the statement again")))
}

/// A copy of the variables, if the statement may change one that is reported to the client.
pub(super) fn variables_before(session: &Session, statement: &Statement) -> Option<Variables> {
    let may_change = matches!(
        statement.kind,
        StatementKind::Set { .. }
            | StatementKind::Reset { .. }
            | StatementKind::Discard(_)
            | StatementKind::Transaction(_)
    );
    may_change.then(|| session.variables().clone())
}

/// Tells the client of variables that a statement has changed.
pub(super) async fn report_changes<C>(
    client: &mut C,
    before: Option<Variables>,
    now: &Variables,
) -> PgWireResult<()>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let Some(before) = before else { return Ok(()) };
    let changed = now.reported().filter(|(name, value)| before.get(name) != Some(*value));
    for (name, value) in changed {
        let status = ParameterStatus::new(name.to_string(), value.to_string());
        client.feed(PgWireBackendMessage::ParameterStatus(status)).await?;
    }
    Ok(())
}

/// Refuses a statement in a transaction that has failed, unless it ends that.
pub(super) fn check_transaction(
    client: &impl ClientInfo,
    statement: &Statement,
) -> PgWireResult<()> {
    let failed = matches!(client.transaction_status(), TransactionStatus::Error);
    if !failed || Session::ends_transaction(statement) {
        return Ok(());
    }
    Err(PgWireError::UserError(Box::new(ErrorInfo::new(
        "ERROR".to_string(),
        IN_FAILED_TRANSACTION.to_string(),
        "current transaction is aborted, commands ignored until end of transaction block"
            .to_string(),
    ))))
}

/// Sends notices and turns an outcome into a response.
pub(super) async fn response<C>(
    client: &mut C,
    outcome: Outcome,
    format: &Format,
) -> PgWireResult<Response>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    match outcome {
        Outcome::Rows { schema, stream, tag } => {
            let fields = pg_fields(&schema, format).map_err(wire_error)?;
            let row_fields = fields.clone();
            let rows = stream
                .map(move |batch| match batch {
                    Ok(batch) => pg_rows(row_fields.clone(), batch).collect::<Vec<_>>(),
                    Err(error) => vec![Err(wire_error(crate::session::query_error(error)))],
                })
                .map(futures::stream::iter)
                .flatten();
            let mut response = QueryResponse::new(fields, rows);
            response.set_command_tag(tag);
            Ok(Response::Query(response))
        }
        Outcome::Command { tag, notices } => {
            for notice in notices {
                let info = ErrorInfo::new("NOTICE".to_string(), "00000".to_string(), notice);
                let message = PgWireBackendMessage::NoticeResponse(NoticeResponse::from(info));
                client.feed(message).await?;
            }
            Ok(Response::Execution(Tag::new(&tag)))
        }
    }
}
