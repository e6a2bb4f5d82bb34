//! [`Format`] and [`Decoder`]: bytes to changes.

use std::fmt::Debug;

use crate::{ChangeBatch, Result, UpsertBatch};

/// One message as a source read it; the bytes are borrowed from the source's buffer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Message<'a> {
    /// Message key, if the system has one.
    pub key: Option<&'a [u8]>,
    /// Message value; `None` is Kafka's null value (a tombstone).
    pub value: Option<&'a [u8]>,
}

/// What came out of a decoder or a generator.
#[derive(Debug, Clone)]
pub enum Decoded {
    /// Rows with weights: the source tells old rows, or only appends.
    Changes(ChangeBatch),
    /// Rows by key, in order: the table supplies the old rows.
    Upserts(UpsertBatch),
}

impl Decoded {
    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        match self {
            Self::Changes(batch) => batch.num_rows(),
            Self::Upserts(batch) => batch.num_rows(),
        }
    }
}

/// A configured format: makes a decoder for each reader.
pub trait Format: Debug + Send + Sync {
    /// A fresh decoder.
    ///
    /// # Errors
    /// `Config` if the format cannot decode into the table's schema.
    fn decoder(&self) -> Result<Box<dyn Decoder>>;
}

/// Turns messages into columns, message by message, straight into Arrow builders.
pub trait Decoder: Send {
    /// Appends what one message says: no row, one or more.
    ///
    /// # Errors
    /// `BadMessage` with the reason; the caller puts the message on the errors table. Then the
    /// message has appended nothing, or deletes of the rows whose new versions it tells: an old
    /// version does not stay where the new one cannot be kept.
    fn push(&mut self, message: Message<'_>) -> Result<()>;

    /// True if the last message gave rows with values that only the stored row has and that must
    /// not become NULL: the caller keeps the message with them (see [`UpsertBatch`]).
    fn needs_stored_row(&self) -> bool {
        false
    }

    /// Rows appended since the last [`Decoder::flush`].
    fn buffered_rows(&self) -> usize;

    /// Messages so far that rightly carried no row: tombstones, heartbeats, marks. For the metrics.
    fn ignored_messages(&self) -> u64 {
        0
    }

    /// Hands out the appended rows; the decoder is empty afterwards.
    ///
    /// # Errors
    /// `Internal` only.
    fn flush(&mut self) -> Result<Decoded>;
}
