//! [`WireHandlers`]: what pgwire calls, and the session of each connection.

use std::future::Future;
use std::sync::Arc;

use pgwire::api::auth::StartupHandler;
use pgwire::api::cancel::{CancelHandler, DefaultCancelHandler};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::{ClientInfo, ConnectionHandle, ConnectionManager, PgWireServerHandlers};
use pgwire::error::{PgWireError, PgWireResult};
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

    /// What answers the messages of all phases.
    pub(super) fn wire(&self) -> &Arc<Wire> {
        &self.wire
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

/// The handle that cancel requests reach a connection by.
pub(super) fn cancel_handle(client: &impl ClientInfo) -> Option<Arc<ConnectionHandle>> {
    // The type that it was inserted under.
    client.session_extensions().get::<Arc<ConnectionHandle>>().map(|it| Arc::clone(&*it))
}

/// Runs a step of a statement, its rows included, until it is done or the client cancels it.
///
/// pgwire itself watches for a cancel only until rows begin to flow.
pub(super) async fn unless_cancelled<T>(
    handle: Option<Arc<ConnectionHandle>>,
    step: impl Future<Output = PgWireResult<T>>,
) -> PgWireResult<T> {
    let Some(handle) = handle else { return step.await };
    let receiver = handle.start_query().await;
    let cancelled = async move {
        // The sender is dropped when the next query starts: that is no cancel.
        if receiver.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        done = step => done,
        () = cancelled => Err(PgWireError::QueryCanceled),
    }
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
