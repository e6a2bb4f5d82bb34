//! [`Login`]: how the client proves who it is, from the properties that users write.
//!
//! Users come with the properties of librdkafka (as RisingWave takes them) or of Java's clients (as
//! Kafka Connect and Flink take them). Both are understood where they mean the same.

use std::collections::BTreeMap;

use frazil_connector_api::{ConnectorError, Options, Result};

use crate::jaas::parse_jaas;
use crate::token_endpoint::TokenEndpoint;

/// The mechanisms that are compiled in.
const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

/// Properties for librdkafka, and who gives out tokens if the mechanism needs them.
pub(crate) struct Login {
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) tokens: Option<TokenEndpoint>,
}

impl Login {
    /// # Errors
    /// `Config` naming the property that does not fit the others.
    pub(crate) fn take(mut properties: BTreeMap<String, String>) -> Result<Self> {
        if let Some(jaas) = properties.remove("sasl.jaas.config") {
            for (name, value) in parse_jaas(&jaas)? {
                if properties.insert(name.clone(), value).is_some() {
                    return Err(ConnectorError::config(format!(
                        "option \"properties.{name}\" is in \"properties.sasl.jaas.config\", too"
                    ))
                    .with_hint("leave one of them out"));
                }
            }
        }
        let protocol = properties.get("security.protocol").map(|it| it.to_uppercase());
        let protocol = protocol.as_deref().unwrap_or("PLAINTEXT");
        let mechanism = check_mechanism(&properties, protocol)?;
        let knows_where_to_look = |name| properties.contains_key(name);
        if protocol.ends_with("SSL")
            && !["ssl.ca.location", "ssl.ca.pem"].map(knows_where_to_look).contains(&true)
        {
            // The OpenSSL that is compiled in does not know where the system keeps its roots.
            properties.insert("ssl.ca.location".to_string(), "probe".to_string());
        }
        let tokens = match mechanism.as_deref() {
            Some("OAUTHBEARER") => TokenEndpoint::take(&mut properties)?,
            _ => None,
        };
        Ok(Self { properties, tokens })
    }
}

/// The mechanism, if the protocol has one.
fn check_mechanism(
    properties: &BTreeMap<String, String>,
    protocol: &str,
) -> Result<Option<String>> {
    let name = ["sasl.mechanism", "sasl.mechanisms"];
    let name = name.into_iter().find(|name| properties.contains_key(*name));
    let value = name.and_then(|name| properties.get(name));
    if !protocol.starts_with("SASL_") {
        return match name {
            None => Ok(None),
            Some(name) => Err(ConnectorError::config(format!(
                "option \"properties.{name}\" has no effect with security protocol \"{protocol}\""
            ))
            .with_hint("add properties.security.protocol = 'SASL_SSL' (or 'SASL_PLAINTEXT')")),
        };
    }
    let known = format!("properties.sasl.mechanism is one of {}", MECHANISMS.join(", "));
    match (name, value.map(|value| value.to_uppercase())) {
        (Some(_), Some(value)) if MECHANISMS.contains(&value.as_str()) => Ok(Some(value)),
        (Some(name), Some(value)) => {
            Err(Options::bad_value(&format!("properties.{name}"), &value).with_hint(known))
        }
        _ => Err(ConnectorError::config("option \"properties.sasl.mechanism\" is missing")
            .with_hint(known)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pairs: &[(&str, &str)]) -> Result<Login> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string()));
        Login::take(pairs.collect())
    }

    #[test]
    fn a_login_that_would_not_be_used_is_refused() {
        // Without a protocol the password would never be sent, and the user not noticed.
        let error = take(&[("sasl.mechanism", "PLAIN"), ("sasl.username", "u")]).err().unwrap();
        assert!(error.hint.unwrap().contains("SASL_SSL"));
        for mechanism in [&[][..], &[("sasl.mechanism", "GSSAPI")]] {
            let pairs = [&[("security.protocol", "sasl_ssl")], mechanism].concat();
            let error = take(&pairs).err().unwrap();
            assert!(error.hint.unwrap().contains("SCRAM-SHA-512"), "{pairs:?}");
        }
        let twice = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "u"),
            ("sasl.jaas.config", "a.PlainLoginModule required username=u password=hunter2;"),
        ];
        let error = take(&twice).err().unwrap();
        assert!(error.message.contains("\"properties.sasl.username\""), "{error}");
    }

    #[test]
    fn roots_are_looked_for_unless_they_are_named() {
        let roots = |more: &[(&str, &str)]| {
            take(&[&[("security.protocol", "ssl")], more].concat()).unwrap().properties
        };
        assert_eq!(roots(&[])["ssl.ca.location"], "probe");
        assert_eq!(roots(&[("ssl.ca.location", "/ca.pem")])["ssl.ca.location"], "/ca.pem");
        assert!(!roots(&[("ssl.ca.pem", "PEM")]).contains_key("ssl.ca.location"));
        assert!(take(&[]).unwrap().properties.is_empty());
    }

    #[test]
    fn a_token_endpoint_is_not_for_librdkafka() {
        let jaas = "a.OAuthBearerLoginModule required clientId='me' clientSecret='hunter2';";
        let login = take(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.jaas.config", jaas),
            ("sasl.oauthbearer.token.endpoint.url", "https://login.example/token"),
            ("sasl.login.callback.handler.class", "x.OAuthBearerLoginCallbackHandler"),
        ]);
        let login = login.unwrap();
        assert!(login.tokens.is_some());
        let left: Vec<_> = login.properties.keys().map(String::as_str).collect();
        assert_eq!(left, ["sasl.mechanism", "security.protocol", "ssl.ca.location"]);
    }
}
