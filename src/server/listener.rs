//! [`serve`]: accepts connections until it is told to stop.

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::connection::serve_connection;
use super::wire_handlers::WireHandlers;
use crate::error::Result;
use crate::job::Engine;

/// Serves the Postgres wire on `listener` until `shutdown` is done; then cuts the connections.
///
/// Any user and database are accepted, TLS is refused: the wire is for the own machine or for a
/// network that is trusted.
///
/// # Errors
/// Never at present: a connection's failure is its own.
pub async fn serve(
    engine: Engine,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let handlers = Arc::new(WireHandlers::new(engine));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    let handlers = Arc::clone(&handlers);
                    tracing::debug!(%peer, "client connected");
                    connections.spawn(async move {
                        if let Err(error) = serve_connection(socket, &handlers).await {
                            tracing::debug!(%peer, %error, "connection ended");
                        }
                    });
                }
                // Out of file descriptors, say: the connections that are open go on.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
