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

use super::reply::error_info;
use super::wire_handlers::Wire;
use crate::error::{Error, ErrorKind, Result};
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

/// The settings in the options of a start: `-c name=value` and `--name=value`, in words that blanks
/// part; a backslash stands before a blank within a word.
///
/// # Errors
/// `Syntax` for other options.
fn settings_of(options: &str) -> Result<Vec<(String, String)>> {
    let mut words = vec![String::new()];
    let mut letters = options.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => words.last_mut().into_iter().for_each(|word| word.extend(letters.next())),
            blank if blank.is_whitespace() => words.push(String::new()),
            letter => words.last_mut().into_iter().for_each(|word| word.push(letter)),
        }
    }
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c") {
            Some("") => words.next().unwrap_or_default(),
            Some(setting) => setting.to_string(),
            None => word.strip_prefix("--").unwrap_or_default().to_string(),
        };
        let Some((name, value)) = setting.split_once('=').filter(|(name, _)| !name.is_empty())
        else {
            let message = format!("invalid command-line argument for server process: {word}");
            return Err(Error::new(ErrorKind::Syntax, message)
                .with_hint("use -c name=value or --name=value"));
        };
        settings.push((name.replace('-', "_"), value.to_string()));
    }
    Ok(settings)
}

/// An error that ends the connection.
fn fatal(error: Error) -> PgWireError {
    let mut info = error_info(&error);
    info.severity = "FATAL".to_string();
    info.severity_nonlocalized = Some("FATAL".to_string());
    PgWireError::UserError(Box::new(info))
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
            let options = startup.parameters.get("options").map_or("", String::as_str);
            for (name, value) in settings_of(options).map_err(fatal)? {
                session.set_variable(&name, &value).map_err(fatal)?;
            }
            session.begin();
            reported(session.variables(), &user)
        };
        finish_authentication(client, &parameters).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_settings() {
        let read = |options: &str| {
            let settings = settings_of(options).unwrap().into_iter();
            settings.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(read(""), [""; 0]);
        let options = " -c statement_timeout=5s  -cgeqo=off --search-path=a,\\ b ";
        assert_eq!(read(options), ["statement_timeout=5s", "geqo=off", "search_path=a, b"]);
        assert_eq!(read("-c a=b=c -c d="), ["a=b=c", "d="]);
        for wrong in ["-c", "-c a", "-x", "a=b", "--", "-c =b"] {
            assert_eq!(settings_of(wrong).unwrap_err().kind, ErrorKind::Syntax, "{wrong}");
        }
    }
}
