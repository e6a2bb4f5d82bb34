//! [`KafkaConfig`]: the options.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use frazil_connector_api::{ConnectorError, OptionSpec, Options, Result};
use rdkafka::ClientConfig;

use crate::login::Login;
use crate::token_endpoint::TokenEndpoint;

/// What INCLUDE knows of messages.
pub const INCLUDES: &[&str] = &["timestamp", "partition", "offset", "key", "header"];

/// The options of `connector = 'kafka'`.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::required("topic", "the topic"),
    OptionSpec::required(
        "properties.bootstrap.server",
        "`host:port,…`; also written `properties.bootstrap.servers`",
    ),
    OptionSpec::with_default(
        "scan.startup.mode",
        "earliest",
        "`earliest`: from the first message that is kept; `latest`: from the end at the time of \
         CREATE",
    ),
    OptionSpec::with_default(
        "group.id.prefix",
        "frazil",
        "the group is `<prefix>-<topic>`; brokers' access rules see it, and tools that show lag",
    ),
    OptionSpec::with_default(
        "timeout.ms",
        "10000",
        "how long a broker may be silent before it counts as unreachable",
    ),
    OptionSpec::optional(
        "properties.*",
        "everything else that librdkafka knows, such as `properties.security.protocol`",
    ),
];

/// What is set unless the user sets it.
const DEFAULTS: [(&str, &str); 8] = [
    ("isolation.level", "read_committed"),
    // TCP has checksums, and they cost more than the rest of the client.
    ("check.crcs", "false"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.max.bytes", "16777216"),
    ("fetch.message.max.bytes", "4194304"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.error.backoff.ms", "100"),
];

/// What the connector relies on.
const FIXED: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
];

/// What is refused besides, and why.
const REFUSED: [(&str, &str); 4] = [
    ("group.id", "the group is named by option \"group.id.prefix\""),
    ("group.instance.id", "partitions are assigned by the engine"),
    ("allow.auto.create.topics", "a source does not create topics"),
    ("plugin.library.paths", "a source does not load libraries"),
];

/// Where a new job begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartMode {
    Earliest,
    Latest,
}

/// The options of a Kafka source.
#[derive(Clone)]
pub(crate) struct KafkaConfig {
    pub(crate) topic: String,
    pub(crate) start: StartMode,
    pub(crate) timeout: Duration,
    pub(crate) client: ClientConfig,
    /// Who gives out tokens for OAUTHBEARER.
    pub(crate) tokens: Option<TokenEndpoint>,
}

impl fmt::Debug for KafkaConfig {
    /// Without the properties: they may hold passwords.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KafkaConfig").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl KafkaConfig {
    /// # Errors
    /// `Config` naming the option.
    pub(crate) fn take(mut options: Options) -> Result<Self> {
        options.take("connector");
        let topic = options.require("topic")?;
        let start = match options.take("scan.startup.mode").as_deref() {
            None | Some("earliest") => StartMode::Earliest,
            Some("latest") => StartMode::Latest,
            Some(other) => {
                return Err(ConnectorError::config(format!(
                    "option \"scan.startup.mode\" has a bad value \"{other}\""
                ))
                .with_hint("it is \"earliest\" or \"latest\""));
            }
        };
        let prefix = options.take("group.id.prefix").unwrap_or_else(|| "frazil".to_string());
        let timeout = Duration::from_millis(options.parse("timeout.ms", 10_000)?);
        let mut properties = options.take_prefixed("properties.");
        options.finish(OPTIONS)?;
        let servers = take_servers(&mut properties)?;
        let Login { properties, tokens } = Login::take(properties)?;
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", servers).set("group.id", format!("{prefix}-{topic}"));
        for (name, value) in DEFAULTS {
            client.set(name, value);
        }
        for (name, value) in properties {
            refuse(&name)?;
            client.set(name, value);
        }
        for (name, value) in FIXED {
            client.set(name, value);
        }
        Ok(Self { topic, start, timeout, client, tokens })
    }
}

fn take_servers(properties: &mut BTreeMap<String, String>) -> Result<String> {
    let short = properties.remove("bootstrap.server");
    let long = properties.remove("bootstrap.servers");
    match (short, long) {
        (Some(servers), None) | (None, Some(servers)) => Ok(servers),
        (None, None) => {
            Err(ConnectorError::config("option \"properties.bootstrap.server\" is missing")
                .with_hint("add properties.bootstrap.server = 'host:9092'"))
        }
        (Some(_), Some(_)) => Err(ConnectorError::config(
            "options \"properties.bootstrap.server\" and \"properties.bootstrap.servers\" are the \
             same",
        )
        .with_hint("leave one of them out")),
    }
}

fn refuse(name: &str) -> Result<()> {
    let fixed = FIXED.iter().find(|(fixed, _)| *fixed == name);
    let fixed = fixed.map(|(_, value)| format!("it is always \"{value}\", for exactness"));
    let refused = REFUSED.iter().find(|(refused, _)| *refused == name);
    match fixed.or_else(|| refused.map(|(_, why)| (*why).to_string())) {
        None => Ok(()),
        Some(why) => {
            Err(ConnectorError::config(format!("option \"properties.{name}\" cannot be set"))
                .with_hint(why))
        }
    }
}

#[cfg(test)]
mod tests {
    use frazil_connector_api::ConnectorErrorKind;

    use super::*;

    fn take(pairs: &[(&str, &str)]) -> Result<KafkaConfig> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string()));
        KafkaConfig::take(Options::new(pairs))
    }

    const SERVER: (&str, &str) = ("properties.bootstrap.server", "h:1");
    const TOPIC: (&str, &str) = ("topic", "t");

    #[test]
    fn defaults_can_be_changed_and_fixed_properties_cannot() {
        let tuned = ("properties.isolation.level", "read_uncommitted");
        let config = take(&[SERVER, TOPIC, tuned, ("group.id.prefix", "mine")]).unwrap();
        assert_eq!(config.client.get("isolation.level"), Some("read_uncommitted"));
        assert_eq!(config.client.get("check.crcs"), Some("false"));
        assert_eq!(config.client.get("group.id"), Some("mine-t"));
        assert_eq!(config.client.get("auto.offset.reset"), Some("error"));
    }

    #[test]
    fn wrong_options_are_config_errors() {
        let wrong: [&[(&str, &str)]; 9] = [
            &[TOPIC],
            &[SERVER],
            &[TOPIC, SERVER, ("properties.bootstrap.servers", "h:2")],
            &[TOPIC, SERVER, ("scan.startup.mode", "middle")],
            &[TOPIC, SERVER, ("timeout.ms", "soon")],
            &[TOPIC, SERVER, ("topics", "t")],
            &[TOPIC, SERVER, ("properties.enable.auto.commit", "true")],
            &[TOPIC, SERVER, ("properties.auto.offset.reset", "earliest")],
            &[TOPIC, SERVER, ("properties.group.id", "g")],
        ];
        for pairs in wrong {
            let error = take(pairs).unwrap_err();
            assert_eq!(error.kind, ConnectorErrorKind::Config, "{pairs:?}");
        }
    }
}
