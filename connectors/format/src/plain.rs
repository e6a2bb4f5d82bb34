//! [`PlainDecoder`]: one JSON object a message is one row.

use frazil_connector_api::{
    ChangeBatch, ConnectorError, Decoded, Decoder, Message, Result, UpsertBatch, UpsertOp,
};
use serde::de::DeserializeSeed;

use crate::json::{RowSeed, Rows};
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

    /// Appends what the message says, perhaps only in part if it fails.
    fn append(&mut self, message: Message<'_>) -> Result<()> {
        let Some(value) = message.value else { return self.delete(message.key) };
        let (payload, wires) = self.wrapper.open(value)?;
        let mut deserializer = serde_json::Deserializer::from_str(payload);
        let seed = RowSeed { rows: &mut self.rows, wires, key_only: false };
        let read = seed.deserialize(&mut deserializer);
        let read = read
            .and_then(|read| deserializer.end().map(|()| read))
            .map_err(|error| self.rows.explain(error))?;
        match (read.is_row, read.is_deleted) {
            (false, _) => self.delete(message.key),
            (true, false) => {
                self.ops.push(UpsertOp::Upsert);
                Ok(())
            }
            (true, true) if self.message_key.is_some() => {
                self.ops.push(UpsertOp::Delete);
                Ok(())
            }
            (true, true) => Err(cannot_delete()),
        }
    }

    fn delete(&mut self, key: Option<&[u8]>) -> Result<()> {
        let message_key = self.message_key.as_mut().ok_or_else(cannot_delete)?;
        message_key.push(key, &mut self.rows)?;
        self.ops.push(UpsertOp::Delete);
        Ok(())
    }
}

fn cannot_delete() -> ConnectorError {
    ConnectorError::bad_message("a delete cannot be applied to a table without a primary key")
        .with_hint("declare a primary key for the table")
}

impl Decoder for PlainDecoder {
    fn push(&mut self, message: Message<'_>) -> Result<()> {
        let start = self.rows.len();
        let appended = self.append(message);
        if appended.is_err() {
            self.rows.truncate(start);
            self.ops.truncate(start);
        }
        appended
    }

    fn buffered_rows(&self) -> usize {
        self.rows.len()
    }

    fn flush(&mut self) -> Result<Decoded> {
        let (rows, unchanged) = self.rows.flush()?;
        let room = Vec::with_capacity(self.ops.len());
        let ops = std::mem::replace(&mut self.ops, room);
        match self.message_key {
            Some(_) => UpsertBatch::try_new(rows, ops, unchanged).map(Decoded::Upserts),
            None => Ok(Decoded::Changes(ChangeBatch::inserts(rows))),
        }
    }
}
