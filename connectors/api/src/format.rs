//! [`Format`] and [`Decoder`]: bytes to changes.

use std::fmt::Debug;
use std::sync::Arc;

use crate::{Decoded, FieldDifference, Include, Message, OnSchemaChange, Result};

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
    /// not become NULL: the caller keeps the message with them, see
    /// [`UpsertBatch`](crate::UpsertBatch).
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
