//! Kafka topics as streams.
