//! [`UpsertDecoder`]: change events of a table with a primary key.

use frazil_connector_api::{ConnectorError, Decoded, Message, Result, UpsertOp};

use super::envelope::{BeforeAs, Op, missing_image, read_envelope};
use crate::all_or_nothing::Append;
use crate::json::{Columns, Rows, read_whole_row};
use crate::message_key::MessageKey;
use crate::upsert_rows::UpsertRows;
use crate::wire::Wire;
use crate::wrapper::Wrapper;

/// Turns change events into upserts by key.
///
/// - `c`, `r`, `u`: the row of `after`. It never asks for `before`.
/// - `u` whose `before` has another key (REPLICA IDENTITY FULL): also a delete of that key.
/// - `d`: the key of `before`, or else of the message key.
/// - `t`: all rows go.
///
/// Shape: rows and operations in the order of the messages; a value that the source did not know
/// is NULL and marked as unchanged.
pub(crate) struct UpsertDecoder {
    wrapper: Wrapper,
    message_key: MessageKey,
    upserts: UpsertRows,
}

impl UpsertDecoder {
    /// A decoder into `rows`, which has a key.
    pub(crate) fn new(wrapper: Wrapper, message_key: MessageKey, rows: Rows) -> Self {
        Self { wrapper, message_key, upserts: UpsertRows::new(rows) }
    }
}

impl Append for UpsertDecoder {
    fn append(&mut self, message: Message<'_>) -> Result<bool> {
        let Some(value) = message.value else { return Ok(false) };
        let (payload, wires) = self.wrapper.open(value)?;
        let UpsertRows { rows, ops } = &mut self.upserts;
        let read = read_envelope(payload, rows, wires, BeforeAs::Text)?;
        let Some((op, envelope)) = read else { return Ok(false) };
        match (op, envelope.after_row) {
            (Op::Create | Op::Read, Some(_)) => ops.push(UpsertOp::Upsert),
            (Op::Update, Some(after_row)) => {
                ops.push(UpsertOp::Upsert);
                if let Some(before) = envelope.before {
                    push_key_of(before, rows, wires)?;
                    if rows.same_key(after_row, after_row + 1) {
                        rows.truncate(after_row + 1);
                    } else {
                        ops.push(UpsertOp::Delete);
                    }
                }
            }
            (Op::Delete, None) => {
                match envelope.before {
                    Some(before) => push_key_of(before, rows, wires)?,
                    None => self.message_key.push(message.key, rows)?,
                }
                ops.push(UpsertOp::Delete);
            }
            (Op::Truncate, None) => {
                rows.push_filler_row();
                ops.push(UpsertOp::Truncate);
            }
            (Op::Delete | Op::Truncate | Op::Message, Some(_)) => {
                return Err(ConnectorError::bad_message("the row images do not fit the \"op\""));
            }
            (_, None) => return Err(missing_image("after", op)),
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
        self.upserts.finish()
    }
}

/// Appends a row with the key columns of a row image and NULL elsewhere.
fn push_key_of(image: &str, rows: &mut Rows, wires: &[Wire]) -> Result<()> {
    let read = read_whole_row(image, rows, wires, Columns::Key);
    read.map(drop).map_err(|broken| rows.explain(image, broken))
}
