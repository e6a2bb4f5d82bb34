//! [`PlainDecoder`]: one JSON object per message is one row.

use frazil_connector_api::{ChangeBatch, ConnectorError, Decoded, Message, Result, UpsertOp};

use crate::all_or_nothing::Append;
use crate::debezium::ReplicaIdentity;
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
    identity: ReplicaIdentity,
    /// Without a key the operations say nothing: all are upserts.
    upserts: UpsertRows,
}

impl PlainDecoder {
    /// A decoder into `rows`, by key if there is a `message_key`.
    pub(crate) fn new(
        wrapper: Wrapper,
        message_key: Option<MessageKey>,
        identity: ReplicaIdentity,
        rows: Rows,
    ) -> Self {
        Self { wrapper, message_key, identity, upserts: UpsertRows::new(rows) }
    }

    /// Appends what the message says, with the columns `columns` of the new row.
    fn read(&mut self, message: Message<'_>, columns: Columns) -> Result<bool> {
        let Some(value) = message.value else { return self.delete(message.key) };
        let (payload, wires) = self.wrapper.open(value)?;
        let UpsertRows { rows, ops } = &mut self.upserts;
        let read = read_whole_row(payload, rows, wires, columns)
            .map_err(|broken| rows.explain(payload, broken))?;
        match (read.is_row, read.is_deleted, &mut self.message_key) {
            (false, _, _) => return self.delete(message.key),
            (true, false, _) => ops.push(UpsertOp::Upsert),
            (true, true, Some(message_key)) => {
                // Its values beside the source's key are made up, as those of `before`.
                if self.identity == ReplicaIdentity::Key {
                    message_key.check(message.key, rows)?;
                }
                ops.push(UpsertOp::Delete);
            }
            (true, true, None) => return Err(cannot_delete()),
        }
        Ok(true)
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
        self.read(message, Columns::All)
    }

    fn append_removal(&mut self, message: Message<'_>) -> bool {
        let start = self.upserts.rows.len();
        self.message_key.is_some()
            && matches!(self.read(message, Columns::Key), Ok(true))
            && self.upserts.delete_since(start)
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
