//! [`TokenEndpoint`]: tokens for OAUTHBEARER, by OAuth's client credentials grant.
//!
//! librdkafka has this built in only together with libcurl, which its build does not find where it
//! is compiled from source. One POST takes its place.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use frazil_connector_api::{ConnectorError, Options, Result};
use reqwest::blocking::{Client, Response};
use reqwest::{Certificate, Url};
use serde::Deserialize;

/// How long a token counts as valid if the endpoint does not say it.
const LIFETIME: Duration = Duration::from_secs(300);
const HINT: &str = "see whether properties.sasl.oauthbearer.token.endpoint.url, .client.id, \
                    .client.secret and .scope are right";

/// Who gives out tokens, and for whom.
#[derive(Clone)]
pub(crate) struct TokenEndpoint {
    url: Url,
    client_id: String,
    client_secret: String,
    scope: Option<String>,
    extensions: Vec<(String, String)>,
    /// Roots in PEM for the endpoint's certificate, beside the system's.
    ca: Vec<Certificate>,
}

impl fmt::Debug for TokenEndpoint {
    /// Without the secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TokenEndpoint").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// What a broker takes for a password.
pub(crate) struct Token {
    pub(crate) value: String,
    pub(crate) lifetime: Duration,
}

/// The answer of the endpoint (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct Grant {
    access_token: String,
    expires_in: Option<u64>,
}

/// What an endpoint says when it refuses (section 5.2).
#[derive(Default, Deserialize)]
struct Refusal {
    error: Option<String>,
    error_description: Option<String>,
}

impl TokenEndpoint {
    /// Takes the properties of the endpoint; `None` if there is none, and tokens come otherwise.
    ///
    /// # Errors
    /// `Config` naming the property that is missing or wrong.
    pub(crate) fn take(properties: &mut BTreeMap<String, String>) -> Result<Option<Self>> {
        let method = properties.remove("sasl.oauthbearer.method");
        let mut take = |name: &str| properties.remove(&format!("sasl.oauthbearer.{name}"));
        let Some(url) = take("token.endpoint.url") else {
            return match method.as_deref() {
                Some("oidc") => Err(missing("token.endpoint.url")),
                _ => Ok(None),
            };
        };
        let id = take("client.id").or_else(|| take("client.credentials.client.id"));
        let secret = take("client.secret").or_else(|| take("client.credentials.client.secret"));
        let endpoint = Self {
            url: parse_url(&url)?,
            client_id: id.ok_or_else(|| missing("client.id"))?,
            client_secret: secret.ok_or_else(|| missing("client.secret"))?,
            scope: take("scope"),
            extensions: parse_extensions(&take("extensions").unwrap_or_default())?,
            ca: roots(properties)?,
        };
        // The name of Java's class that does what this type does.
        if properties
            .get("sasl.login.callback.handler.class")
            .is_some_and(|class| class.ends_with("OAuthBearerLoginCallbackHandler"))
        {
            properties.remove("sasl.login.callback.handler.class");
        }
        Ok(Some(endpoint))
    }

    /// The name of the client, as librdkafka wants one.
    pub(crate) fn principal(&self) -> &str {
        &self.client_id
    }

    /// Extensions that are sent to the broker with the token.
    pub(crate) fn extensions(&self) -> &[(String, String)] {
        &self.extensions
    }

    /// Asks for a token. Blocks; not to be called on a thread of an async runtime.
    ///
    /// # Errors
    /// `Unavailable`: the endpoint does not answer, or refuses. No error shows the secret.
    pub(crate) fn fetch(&self, timeout: Duration) -> Result<Token> {
        let failed = |error: reqwest::Error| {
            let message = format!("cannot get a token from \"{}\"", self.url);
            ConnectorError::unavailable(message)
                .with_hint(HINT)
                .with_source(reasons(&error.without_url()))
        };
        let roots = self.ca.iter().cloned();
        let client = roots
            .fold(Client::builder().timeout(timeout), |builder, root| {
                builder.add_root_certificate(root)
            })
            .build()
            .map_err(failed)?;
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        let request = client
            .post(self.url.clone())
            .basic_auth(&self.client_id, Some(&self.client_secret))
            .header("accept", "application/json")
            .form(&form);
        let answer = request.send().map_err(failed)?;
        if !answer.status().is_success() {
            return Err(self.refused(answer));
        }
        let grant: Grant = answer.json().map_err(failed)?;
        let lifetime = grant.expires_in.map_or(LIFETIME, Duration::from_secs);
        Ok(Token { value: grant.access_token, lifetime })
    }

    fn refused(&self, answer: Response) -> ConnectorError {
        let status = answer.status();
        let refusal: Refusal = answer.json().unwrap_or_default();
        let why: Vec<_> =
            [refusal.error, refusal.error_description].into_iter().flatten().collect();
        let message = format!("\"{}\" refuses a token with status {status}", self.url);
        let error = ConnectorError::unavailable(message).with_hint(HINT);
        if why.is_empty() { error } else { error.with_source(why.join(": ")) }
    }
}

/// The whole chain of causes: reqwest's own text names only the first.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn missing(name: &str) -> ConnectorError {
    ConnectorError::config(format!("option \"properties.sasl.oauthbearer.{name}\" is missing"))
        .with_hint("OAUTHBEARER needs token.endpoint.url, client.id and client.secret")
}

fn parse_url(text: &str) -> Result<Url> {
    let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    url.ok_or_else(|| {
        ConnectorError::config(
            "option \"properties.sasl.oauthbearer.token.endpoint.url\" is not an HTTP address",
        )
        .with_hint("it is https://host/path")
    })
}

/// `name=value,name=value`.
fn parse_extensions(text: &str) -> Result<Vec<(String, String)>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => Ok((name.to_string(), value.to_string())),
            None => Err(Options::bad_value("properties.sasl.oauthbearer.extensions", text)
                .with_hint("it is name=value,name=value")),
        })
        .collect()
}

/// The roots that `https.ca.location` or `https.ca.pem` name.
fn roots(properties: &mut BTreeMap<String, String>) -> Result<Vec<Certificate>> {
    let name = ["https.ca.location", "https.ca.pem"];
    let [location, pem] = name.map(|name| properties.remove(name));
    let unreadable = |name| {
        let message = format!("option \"properties.{name}\" names no certificates");
        ConnectorError::config(message).with_hint("it is a file, or a text, in PEM form")
    };
    let mut roots = Vec::new();
    if let Some(path) = location {
        let pem = std::fs::read(path);
        let pem = pem.map_err(|error| unreadable(name[0]).with_source(error))?;
        roots.extend(Certificate::from_pem_bundle(&pem).map_err(|_| unreadable(name[0]))?);
    }
    if let Some(pem) = pem {
        let bundle = Certificate::from_pem_bundle(pem.as_bytes());
        roots.extend(bundle.map_err(|_| unreadable(name[1]))?);
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
