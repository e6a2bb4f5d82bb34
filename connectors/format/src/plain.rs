//! [`PlainDecoder`]: one JSON object a message is one row.

use frazil_connector_api::{ChangeBatch, ConnectorError, Decoded, Message, Result, UpsertOp};

use crate::all_or_nothing::Append;
use crate::json::{Columns, Rows, read_whole_row};
use crate::message_key::MessageKey;
use crate::upsert_rows::UpsertRows;
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
    /// Without a key the operations say nothing: all are upserts.
    upserts: UpsertRows,
}

impl PlainDecoder {
    /// A decoder into `rows`, by key if there is a `message_key`.
    pub(crate) fn new(wrapper: Wrapper, message_key: Option<MessageKey>, rows: Rows) -> Self {
        Self { wrapper, message_key, upserts: UpsertRows::new(rows) }
    }

    fn delete(&mut self, key: Option<&[u8]>) -> Result<bool> {
        let message_key = self.message_key.as_mut().ok_or_else(cannot_delete)?;
        message_key.push(key, &mut self.upserts.rows)?;
        self.upserts.ops.push(UpsertOp::Delete);
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
        let UpsertRows { rows, ops } = &mut self.upserts;
        let read = read_whole_row(payload, rows, wires, Columns::All)
            .map_err(|broken| rows.explain(payload, broken))?;
        match (read.is_row, read.is_deleted) {
            (false, _) => return self.delete(message.key),
            (true, false) => ops.push(UpsertOp::Upsert),
            (true, true) if self.message_key.is_some() => ops.push(UpsertOp::Delete),
            (true, true) => return Err(cannot_delete()),
        }
        Ok(true)
    }

    fn rows(&self) -> &Rows {
        &self.upserts.rows
    }

    fn truncate(&mut self, rows: usize) {
        self.upserts.truncate(rows);
    }

    fn finish(&mut self) -> Result<Decoded> {
        match (self.upserts.finish()?, &self.message_key) {
            (Decoded::Upserts(upserts), None) => {
                Ok(Decoded::Changes(ChangeBatch::inserts(upserts.rows().clone())))
            }
            (decoded, _) => Ok(decoded),
        }
    }
}
