//! [`UpsertDecoder`]: change events of a table with a primary key.

use frazil_connector_api::{
    ConnectorError, Decoded, Decoder, Message, Result, UpsertBatch, UpsertOp,
};
use serde::de::DeserializeSeed;

use super::envelope::{BeforeAs, Op, missing_image, read_envelope};
use crate::json::{RowSeed, Rows};
use crate::message_key::MessageKey;
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
    rows: Rows,
    ops: Vec<UpsertOp>,
    ignored: u64,
}

impl UpsertDecoder {
    /// A decoder into `rows`, which has a key.
    pub(crate) fn new(wrapper: Wrapper, message_key: MessageKey, rows: Rows) -> Self {
        Self { wrapper, message_key, rows, ops: Vec::new(), ignored: 0 }
    }

    /// Appends what the message says, perhaps only in part if it fails.
    fn append(&mut self, value: &[u8], key: Option<&[u8]>) -> Result<()> {
        let (payload, wires) = self.wrapper.open(value)?;
        let read = read_envelope(payload, &mut self.rows, wires, BeforeAs::Text)?;
        let Some((op, envelope)) = read else {
            self.ignored += 1;
            return Ok(());
        };
        let rows = &mut self.rows;
        match (op, envelope.after_row) {
            (Op::Create | Op::Read, Some(_)) => self.ops.push(UpsertOp::Upsert),
            (Op::Update, Some(after_row)) => {
                self.ops.push(UpsertOp::Upsert);
                if let Some(before) = envelope.before {
                    push_key_of(before, rows, wires)?;
                    if rows.same_key(after_row, after_row + 1) {
                        rows.truncate(after_row + 1);
                    } else {
                        self.ops.push(UpsertOp::Delete);
                    }
                }
            }
            (Op::Delete, None) => {
                match envelope.before {
                    Some(before) => push_key_of(before, rows, wires)?,
                    None => self.message_key.push(key, rows)?,
                }
                self.ops.push(UpsertOp::Delete);
            }
            (Op::Truncate, None) => {
                rows.push_filler_row();
                self.ops.push(UpsertOp::Truncate);
            }
            (Op::Delete | Op::Truncate | Op::Message, Some(_)) => {
                return Err(ConnectorError::bad_message("the row images do not fit the \"op\""));
            }
            (_, None) => return Err(missing_image("after", op)),
        }
        Ok(())
    }
}

/// Appends a row with the key columns of a row image and NULL elsewhere.
fn push_key_of(image: &str, rows: &mut Rows, wires: &[Wire]) -> Result<()> {
    let seed = RowSeed { rows, wires, key_only: true };
    let read = seed.deserialize(&mut serde_json::Deserializer::from_str(image));
    read.map_err(|error| rows.explain(error)).map(drop)
}

impl Decoder for UpsertDecoder {
    fn push(&mut self, message: Message<'_>) -> Result<()> {
        let Some(value) = message.value else {
            self.ignored += 1;
            return Ok(());
        };
        let start = self.rows.len();
        let appended = self.append(value, message.key);
        if appended.is_err() {
            self.rows.truncate(start);
            self.ops.truncate(start);
        }
        appended
    }

    fn buffered_rows(&self) -> usize {
        self.rows.len()
    }

    fn ignored_messages(&self) -> u64 {
        self.ignored
    }

    fn flush(&mut self) -> Result<Decoded> {
        let (rows, unchanged) = self.rows.flush()?;
        let room = Vec::with_capacity(self.ops.len());
        let ops = std::mem::replace(&mut self.ops, room);
        UpsertBatch::try_new(rows, ops, unchanged).map(Decoded::Upserts)
    }
}
