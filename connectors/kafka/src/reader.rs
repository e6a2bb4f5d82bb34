//! [`KafkaReader`]: a tight loop from librdkafka's queue into the decoder.

use std::fmt;
use std::time::{Duration, Instant};

use frazil_connector_api::{
    About, ConnectorError, ConnectorErrorKind, Headers, Intake, Message, Position, Positions,
    Result, SourcePoll, SourceReader, SplitId,
};
use rdkafka::Message as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _};

use crate::client::Client;

/// A partition that is read.
struct Partition {
    number: i32,
    split: SplitId,
    /// Offset of the next message.
    next: i64,
    /// Whether the end has been reached, and nothing has come since.
    at_end: bool,
    /// Whether the batch in the making has messages of it.
    touched: bool,
}

/// Headers, parsed when they are asked for.
struct MessageHeaders<'a>(&'a BorrowedMessage<'a>);

impl fmt::Debug for MessageHeaders<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("MessageHeaders").finish_non_exhaustive()
    }
}

impl Headers for MessageHeaders<'_> {
    fn last(&self, name: &str) -> Option<&[u8]> {
        let headers = self.0.headers()?;
        let count = headers.count();
        let mut headers = (0..count).rev().map(|at| headers.get(at));
        headers.find(|header| header.key == name).and_then(|header| header.value)
    }
}

/// Reads partitions with one consumer, on the thread that polls.
pub(crate) struct KafkaReader {
    client: Client,
    partitions: Vec<Partition>,
    /// Index into `partitions` by number of the partition.
    index: Vec<Option<usize>>,
    intake: Intake,
    timeout: Duration,
    /// When the brokers were last known to answer.
    answered: Instant,
    /// The last error since then.
    trouble: Option<KafkaError>,
}

impl KafkaReader {
    pub(crate) fn new(
        client: Client,
        places: &[(SplitId, i32, i64)],
        intake: Intake,
        timeout: Duration,
    ) -> Self {
        let mut index = Vec::new();
        for (at, (_, number, _)) in places.iter().enumerate() {
            let number = *number as usize;
            index.resize(index.len().max(number + 1), None);
            index[number] = Some(at);
        }
        let partitions = places.iter().map(|(split, number, next)| Partition {
            number: *number,
            split: split.clone(),
            next: *next,
            at_end: false,
            touched: false,
        });
        Self {
            client,
            partitions: partitions.collect(),
            index,
            intake,
            timeout,
            answered: Instant::now(),
            trouble: None,
        }
    }

    /// Takes messages until the batch is full or none is waiting. `true`: the reader has just
    /// caught up, without a message.
    fn fill(&mut self, rows_max: usize, deadline: Instant) -> Result<bool> {
        while !self.intake.is_full(rows_max) {
            let wait = match self.intake.message_count() {
                0 => deadline.saturating_duration_since(Instant::now()),
                _ => Duration::ZERO,
            };
            let polled = match self.client.consumer.poll(wait) {
                None => break,
                Some(Err(error)) => Err(error),
                Some(Ok(message)) => {
                    let at = self.index.get(message.partition() as usize).copied().flatten();
                    let Some(at) = at else { continue };
                    let partition = &mut self.partitions[at];
                    let offset = message.offset();
                    if offset < partition.next {
                        return Err(went_back(&self.client.topic, partition, offset));
                    }
                    let headers = MessageHeaders(&message);
                    let bytes = Message { key: message.key(), value: message.payload() };
                    let about = About {
                        timestamp_ms: message.timestamp().to_millis(),
                        partition: Some(partition.number),
                        headers: Some(&headers),
                    };
                    self.intake.push_about(&partition.split, offset, bytes, about)?;
                    partition.next = offset + 1;
                    partition.at_end = false;
                    partition.touched = true;
                    Ok(())
                }
            };
            match polled {
                Ok(()) => {}
                Err(KafkaError::PartitionEOF(number)) => {
                    self.saw_answer();
                    if self.reached_end(number) && self.intake.message_count() == 0 {
                        return Ok(true);
                    }
                }
                Err(error) => self.saw_error(error)?,
            }
        }
        Ok(false)
    }

    /// Marks a partition as read to its end; whether all are now.
    fn reached_end(&mut self, number: i32) -> bool {
        if let Some(at) = self.index.get(number as usize).copied().flatten() {
            self.partitions[at].at_end = true;
        }
        self.has_caught_up()
    }

    fn has_caught_up(&self) -> bool {
        self.partitions.iter().all(|partition| partition.at_end)
    }

    fn saw_answer(&mut self) {
        self.answered = Instant::now();
        self.trouble = None;
        self.client.saw_answer();
    }

    /// Sorts out an error: librdkafka goes on by itself after most of them.
    fn saw_error(&mut self, error: KafkaError) -> Result<()> {
        match error {
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => Err(self.offset_is_gone(error)),
            // Of one partition alone these would be hidden behind the messages of others.
            KafkaError::MessageConsumptionFatal(_)
            | KafkaError::MessageConsumption(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => Err(self.client.unreachable("messages", error)),
            other => {
                if self.trouble.is_none() && self.has_caught_up() {
                    // Silence was right until now.
                    self.answered = Instant::now();
                }
                self.trouble = Some(other);
                Ok(())
            }
        }
    }

    /// After a silence that is not explained by having read everything: do the brokers answer?
    fn check_brokers(&mut self) -> Result<()> {
        let is_suspicious = self.trouble.is_some() || !self.has_caught_up();
        if !is_suspicious || self.answered.elapsed() < self.timeout {
            return Ok(());
        }
        match (self.ask_brokers(), self.trouble.take()) {
            (Ok(()), _) => {
                self.saw_answer();
                Ok(())
            }
            (Err(_), Some(trouble)) => Err(self.client.unreachable("messages", trouble)),
            (Err(silence), None) => Err(silence),
        }
    }

    /// Asks the leaders of all silent partitions, or one leader if no partition is silent. The
    /// reader ignores partitions without a leader: the source reports them.
    fn ask_brokers(&self) -> Result<()> {
        let leaderless = self.client.leaderless()?;
        let has_leader = |it: &&Partition| !leaderless.contains(&it.number);
        // A broker that answers for one partition says nothing of the others.
        let mut silent =
            self.partitions.iter().filter(|it| !it.at_end && has_leader(it)).peekable();
        let ask = |it: &Partition| self.client.watermarks(it.number).map(|_| ());
        match silent.peek() {
            Some(_) => silent.try_for_each(ask),
            None => self.partitions.iter().find(has_leader).map_or(Ok(()), ask),
        }
    }

    /// Finds out which partition it was, for the message.
    fn offset_is_gone(&self, error: KafkaError) -> ConnectorError {
        let topic = &self.client.topic;
        let outside = self.partitions.iter().find_map(|partition| {
            let kept = self.client.watermarks(partition.number).ok()?;
            let is_kept = (kept.low..=kept.high).contains(&partition.next);
            (!is_kept).then(|| {
                format!(
                    "offset {} of topic \"{topic}\" partition {} is not kept: the first is {}, the \
                     end is {}",
                    partition.next, partition.number, kept.low, kept.high
                )
            })
        });
        // A leader that has just changed may lag behind what others have kept: it is asked again.
        let Some(message) = outside else {
            return self.client.unreachable("messages", error);
        };
        ConnectorError::new(ConnectorErrorKind::Target, message)
            .with_hint(
                "messages were removed before they were read: drop the table and create it again \
                 to read what is kept, and keep messages longer (retention.ms)",
            )
            .with_source(error)
    }

    fn take_positions(&mut self) -> Positions {
        let touched = self.partitions.iter_mut().filter(|partition| partition.touched);
        touched
            .map(|partition| {
                partition.touched = false;
                (partition.split.clone(), Position::Number(partition.next))
            })
            .collect()
    }
}

#[cold]
fn went_back(topic: &str, partition: &Partition, offset: i64) -> ConnectorError {
    ConnectorError::new(
        ConnectorErrorKind::Target,
        format!(
            "topic \"{topic}\" partition {} went back from offset {} to {offset}",
            partition.number, partition.next
        ),
    )
    .with_hint("the brokers lost messages that were read (unclean leader election)")
}

impl SourceReader for KafkaReader {
    fn poll(&mut self, rows_max: usize, timeout: Duration) -> Result<SourcePoll> {
        self.client.renew_token()?;
        let caught_up_now = self.fill(rows_max.max(1), Instant::now() + timeout)?;
        if self.intake.message_count() > 0 {
            self.saw_answer();
        } else {
            self.check_brokers()?;
            if caught_up_now || (self.has_caught_up() && self.trouble.is_none()) {
                return Ok(SourcePoll::Idle);
            }
        }
        let positions = self.take_positions();
        Ok(SourcePoll::Batch(self.intake.take(positions)?))
    }
}
