//! [`KafkaSource`]: a topic as a source.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frazil_connector_api::{
    ConnectorError, ConnectorErrorKind, Format, Intake, OptionSpec, Options, Positions, Result,
    SchemaRef, Source, SourceConnector, SourceReader, SplitId,
};

use crate::client::{Client, Topic, offset_of, partition_of, topic_of};
use crate::config::{INCLUDES, KafkaConfig, OPTIONS, StartMode};
use crate::reader::KafkaReader;

/// `connector = 'kafka'`.
#[derive(Debug)]
pub struct Kafka;

impl SourceConnector for Kafka {
    fn name(&self) -> &str {
        "kafka"
    }

    fn options(&self) -> &[OptionSpec] {
        OPTIONS
    }

    fn includes(&self) -> &[&str] {
        INCLUDES
    }

    fn build(
        &self,
        options: Options,
        _schema: SchemaRef,
        format: Option<Arc<dyn Format>>,
    ) -> Result<Arc<dyn Source>> {
        build_kafka(options, format.ok_or_else(|| ConnectorError::needs_format(self.name()))?)
    }
}

/// Makes the source that the options of a WITH clause describe.
///
/// No broker is asked yet.
///
/// # Errors
/// `Config` for a wrong option, and for a property that librdkafka does not know.
pub fn build_kafka(options: Options, format: Arc<dyn Format>) -> Result<Arc<dyn Source>> {
    let config = KafkaConfig::take(options)?;
    let client = Client::new(&config)?;
    Ok(Arc::new(KafkaSource { config, client, format, leaderless: Mutex::default() }))
}

struct KafkaSource {
    config: KafkaConfig,
    /// For questions; each reader has a client of its own.
    client: Client,
    format: Arc<dyn Format>,
    /// Partitions that had no leader when the topic was last looked at.
    leaderless: Mutex<Vec<i32>>,
}

impl KafkaSource {
    /// The topic as it is now; notes which of its partitions have no leader.
    fn topic(&self) -> Result<Topic> {
        let topic = self.client.topic()?;
        self.leaderless().clone_from(&topic.leaderless);
        Ok(topic)
    }

    fn leaderless(&self) -> MutexGuard<'_, Vec<i32>> {
        self.leaderless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the partitions without a leader, if there are any.
    fn outage(&self) -> Option<String> {
        let numbers: Vec<_> = self.leaderless().iter().map(i32::to_string).collect();
        let (name, list) = (&self.config.topic, numbers.join(", "));
        let text = format!("topic \"{name}\" has partitions without a leader: {list}");
        (!numbers.is_empty()).then_some(text)
    }

    /// The topic, if all of its partitions have a leader.
    fn whole_topic(&self) -> Result<Topic> {
        let topic = self.topic()?;
        match self.outage() {
            None => Ok(topic),
            Some(text) => Err(ConnectorError::unavailable(text)
                .with_hint("see whether the brokers that keep these partitions run")),
        }
    }

    /// Partitions and offsets.
    fn places(&self, positions: &Positions) -> Result<Vec<(SplitId, i32, i64)>> {
        let place = |(split, at): (&SplitId, &_)| {
            Ok((split.clone(), partition_of(split)?, offset_of(split, at)?))
        };
        positions.iter().map(place).collect()
    }

    /// Refuses splits of a topic that is not this one.
    fn check_identity(&self, splits: &Positions) -> Result<()> {
        let mut known = splits.keys().filter_map(topic_of);
        let Some(first) = known.next() else { return Ok(()) };
        let now = self.client.topic()?.id;
        let other = now.as_deref().filter(|now| *now != first);
        match known.find(|id| *id != first).or(other) {
            None => Ok(()),
            Some(other) => Err(ConnectorError::new(
                ConnectorErrorKind::Target,
                format!(
                    "topic \"{}\" was deleted and created again: its id was {first} and is {}",
                    self.config.topic,
                    now.as_deref().unwrap_or(other)
                ),
            )
            .with_hint(
                "the offsets of the old topic mean nothing in the new one: drop the table and \
                 create it again to read the new topic from its start",
            )),
        }
    }
}

impl fmt::Debug for KafkaSource {
    /// Without the properties: they may hold passwords.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KafkaSource").field("topic", &self.config.topic).finish_non_exhaustive()
    }
}

impl Source for KafkaSource {
    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok(self.topic()?.splits().collect())
    }

    fn starts_now(&self) -> bool {
        self.config.start == StartMode::Latest
    }

    fn start_positions(&self) -> Result<Positions> {
        match self.config.start {
            StartMode::Earliest => self.first_positions(&self.splits()?),
            // A partition that is left out would later be read from its first message.
            StartMode::Latest => {
                let topic = self.whole_topic()?;
                self.client.offsets(topic.splits(), |watermarks| watermarks.high)
            }
        }
    }

    fn first_positions(&self, splits: &[SplitId]) -> Result<Positions> {
        // Whoever asks has just listed the splits.
        let leaderless = self.leaderless().clone();
        let can_be_asked = |split: &&SplitId| {
            !partition_of(split).is_ok_and(|partition| leaderless.contains(&partition))
        };
        let splits = splits.iter().filter(can_be_asked).cloned();
        self.client.offsets(splits, |watermarks| watermarks.low)
    }

    fn problem(&self) -> Option<String> {
        self.outage().map(|text| format!("{text}; they are not read"))
    }

    fn end_positions(&self) -> Result<Option<Positions>> {
        let topic = self.whole_topic()?;
        self.client.offsets(topic.splits(), |watermarks| watermarks.high).map(Some)
    }

    fn wants_acknowledgements(&self) -> bool {
        true
    }

    fn acknowledge(&self, positions: &Positions) -> Result<()> {
        self.client.commit(&self.places(positions)?)
    }

    fn open(&self, splits: &Positions) -> Result<Box<dyn SourceReader>> {
        self.check_identity(splits)?;
        let mut client = Client::new(&self.config)?;
        let places = self.places(splits)?;
        client.renew_token()?;
        client.assign(&places)?;
        let intake = Intake::new(self.format.as_ref())?;
        Ok(Box::new(KafkaReader::new(client, &places, intake, self.config.timeout)))
    }
}

#[cfg(test)]
mod tests;
