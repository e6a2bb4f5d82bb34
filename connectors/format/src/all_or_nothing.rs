//! [`all_or_nothing`]: a message that fails leaves no part of a row.

use std::sync::Arc;

use frazil_connector_api::{Decoded, Decoder, FieldDifference, Message, Result};

use crate::json::Rows;

/// Appends messages to rows.
pub(crate) trait Append: Send {
    /// Appends what the message says, perhaps only in part if it fails. `false`: the message is
    /// no row, and rightly so.
    ///
    /// # Errors
    /// `BadMessage`.
    fn append(&mut self, message: Message<'_>) -> Result<bool>;

    /// Appends deletes of the rows whose new versions the message tells. `false`: there are none,
    /// or they cannot be known.
    fn append_removal(&mut self, message: Message<'_>) -> bool;

    /// The rows appended.
    fn rows(&self) -> &Rows;

    /// Forgets all but the first rows, also the one that is being written.
    fn truncate(&mut self, rows: usize);

    /// Hands out what was appended.
    ///
    /// # Errors
    /// `Internal` only.
    fn finish(&mut self) -> Result<Decoded>;
}

/// A decoder over an appender without rows: it takes a message whole or not at all, and counts
/// those that are no rows. The old version of a row that it cannot take is deleted.
pub(crate) fn all_or_nothing(appender: impl Append + 'static) -> Box<dyn Decoder> {
    Box::new(AllOrNothing { appender, ignored: 0, last_start: 0 })
}

struct AllOrNothing<A> {
    appender: A,
    ignored: u64,
    /// Number of rows before the last message.
    last_start: usize,
}

impl<A: Append> Decoder for AllOrNothing<A> {
    fn push(&mut self, message: Message<'_>) -> Result<()> {
        let start = self.appender.rows().len();
        self.last_start = start;
        match self.appender.append(message) {
            Ok(is_row) => {
                self.ignored += u64::from(!is_row);
                Ok(())
            }
            Err(error) => {
                self.appender.truncate(start);
                if !self.appender.append_removal(message) {
                    self.appender.truncate(start);
                }
                Err(error)
            }
        }
    }

    fn needs_stored_row(&self) -> bool {
        self.appender.rows().needs_stored_since(self.last_start)
    }

    fn difference(&self) -> Option<&Arc<FieldDifference>> {
        self.appender.rows().difference()
    }

    fn buffered_rows(&self) -> usize {
        self.appender.rows().len()
    }

    fn ignored_messages(&self) -> u64 {
        self.ignored
    }

    fn flush(&mut self) -> Result<Decoded> {
        self.appender.finish()
    }
}
