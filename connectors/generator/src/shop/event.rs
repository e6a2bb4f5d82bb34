//! [`Event`]: what happens to a row, as a message tells it.

use super::row::RowState;

/// What a message of the stream says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Read(RowState),
    Create(RowState),
    Update(RowState),
    Delete { id: i64 },
    Tombstone { id: i64 },
}

/// A message, with what the envelope tells around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occurrence {
    pub(crate) event: Event,
    /// Rows that existed by then: the shop's clock.
    pub(crate) clock: u64,
    /// `snapshot` of the envelope's source.
    pub(crate) snapshot: &'static str,
}
