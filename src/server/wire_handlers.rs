//! [`WireHandlers`]: what pgwire calls, and the session of each connection.

use std::future::{Future, ready};
use std::sync::Arc;

use futures::{FutureExt, StreamExt, stream};
use pgwire::api::auth::StartupHandler;
use pgwire::api::cancel::{CancelHandler, DefaultCancelHandler};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{Response, SendableRowStream};
use pgwire::api::{ClientInfo, ConnectionHandle, ConnectionManager, PgWireServerHandlers};
use pgwire::error::PgWireError;
use tokio::sync::Mutex;

use crate::job::Engine;
use crate::session::{Session, Sessions};

/// Handlers of all connections.
pub(super) struct WireHandlers {
    wire: Arc<Wire>,
}

/// What all connections share.
#[derive(Clone)]
pub(super) struct Wire {
    sessions: Sessions,
    connections: Arc<ConnectionManager>,
}

impl WireHandlers {
    /// Handlers over an engine.
    pub(super) fn new(engine: Engine) -> Self {
        let connections = Arc::new(ConnectionManager::new());
        Self { wire: Arc::new(Wire { sessions: Sessions::new(engine), connections }) }
    }
}

impl Wire {
    /// The session of a connection, made at its first use.
    pub(super) fn session(&self, client: &impl ClientInfo) -> Arc<Mutex<Session>> {
        client.session_extensions().get_or_insert_with(|| Mutex::new(self.sessions.open()))
    }

    /// Makes a connection known to cancel requests, for as long as it lives.
    pub(super) fn register(&self, client: &impl ClientInfo) {
        let (pid, secret_key) = client.pid_and_secret_key();
        let (handle, guard) = self.connections.register(pid, secret_key);
        client.session_extensions().insert::<Arc<ConnectionHandle>>(handle);
        client.session_extensions().insert(guard);
    }
}

/// Lets the client cancel the rows of the responses.
///
/// pgwire itself watches for a cancel only until rows begin to flow. This takes the place of its
/// watch, so it must be the last thing that a handler awaits.
pub(super) async fn cancellable(client: &impl ClientInfo, responses: &mut [Response]) {
    let Some(handle) = client.session_extensions().get::<Arc<ConnectionHandle>>() else { return };
    let receiver = handle.start_query().await;
    let cancelled = async move {
        // The sender goes when the next query starts: that is no cancel.
        if receiver.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let cancelled = cancelled.boxed().shared();
    for response in responses {
        if let Response::Query(query) = response {
            let rows = std::mem::replace(&mut query.data_rows, Box::pin(stream::empty()));
            query.data_rows = until(rows, cancelled.clone());
        }
    }
}

/// The rows, with an error at the end as soon as `cancelled` is done.
fn until(
    rows: SendableRowStream,
    cancelled: impl Future<Output = ()> + Send + 'static,
) -> SendableRowStream {
    let stop = stream::once(cancelled).map(|()| Some(Err(PgWireError::QueryCanceled)));
    let rows = rows.map(Some).chain(stream::once(async { None }));
    let either = stream::select(rows, stop);
    Box::pin(either.take_while(|row| ready(row.is_some())).filter_map(ready))
}

impl PgWireServerHandlers for WireHandlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::clone(&self.wire)
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::clone(&self.wire)
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        Arc::clone(&self.wire)
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::new(DefaultCancelHandler::new(Arc::clone(&self.wire.connections)))
    }
}
