//! [`Client`]: a consumer, and what is asked of the brokers besides messages.

use std::time::Duration;

use frazil_connector_api::{ConnectorError, Offset, Offsets, Options, Result, SplitId};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, TopicPartitionList};

use crate::config::KafkaConfig;
use crate::topic_id::topic_id;

/// Hands librdkafka's log lines to the engine's log.
pub(crate) struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(facility, "{message}"),
            _ => tracing::debug!(facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!("{error}: {reason}");
    }
}

impl ConsumerContext for Logging {}

/// The first and the end offset of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watermarks {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

/// A connection to the brokers, for one topic.
pub(crate) struct Client {
    pub(crate) consumer: BaseConsumer<Logging>,
    pub(crate) topic: String,
    timeout: Duration,
}

impl Client {
    /// Makes a client; it connects when it is asked for something.
    ///
    /// # Errors
    /// `Config` if librdkafka does not know a property or its value.
    pub(crate) fn new(config: &KafkaConfig) -> Result<Self> {
        let consumer = config.client.create_with_context(Logging).map_err(|error| match error {
            KafkaError::ClientConfig(_, why, name, value) => {
                let mut error = Options::bad_value(&format!("properties.{name}"), &value);
                // librdkafka's reason may show the value again.
                if !Options::is_secret(&name) {
                    error.message.push_str(&format!(": {why}"));
                }
                error
            }
            other => ConnectorError::config("cannot make a Kafka client").with_source(other),
        })?;
        Ok(Self { consumer, topic: config.topic.clone(), timeout: config.timeout })
    }

    /// The topic's partitions and its identity.
    ///
    /// # Errors
    /// `Unavailable`, also if the topic is not there yet.
    pub(crate) fn topic(&self) -> Result<Topic> {
        let (topic, broker) = self.partitions()?;
        let client = self.consumer.client().native_ptr();
        let id = topic_id(client, &self.topic, broker, self.timeout)
            .map_err(|code| self.unreachable("its identity", KafkaError::AdminOp(code)))?;
        Ok(Topic { id, ..topic })
    }

    /// The topic without its identity, and a broker that answers.
    fn partitions(&self) -> Result<(Topic, i32)> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(&self.topic), self.timeout)
            .map_err(|error| self.unreachable("its partitions", error))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic);
        let missing = || {
            ConnectorError::unavailable(format!("topic \"{}\" does not exist", self.topic))
                .with_hint("create the topic, or correct option \"topic\"")
        };
        let topic = topic.ok_or_else(missing)?;
        match topic.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                return Err(missing());
            }
            Some(code) => {
                return Err(self.unreachable("its partitions", KafkaError::MetadataFetch(code)));
            }
        }
        if topic.partitions().is_empty() {
            return Err(missing());
        }
        let mut partitions: Vec<_> =
            topic.partitions().iter().map(|partition| partition.id()).collect();
        partitions.sort_unstable();
        let leaderless = topic.partitions().iter().filter(|partition| partition.leader() < 0);
        let mut leaderless: Vec<_> = leaderless.map(|partition| partition.id()).collect();
        leaderless.sort_unstable();
        let broker = match (metadata.orig_broker_id(), metadata.brokers()) {
            // It answered under its bootstrap address.
            (..0, [first, ..]) => first.id(),
            (id, _) => id,
        };
        Ok((Topic { id: None, partitions, leaderless }, broker))
    }

    /// First and end offset of a partition now.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn watermarks(&self, partition: i32) -> Result<Watermarks> {
        let (low, high) =
            self.consumer.fetch_watermarks(&self.topic, partition, self.timeout).map_err(
                |error| self.unreachable(&format!("offsets of partition {partition}"), error),
            )?;
        Ok(Watermarks { low, high })
    }

    /// One of the watermarks of each split.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn offsets(
        &self,
        splits: impl IntoIterator<Item = SplitId>,
        pick: impl Fn(Watermarks) -> i64,
    ) -> Result<Offsets> {
        splits
            .into_iter()
            .map(|split| {
                let watermarks = self.watermarks(partition_of(&split)?)?;
                Ok((split, Offset(pick(watermarks))))
            })
            .collect()
    }

    /// Begins to fetch, each partition from its offset.
    ///
    /// # Errors
    /// `Internal` if librdkafka refuses.
    pub(crate) fn assign(&self, partitions: &[(SplitId, i32, i64)]) -> Result<()> {
        let refused = |error| {
            ConnectorError::internal("librdkafka refuses the partitions").with_source(error)
        };
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (_, partition, offset) in partitions {
            let offset = rdkafka::Offset::Offset(*offset);
            list.add_partition_offset(&self.topic, *partition, offset).map_err(refused)?;
        }
        self.consumer.assign(&list).map_err(refused)
    }

    /// The brokers did not answer.
    pub(crate) fn unreachable(&self, what: &str, error: KafkaError) -> ConnectorError {
        let hint = match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            ) => {
                "the brokers' access rules must allow DESCRIBE and READ of the topic, and READ of \
                 the group (option \"group.id.prefix\")"
            }
            Some(RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::Authentication) => {
                "see whether properties.sasl.username and properties.sasl.password are right"
            }
            _ => "see whether the brokers run and can be reached from here",
        };
        ConnectorError::unavailable(format!("cannot read {what} from topic \"{}\"", self.topic))
            .with_hint(hint)
            .with_source(error)
    }
}

/// What a topic is now.
#[derive(Debug)]
pub(crate) struct Topic {
    /// Its identity, if the brokers have such.
    pub(crate) id: Option<String>,
    /// Numbers of its partitions, ascending.
    partitions: Vec<i32>,
    /// Partitions that cannot be read now.
    pub(crate) leaderless: Vec<i32>,
}

impl Topic {
    /// The splits that its partitions are.
    pub(crate) fn splits(&self) -> impl Iterator<Item = SplitId> {
        self.partitions.iter().map(|partition| split_of(*partition, self.id.as_deref()))
    }
}

/// The split that a partition of a topic is.
pub(crate) fn split_of(partition: i32, topic_id: Option<&str>) -> SplitId {
    SplitId(match topic_id {
        Some(id) => format!("{partition}:{id}"),
        None => partition.to_string(),
    })
}

/// The identity of the topic that a split is of, if it is known.
pub(crate) fn topic_of(split: &SplitId) -> Option<&str> {
    split.0.split_once(':').map(|(_, id)| id)
}

/// The partition that a split is.
///
/// # Errors
/// `Config` if it is none.
pub(crate) fn partition_of(split: &SplitId) -> Result<i32> {
    let number = split.0.split_once(':').map_or(split.0.as_str(), |(number, _)| number);
    number.parse().ok().filter(|partition| *partition >= 0).ok_or_else(|| {
        ConnectorError::config(format!("split \"{}\" is not the number of a partition", split.0))
    })
}
