//! [`PlainDecoder`]: one JSON object a message is one row.

use frazil_connector_api::{
    ChangeBatch, ConnectorError, Decoded, Message, Result, UpsertBatch, UpsertOp,
};

use crate::all_or_nothing::Append;
use crate::json::{Columns, Rows, read_whole_row};
use crate::message_key::MessageKey;
use crate::wrapper::Wrapper;

/// Turns objects into inserts, or for a table with a key into upserts.
///
/// With a key, a null value deletes the row that the message key names, and so does a flattened
/// Debezium event with `"__deleted": "true"` or `"__op": "d"`. Without, both are refused: an
/// append-only table cannot take a row back.
pub(crate) struct PlainDecoder {
    wrapper: Wrapper,
    /// `None` for a table without a key.
    message_key: Option<MessageKey>,
    rows: Rows,
    ops: Vec<UpsertOp>,
}

impl PlainDecoder {
    /// A decoder into `rows`, by key if there is a `message_key`.
    pub(crate) fn new(wrapper: Wrapper, message_key: Option<MessageKey>, rows: Rows) -> Self {
        Self { wrapper, message_key, rows, ops: Vec::new() }
    }

    fn delete(&mut self, key: Option<&[u8]>) -> Result<bool> {
        let message_key = self.message_key.as_mut().ok_or_else(cannot_delete)?;
        message_key.push(key, &mut self.rows)?;
        self.ops.push(UpsertOp::Delete);
        Ok(true)
    }
}

fn cannot_delete() -> ConnectorError {
    ConnectorError::bad_message("a delete cannot be applied to a table without a primary key")
        .with_hint("declare a primary key for the table")
}

impl Append for PlainDecoder {
    fn append(&mut self, message: Message<'_>) -> Result<bool> {
        let Some(value) = message.value else { return self.delete(message.key) };
        let (payload, wires) = self.wrapper.open(value)?;
        let rows = &mut self.rows;
        let read = read_whole_row(payload, rows, wires, Columns::All)
            .map_err(|broken| rows.explain(payload, broken))?;
        match (read.is_row, read.is_deleted) {
            (false, _) => return self.delete(message.key),
            (true, false) => self.ops.push(UpsertOp::Upsert),
            (true, true) if self.message_key.is_some() => self.ops.push(UpsertOp::Delete),
            (true, true) => return Err(cannot_delete()),
        }
        Ok(true)
    }

    fn rows(&self) -> &Rows {
        &self.rows
    }

    fn truncate(&mut self, rows: usize) {
        self.rows.truncate(rows);
        self.ops.truncate(rows);
    }

    fn finish(&mut self) -> Result<Decoded> {
        let (rows, unchanged) = self.rows.flush()?;
        let room = Vec::with_capacity(self.ops.len());
        let ops = std::mem::replace(&mut self.ops, room);
        match self.message_key {
            Some(_) => UpsertBatch::try_new(rows, ops, unchanged).map(Decoded::Upserts),
            None => Ok(Decoded::Changes(ChangeBatch::inserts(rows))),
        }
    }
}
