//! Kafka topics as streams: `connector = 'kafka'`.
//!
//! Its options are [`OPTIONS`].
//!
//! # Security
//! - `properties.security.protocol`: `PLAINTEXT` (default), `SSL`, `SASL_PLAINTEXT`, `SASL_SSL`
//! - `properties.ssl.ca.location` or `.ssl.ca.pem`: roots of the brokers' certificates, the
//!   system's by default; `.ssl.certificate.location` and `.ssl.key.location`, or `.pem`, for
//!   brokers that ask for one
//! - `properties.sasl.mechanism`: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` with
//!   `properties.sasl.username` and `.sasl.password`; `OAUTHBEARER` with
//!   `properties.sasl.oauthbearer.token.endpoint.url`, `.client.id`, `.client.secret`, and perhaps
//!   `.scope` and `.extensions`
//! - `properties.sasl.jaas.config`: a login as Java's clients write it, in the place of the names
//!   above
//!
//! A split is a partition, named by its number and the topic's id (`3:Sk2c…`), so that a topic
//! which was deleted and created again has other splits: it is not read on from the offsets of the
//! old one. Brokers before Kafka 2.8 have no ids. A position is Kafka's offset. Partitions are
//! assigned, not subscribed to: there is no rebalancing. The engine's checkpoints hold the offsets;
//! those of the group are written after them and never read. A partition without a leader is
//! reported while the others are read. Properties that would move offsets behind the engine's back
//! are refused.
//!
//! # Memory
//! librdkafka fetches ahead into a queue. Its default of 64 MB a reader is four times what one
//! batch takes, so the queue is bounded to 16 MB (`queued.max.messages.kbytes`), one answer of a
//! broker to 16 MB (`fetch.max.bytes`), and when the queue is full the next look is after 5 ms, not
//! a second (`fetch.queue.backoff.ms`). `properties.*` can change them.
//!
//! **Invariant:** the offset that is read next is the one that the engine gave or the one after the
//! last message: never one that the client chose (`auto.offset.reset = error`).

mod client;
mod config;
mod jaas;
mod login;
mod reader;
mod set_token;
mod source;
mod token_endpoint;
mod topic_id;

pub use config::{INCLUDES, OPTIONS};
pub use source::{Kafka, build_kafka};
