//! [`serve_connection`]: the messages of one client, in order.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use pgwire::api::{ClientInfo, NoopHandler, PgWireConnectionState, PgWireServerHandlers};
use pgwire::messages::PgWireFrontendMessage;
use pgwire::tokio::server::{negotiate_tls, process_error, process_message};
use tokio::net::TcpStream;

use super::wire_handlers::WireHandlers;

/// How long a client may take to say who it is.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers a client's messages until it goes away.
///
/// It is pgwire's own loop but for COPY FROM: there a message is a part of a statement, which may
/// be in a transaction and have others behind it in the same text.
pub(super) async fn serve_connection(
    stream: TcpStream,
    handlers: &Arc<WireHandlers>,
) -> io::Result<()> {
    let wire = handlers.wire();
    let (cancel, no_copy) = (handlers.cancel_handler(), Arc::new(NoopHandler));
    let started = tokio::time::Instant::now() + STARTUP_TIMEOUT;
    let Ok(socket) = tokio::time::timeout_at(started, negotiate_tls(stream, None)).await else {
        return Ok(());
    };
    // None if the client begins with TLS at once.
    let Some(mut socket) = socket? else { return Ok(()) };
    loop {
        let is_starting = matches!(
            socket.state(),
            PgWireConnectionState::AwaitingStartup
                | PgWireConnectionState::AuthenticationInProgress
        );
        let message = match is_starting {
            true => tokio::time::timeout_at(started, socket.next()).await.ok().flatten(),
            false => socket.next().await,
        };
        let Some(Ok(message)) = message else { return Ok(()) };
        if matches!(message, PgWireFrontendMessage::Terminate(_)) {
            return Ok(());
        }
        let copying = match socket.state() {
            PgWireConnectionState::CopyInProgress(is_extended) => Some(is_extended),
            _ => None,
        };
        let waits_for_sync = copying.unwrap_or_else(|| message.is_extended_query());
        let answered = match copying {
            Some(_) => wire.take_copied(&mut socket, message).await,
            None => {
                let (wire, no_copy) = (|| Arc::clone(wire), Arc::clone(&no_copy));
                let cancel = Arc::clone(&cancel);
                process_message(message, &mut socket, wire(), wire(), wire(), no_copy, cancel).await
            }
        };
        if let Err(error) = answered {
            if !is_starting {
                wire.session(&socket).lock().await.note_failure();
            }
            process_error(&mut socket, error, waits_for_sync).await?;
        }
    }
}
