//! [`all_or_nothing`]: a message that fails leaves no trace.

use frazil_connector_api::{Decoded, Decoder, Message, Result};

use crate::json::Rows;

/// Appends messages to rows.
pub(crate) trait Append: Send {
    /// Appends what the message says, perhaps only in part if it fails. `false`: the message is
    /// no row, and rightly so.
    ///
    /// # Errors
    /// `BadMessage`.
    fn append(&mut self, message: Message<'_>) -> Result<bool>;

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
/// those that are no rows.
pub(crate) fn all_or_nothing(appender: impl Append + 'static) -> Box<dyn Decoder> {
    Box::new(AllOrNothing { appender, ignored: 0 })
}

struct AllOrNothing<A> {
    appender: A,
    ignored: u64,
}

impl<A: Append> Decoder for AllOrNothing<A> {
    fn push(&mut self, message: Message<'_>) -> Result<()> {
        let start = self.appender.rows().len();
        match self.appender.append(message) {
            Ok(is_row) => {
                self.ignored += u64::from(!is_row);
                Ok(())
            }
            Err(error) => {
                self.appender.truncate(start);
                Err(error)
            }
        }
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
