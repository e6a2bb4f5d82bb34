//! [`Message`]: what a source reads, before it is decoded.

use std::fmt::Debug;

use crate::SplitId;

/// One message as a source read it; the bytes are borrowed from the source's buffer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Message<'a> {
    /// Message key, if the system has one.
    pub key: Option<&'a [u8]>,
    /// Message value; `None` is Kafka's null value (a tombstone).
    pub value: Option<&'a [u8]>,
}

/// What a source tells of a message besides its bytes, for [`Include`](crate::Include).
#[derive(Debug, Clone, Copy, Default)]
pub struct About<'a> {
    /// When it was written, in milliseconds since 1970, if the system says so.
    pub timestamp_ms: Option<i64>,
    /// Kafka's number of the partition.
    pub partition: Option<i32>,
    /// Its headers, if the system has such.
    pub headers: Option<&'a dyn Headers>,
}

/// Headers of a message, looked at only if a column includes one.
pub trait Headers: Debug {
    /// The value of the last header with this name.
    fn last(&self, name: &str) -> Option<&[u8]>;
}

/// A message that could not be decoded: a row of the errors table.
#[derive(Debug, Clone)]
pub struct BadMessage {
    /// Where it was read.
    pub split: SplitId,
    /// Its number there, which no other message of the split has: Kafka's offset, the byte where a
    /// line begins.
    pub offset: i64,
    /// Its key, if it had one.
    pub key: Option<Vec<u8>>,
    /// Its value, if it had one.
    pub payload: Option<Vec<u8>>,
    /// Why it could not be decoded.
    pub reason: String,
}
