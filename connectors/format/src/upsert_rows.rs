//! [`UpsertRows`]: rows with what each does to its key.

use frazil_connector_api::{Decoded, Result, UpsertBatch, UpsertOp};

use crate::json::Rows;

/// Rows and operations, one each, in the order of the messages.
pub(crate) struct UpsertRows {
    pub(crate) rows: Rows,
    pub(crate) ops: Vec<UpsertOp>,
}

impl UpsertRows {
    /// Over rows that are still empty.
    pub(crate) fn new(rows: Rows) -> Self {
        Self { rows, ops: Vec::new() }
    }

    /// Forgets all but the first rows, also the one that is being written.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.rows.truncate(rows);
        self.ops.truncate(rows);
    }

    /// Makes the rows from `start` on deletes; `false` if there are none.
    pub(crate) fn delete_since(&mut self, start: usize) -> bool {
        let fresh = &mut self.ops[start..];
        fresh.fill(UpsertOp::Delete);
        !fresh.is_empty()
    }

    /// Hands them out and leaves room for as many.
    ///
    /// # Errors
    /// `Internal` only.
    pub(crate) fn finish(&mut self) -> Result<Decoded> {
        let (rows, unchanged) = self.rows.flush()?;
        let room = Vec::with_capacity(self.ops.len());
        let ops = std::mem::replace(&mut self.ops, room);
        UpsertBatch::try_new(rows, ops, unchanged).map(Decoded::Upserts)
    }
}
