//! [`KafkaSource`]: a topic as a source.

use std::fmt;
use std::sync::Arc;

use frazil_connector_api::{
    Format, Intake, Offsets, Options, Result, Source, SourceReader, SplitId,
};

use crate::client::{Client, partition_of, split_of};
use crate::config::{KafkaConfig, StartMode};
use crate::reader::KafkaReader;

/// Makes the source that the options of a WITH clause describe.
///
/// No broker is asked yet.
///
/// # Errors
/// `Config` for a wrong option, and for a property that librdkafka does not know.
pub fn build_kafka(options: Options, format: Arc<dyn Format>) -> Result<Arc<dyn Source>> {
    let config = KafkaConfig::take(options)?;
    let client = Client::new(&config)?;
    Ok(Arc::new(KafkaSource { config, client, format }))
}

struct KafkaSource {
    config: KafkaConfig,
    /// For questions; each reader has a client of its own.
    client: Client,
    format: Arc<dyn Format>,
}

impl fmt::Debug for KafkaSource {
    /// Without the properties: they may hold passwords.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KafkaSource").field("topic", &self.config.topic).finish_non_exhaustive()
    }
}

impl Source for KafkaSource {
    fn splits(&self) -> Result<Vec<SplitId>> {
        Ok(self.client.partitions()?.into_iter().map(split_of).collect())
    }

    fn start_offsets(&self) -> Result<Offsets> {
        let partitions = self.client.partitions()?;
        self.client.offsets(partitions, |watermarks| match self.config.start {
            StartMode::Earliest => watermarks.low,
            StartMode::Latest => watermarks.high,
        })
    }

    fn first_offsets(&self, splits: &[SplitId]) -> Result<Offsets> {
        let partitions: Vec<_> = splits.iter().map(partition_of).collect::<Result<_>>()?;
        self.client.offsets(partitions, |watermarks| watermarks.low)
    }

    fn end_offsets(&self) -> Result<Option<Offsets>> {
        let partitions = self.client.partitions()?;
        self.client.offsets(partitions, |watermarks| watermarks.high).map(Some)
    }

    fn open(&self, splits: &Offsets) -> Result<Box<dyn SourceReader>> {
        let client = Client::new(&self.config)?;
        let places: Vec<_> = splits
            .iter()
            .map(|(split, offset)| Ok((partition_of(split)?, offset.0)))
            .collect::<Result<_>>()?;
        client.assign(&places)?;
        let intake = Intake::new(self.format.decoder()?);
        Ok(Box::new(KafkaReader::new(client, &places, intake, self.config.timeout)))
    }
}

#[cfg(test)]
mod tests;
