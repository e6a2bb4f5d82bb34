//! The start of a connection: everyone may come in.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::LazyLock;

use async_trait::async_trait;
use futures::Sink;
use pgwire::api::auth::{
    ServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use pgwire::api::{ClientInfo, PidSecretKeyGenerator, RandomPidSecretKeyGenerator};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::wire_handlers::Wire;
use crate::session::Variables;

static KEYS: LazyLock<RandomPidSecretKeyGenerator> =
    LazyLock::new(RandomPidSecretKeyGenerator::default);

/// Parameters of the protocol's start that are not settings.
const NOT_SETTINGS: &[&str] = &["user", "database", "options", "replication"];

struct Reported(HashMap<String, String>);

impl ServerParameterProvider for Reported {
    fn server_parameters<C: ClientInfo>(&self, _client: &C) -> Option<HashMap<String, String>> {
        Some(self.0.clone())
    }
}

fn reported(variables: &Variables, user: &str) -> Reported {
    let mut values: HashMap<String, String> =
        variables.reported().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    values.insert("is_superuser".to_string(), "on".to_string());
    values.insert("session_authorization".to_string(), user.to_string());
    Reported(values)
}

#[async_trait]
impl StartupHandler for Wire {
    async fn on_startup<C>(
        &self,
        client: &mut C,
        message: PgWireFrontendMessage,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let PgWireFrontendMessage::Startup(startup) = message else { return Ok(()) };
        protocol_negotiation(client, &startup).await?;
        save_startup_parameters_to_metadata(client, &startup);
        let (pid, secret_key) = KEYS.generate(client);
        client.set_pid_and_secret_key(pid, secret_key);
        self.register(client);
        let user = startup.parameters.get("user").cloned().unwrap_or_default();
        let session = self.session(client);
        let parameters = {
            let mut session = session.lock().await;
            for (name, value) in &startup.parameters {
                let setting = !NOT_SETTINGS.contains(&name.as_str()) && !name.starts_with("_pq_");
                // A value that cannot be had is refused when a statement sets it; at the start
                // it is only a wish, such as psql's guess of the client's encoding.
                if setting && let Err(error) = session.set_variable(name, value) {
                    tracing::debug!(name, %error, "a parameter of the client was not taken");
                }
            }
            reported(session.variables(), &user)
        };
        finish_authentication(client, &parameters).await
    }
}
