//! [`UpsertDecoder`]: change events of a table with a primary key.

use frazil_connector_api::{ConnectorError, Decoded, Message, Result, UpsertOp};

use super::envelope::{Envelope, Op, missing_image, read_envelope};
use crate::all_or_nothing::Append;
use crate::json::{Broken, Columns, Rows, read_whole_row};
use crate::message_key::MessageKey;
use crate::upsert_rows::UpsertRows;
use crate::wire::Wire;
use crate::wrapper::Wrapper;

/// What a source tells of a row that is replaced or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplicaIdentity {
    /// Its key; other values of `before` are made up.
    Key,
    /// All its columns.
    Full,
}

/// Turns change events into upserts by key.
///
/// - `c`, `r`, `u`: the row of `after`. It never asks for `before`.
/// - `u` whose `before` has another key (REPLICA IDENTITY FULL): also a delete of that key.
/// - `d`: the key of `before`, or else of the message key.
/// - `t`: all rows are deleted.
///
/// A row event whose message key is not the table's primary key is refused, unless the source
/// tells old rows whole.
///
/// Shape: rows and operations in the order of the messages; a value that the source did not know
/// is NULL and marked as unchanged.
pub(crate) struct UpsertDecoder {
    wrapper: Wrapper,
    message_key: MessageKey,
    identity: ReplicaIdentity,
    upserts: UpsertRows,
}

impl UpsertDecoder {
    /// A decoder into `rows`, which has a key.
    pub(crate) fn new(
        wrapper: Wrapper,
        message_key: MessageKey,
        identity: ReplicaIdentity,
        rows: Rows,
    ) -> Self {
        Self { wrapper, message_key, identity, upserts: UpsertRows::new(rows) }
    }

    /// Appends what the message says, with the columns `columns` of the new row.
    fn read(&mut self, message: Message<'_>, columns: Columns) -> Result<bool> {
        let Some(value) = message.value else { return Ok(false) };
        let (payload, wires) = self.wrapper.open(value)?;
        let UpsertRows { rows, ops } = &mut self.upserts;
        let read = read_envelope(payload, rows, wires, columns)?;
        let Some((op, envelope)) = read else { return Ok(false) };
        if self.identity == ReplicaIdentity::Key {
            self.message_key.check(message.key, rows)?;
        }
        match (op, envelope.after_row) {
            (Op::Create | Op::Read, Some(_)) => ops.push(UpsertOp::Upsert),
            (Op::Update, Some(after_row)) => {
                ops.push(UpsertOp::Upsert);
                if let Some(before) = envelope.before
                    && push_old_key(before, rows, wires, after_row)?
                {
                    ops.push(UpsertOp::Delete);
                }
            }
            (Op::Delete, None) => {
                delete_key(&envelope, message.key, rows, wires, &mut self.message_key)?;
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
}

impl Append for UpsertDecoder {
    fn append(&mut self, message: Message<'_>) -> Result<bool> {
        self.upserts.rows.begin_message();
        self.read(message, Columns::All)
    }

    fn append_removal(&mut self, message: Message<'_>) -> bool {
        let start = self.upserts.rows.len();
        matches!(self.read(message, Columns::Key), Ok(true)) && self.upserts.delete_since(start)
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

/// Appends a row with the key of `before` if it has another key than `after_row`; whether it has.
///
/// A `before` without the key, as filters leave it, or with a key that no column can hold tells of
/// no row that is stored.
fn push_old_key(before: &str, rows: &mut Rows, wires: &[Wire], after_row: usize) -> Result<bool> {
    let is_other = match read_whole_row(before, rows, wires, Columns::Key) {
        Ok(_) => !rows.same_key(after_row, after_row + 1),
        Err(Broken::Content) => false,
        Err(Broken::Syntax) => return Err(rows.explain(before, Broken::Syntax)),
    };
    if !is_other {
        rows.truncate(after_row + 1);
    }
    Ok(is_other)
}

/// Appends a row with the key of a deleted row and NULL elsewhere.
fn delete_key(
    envelope: &Envelope<'_>,
    key: Option<&[u8]>,
    rows: &mut Rows,
    wires: &[Wire],
    message_key: &mut MessageKey,
) -> Result<()> {
    let start = rows.len();
    let Some(before) = envelope.before else { return message_key.push(key, rows) };
    let Err(broken) = read_whole_row(before, rows, wires, Columns::Key) else { return Ok(()) };
    let reason = rows.explain(before, broken);
    rows.truncate(start);
    if broken == Broken::Content && key.is_some() {
        return message_key.push(key, rows).map_err(|_| reason);
    }
    Err(reason)
}
