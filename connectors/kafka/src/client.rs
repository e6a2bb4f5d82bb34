//! [`Client`]: a consumer, and what is asked of the brokers besides messages.

use std::time::Duration;

use frazil_connector_api::{ConnectorError, Offset, Offsets, Result, SplitId};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, TopicPartitionList};

use crate::config::KafkaConfig;

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
            KafkaError::ClientConfig(_, why, name, value) => ConnectorError::config(format!(
                "option \"properties.{name}\" has a bad value \"{value}\": {why}"
            )),
            other => ConnectorError::config("cannot make a Kafka client").with_source(other),
        })?;
        Ok(Self { consumer, topic: config.topic.clone(), timeout: config.timeout })
    }

    /// The topic's partitions.
    ///
    /// # Errors
    /// `Unavailable`, also if the topic is not there yet.
    pub(crate) fn partitions(&self) -> Result<Vec<i32>> {
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
        Ok(partitions)
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

    /// One of the watermarks of each partition.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn offsets(
        &self,
        partitions: impl IntoIterator<Item = i32>,
        pick: impl Fn(Watermarks) -> i64,
    ) -> Result<Offsets> {
        partitions
            .into_iter()
            .map(|partition| Ok((split_of(partition), Offset(pick(self.watermarks(partition)?)))))
            .collect()
    }

    /// Begins to fetch, each partition from its offset.
    ///
    /// # Errors
    /// `Internal` if librdkafka refuses.
    pub(crate) fn assign(&self, partitions: &[(i32, i64)]) -> Result<()> {
        let refused = |error| {
            ConnectorError::internal("librdkafka refuses the partitions").with_source(error)
        };
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (partition, offset) in partitions {
            let offset = rdkafka::Offset::Offset(*offset);
            list.add_partition_offset(&self.topic, *partition, offset).map_err(refused)?;
        }
        self.consumer.assign(&list).map_err(refused)
    }

    /// The brokers did not answer.
    pub(crate) fn unreachable(&self, what: &str, error: KafkaError) -> ConnectorError {
        ConnectorError::unavailable(format!("cannot read {what} from topic \"{}\"", self.topic))
            .with_hint("see whether the brokers run and can be reached from here")
            .with_source(error)
    }
}

/// The split that a partition is.
pub(crate) fn split_of(partition: i32) -> SplitId {
    SplitId(partition.to_string())
}

/// The partition that a split is.
///
/// # Errors
/// `Config` if it is none.
pub(crate) fn partition_of(split: &SplitId) -> Result<i32> {
    split.0.parse().ok().filter(|partition| *partition >= 0).ok_or_else(|| {
        ConnectorError::config(format!("split \"{}\" is not the number of a partition", split.0))
    })
}
