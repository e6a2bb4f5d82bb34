//! [`Client`]: a consumer, and what is asked of the brokers besides messages.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use frazil_connector_api::{
    ConnectorError, ConnectorErrorKind, Options, Position, Positions, Result, SplitId,
};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientContext, TopicPartitionList};

use crate::config::KafkaConfig;
use crate::set_token::set_token;
use crate::token_endpoint::TokenEndpoint;
use crate::topic_id::topic_id;

/// How long a first try of a call takes: if the brokers refuse, that is known by then.
const FIRST_TRY: Duration = Duration::from_secs(1);
/// How long the client waits for queued events.
const EVENTS: Duration = Duration::from_millis(5);
/// Pause after a token could not be renewed while the old one is valid.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// Hands librdkafka's log lines to the engine's log, and keeps why brokers cannot be used.
#[derive(Default)]
pub(crate) struct Events {
    /// The newest reason since the brokers last answered. Calls give a code only.
    trouble: Mutex<Option<Trouble>>,
}

/// Why a broker cannot be used.
#[derive(Debug, Clone)]
struct Trouble {
    code: RDKafkaErrorCode,
    reason: String,
}

impl Trouble {
    /// True if trying again within one call is of no use.
    fn is_refusal(&self) -> bool {
        matches!(self.code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)
    }
}

impl Events {
    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Events {
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
        let code = error.rdkafka_error_code();
        // The reader gets this event for each partition.
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        tracing::warn!("{error}: {reason}");
        let Some(code) = code else { return };
        let mut trouble = self.trouble();
        let is_known = trouble.as_ref().is_some_and(Trouble::is_refusal);
        // That all brokers are down says less than why one of them is.
        if code != RDKafkaErrorCode::AllBrokersDown && !is_known {
            *trouble = Some(Trouble { code, reason: reason.to_string() });
        }
    }
}

impl ConsumerContext for Events {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // Brokers may forbid it, and nothing of the engine depends on it.
            tracing::debug!(%error, "the offsets of the group were not written");
        }
    }
}

/// The first and the end offset of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watermarks {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

/// A connection to the brokers, for one topic.
pub(crate) struct Client {
    pub(crate) consumer: BaseConsumer<Events>,
    pub(crate) topic: String,
    timeout: Duration,
    /// Messages may be in the queue, which the reader alone takes.
    is_assigned: bool,
    tokens: Option<Tokens>,
}

/// The token that the connection has, for OAUTHBEARER.
struct Tokens {
    endpoint: TokenEndpoint,
    /// When it is renewed, and when it ends; `None`: there is none yet.
    term: Mutex<Option<(Instant, Instant)>>,
}

impl Client {
    /// Makes a client; it connects when it is asked for something.
    ///
    /// # Errors
    /// `Config` if librdkafka does not know a property or its value.
    pub(crate) fn new(config: &KafkaConfig) -> Result<Self> {
        let made = config.client.create_with_context(Events::default());
        let consumer = made.map_err(|error| match error {
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
        let tokens = config.tokens.clone();
        Ok(Self {
            consumer,
            topic: config.topic.clone(),
            timeout: config.timeout,
            is_assigned: false,
            tokens: tokens.map(|endpoint| Tokens { endpoint, term: Mutex::default() }),
        })
    }

    /// Sees to it that the connection has a valid token, if the brokers want one.
    ///
    /// # Errors
    /// `Unavailable` if there is no valid token, and the endpoint gives none.
    pub(crate) fn renew_token(&self) -> Result<()> {
        let Some(Tokens { endpoint, term }) = &self.tokens else { return Ok(()) };
        let mut term = term.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if term.is_some_and(|(renewal, _)| now < renewal) {
            return Ok(());
        }
        let token = endpoint.fetch(self.timeout).and_then(|token| {
            set_token(self.consumer.client().native_ptr(), endpoint, &token)?;
            Ok(token.lifetime)
        });
        match (token, *term) {
            (Ok(lifetime), _) => {
                let now = Instant::now();
                *term = Some((now + lifetime.mul_f64(0.8), now + lifetime));
            }
            (Err(error), Some((_, end))) if now < end => {
                tracing::warn!(%error, "the token for the brokers was not renewed, trying again");
                *term = Some((now + RENEWAL_PAUSE, end));
            }
            (Err(error), _) => return Err(error),
        }
        Ok(())
    }

    /// Asks the brokers. A first, shorter try is enough to learn that they refuse the client.
    ///
    /// # Errors
    /// `Unavailable`, with the brokers' reason.
    fn ask<T>(&self, what: &str, ask: impl Fn(Duration) -> KafkaResult<T>) -> Result<T> {
        self.renew_token()?;
        self.take_events();
        let deadline = Instant::now() + self.timeout;
        let first = self.timeout.min(FIRST_TRY);
        let answer = ask(first).or_else(|error| {
            self.take_events();
            let rest = deadline.saturating_duration_since(Instant::now());
            let is_refused =
                self.consumer.context().trouble().as_ref().is_some_and(Trouble::is_refusal);
            if is_refused || rest.is_zero() { Err(error) } else { ask(rest) }
        });
        match answer {
            Ok(answer) => {
                self.saw_answer();
                Ok(answer)
            }
            Err(error) => Err(self.unreachable(what, error)),
        }
    }

    /// Takes what librdkafka has to say, unless a reader does.
    fn take_events(&self) {
        // Log lines end a poll without a time-out, as if nothing came after them.
        while !self.is_assigned && self.consumer.poll(EVENTS).is_some() {}
    }

    /// The brokers answer: earlier trouble is over.
    pub(crate) fn saw_answer(&self) {
        *self.consumer.context().trouble() = None;
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
        let metadata = self.ask("its partitions", |timeout| {
            self.consumer.fetch_metadata(Some(&self.topic), timeout)
        })?;
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

    /// Partitions that cannot be read now.
    ///
    /// # Errors
    /// As [`Client::topic`].
    pub(crate) fn leaderless(&self) -> Result<Vec<i32>> {
        self.partitions().map(|(topic, _)| topic.leaderless)
    }

    /// First and end offset of a partition now.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn watermarks(&self, partition: i32) -> Result<Watermarks> {
        let (low, high) = self.ask(&format!("offsets of partition {partition}"), |timeout| {
            self.consumer.fetch_watermarks(&self.topic, partition, timeout)
        })?;
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
    ) -> Result<Positions> {
        splits
            .into_iter()
            .map(|split| {
                let watermarks = self.watermarks(partition_of(&split)?)?;
                Ok((split, Position::Number(pick(watermarks))))
            })
            .collect()
    }

    /// Begins to fetch, each partition from its offset.
    ///
    /// # Errors
    /// `Internal` if librdkafka refuses.
    pub(crate) fn assign(&mut self, partitions: &[(SplitId, i32, i64)]) -> Result<()> {
        let list = self.list(partitions)?;
        self.is_assigned = true;
        self.consumer.assign(&list).map_err(refused)
    }

    /// Writes the offsets of the group, for tools that show lag; it does not wait for the answer.
    ///
    /// # Errors
    /// `Internal` if librdkafka refuses; `Unavailable` if there is no token.
    pub(crate) fn commit(&self, partitions: &[(SplitId, i32, i64)]) -> Result<()> {
        self.renew_token()?;
        self.take_events();
        self.consumer.commit(&self.list(partitions)?, CommitMode::Async).map_err(refused)
    }

    fn list(&self, partitions: &[(SplitId, i32, i64)]) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (_, partition, offset) in partitions {
            let offset = rdkafka::Offset::Offset(*offset);
            list.add_partition_offset(&self.topic, *partition, offset).map_err(refused)?;
        }
        Ok(list)
    }

    /// The brokers did not answer, or refused.
    pub(crate) fn unreachable(&self, what: &str, error: KafkaError) -> ConnectorError {
        self.take_events();
        let trouble = self.consumer.context().trouble().take();
        let code = match &trouble {
            Some(trouble) if trouble.is_refusal() => Some(trouble.code),
            _ => error.rdkafka_error_code(),
        };
        let hint = match code {
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            ) => {
                "the brokers' access rules must allow DESCRIBE and READ of the topic, and READ of \
                 the group (option \"group.id.prefix\")"
            }
            Some(RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::Authentication) => {
                "see whether properties.sasl.mechanism, and the user and password or the token, \
                 are right"
            }
            Some(RDKafkaErrorCode::SSL) => {
                "see whether properties.security.protocol is right, and properties.ssl.ca.location \
                 names the roots of the brokers' certificates"
            }
            _ => {
                "see whether the brokers run and can be reached from here, and whether \
                 properties.security.protocol is theirs"
            }
        };
        let message = format!("cannot read {what} from topic \"{}\"", self.topic);
        let answer = ConnectorError::unavailable(message).with_hint(hint);
        match trouble {
            Some(trouble) => answer.with_source(trouble.reason),
            None => answer.with_source(error),
        }
    }
}

fn refused(error: KafkaError) -> ConnectorError {
    ConnectorError::internal("librdkafka refuses the partitions").with_source(error)
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

/// The offset that a position of a partition is.
///
/// # Errors
/// `Target` if it is none.
pub(crate) fn offset_of(split: &SplitId, at: &Position) -> Result<i64> {
    at.number().filter(|offset| *offset >= 0).ok_or_else(|| {
        let message = format!("position \"{at}\" of split \"{}\" is not an offset", split.0);
        ConnectorError::new(ConnectorErrorKind::Target, message)
    })
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
