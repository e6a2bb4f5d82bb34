//! [`Format`] and [`Decoder`]: bytes to changes.

use std::fmt::Debug;
use std::sync::Arc;

use crate::{ChangeBatch, FieldDifference, Include, OnSchemaChange, Result, UpsertBatch};

/// One message as a source read it; the bytes are borrowed from the source's buffer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Message<'a> {
    /// Message key, if the system has one.
    pub key: Option<&'a [u8]>,
    /// Message value; `None` is Kafka's null value (a tombstone).
    pub value: Option<&'a [u8]>,
}

/// What a source tells of a message besides its bytes, for [`Include`].
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

    /// Columns behind those of the decoder, which the [`Intake`](crate::Intake) fills, with their
    /// names.
    fn included(&self) -> &[(String, Include)] {
        &[]
    }

    /// What is done about rows that lack declared columns, see [`Decoder::difference`].
    fn on_schema_change(&self) -> OnSchemaChange {
        OnSchemaChange::Warn
    }
}

/// A format whose rows have columns of the messages' own behind them.
#[derive(Debug)]
pub struct Including {
    /// What decodes the value.
    pub format: Arc<dyn Format>,
    /// The columns and their names.
    pub included: Vec<(String, Include)>,
}

impl Format for Including {
    fn decoder(&self) -> Result<Box<dyn Decoder>> {
        self.format.decoder()
    }

    fn included(&self) -> &[(String, Include)] {
        &self.included
    }

    fn on_schema_change(&self) -> OnSchemaChange {
        self.format.on_schema_change()
    }
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

    /// How the fields of the new row in the last message differ from the declared columns, also if
    /// that row was refused. `None`: the message has no whole row, or the format allows rows to
    /// leave columns out.
    ///
    /// Asked after each message: equal differences are the same `Arc` if that is cheap.
    fn difference(&self) -> Option<&Arc<FieldDifference>> {
        None
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
