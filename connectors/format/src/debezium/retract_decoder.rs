//! [`RetractDecoder`]: change events of a table without a primary key.

use arrow::array::Int64Array;
use frazil_connector_api::{ChangeBatch, ConnectorError, Decoded, Message, Result};

use super::envelope::{BeforeAs, Op, missing_image, read_envelope};
use crate::all_or_nothing::Append;
use crate::json::Rows;
use crate::wrapper::Wrapper;

/// The next step for a source that does not tell old rows.
const FULL_HINT: &str =
    "set REPLICA IDENTITY FULL at the source, or declare a primary key for the table";

/// Turns change events into weighted rows; the source must tell old rows whole.
///
/// `c`, `r`: +1 `after`. `d`: -1 `before`. `u`: -1 `before`, +1 `after`.
/// A truncate is refused, since the rows to retract are not known.
///
/// Under PostgreSQL's DEFAULT replica identity a source table that has a key sends a delete whose
/// `before` looks whole and is not; such a table needs its key declared here.
pub(crate) struct RetractDecoder {
    wrapper: Wrapper,
    rows: Rows,
    weights: Vec<i64>,
}

impl RetractDecoder {
    /// A decoder into `rows`.
    pub(crate) fn new(wrapper: Wrapper, rows: Rows) -> Self {
        Self { wrapper, rows, weights: Vec::new() }
    }
}

impl Append for RetractDecoder {
    fn append(&mut self, message: Message<'_>) -> Result<bool> {
        let Some(value) = message.value else { return Ok(false) };
        let (payload, wires) = self.wrapper.open(value)?;
        let read = read_envelope(payload, &mut self.rows, wires, BeforeAs::Row)?;
        let Some((op, envelope)) = read else { return Ok(false) };
        match (op, envelope.before_row, envelope.after_row) {
            (Op::Create | Op::Read, None, Some(_)) => self.weights.push(1),
            (Op::Delete, Some(_), None) => self.weights.push(-1),
            (Op::Update, Some(before), Some(after)) => {
                self.weights.extend(if before < after { [-1, 1] } else { [1, -1] });
            }
            (Op::Update | Op::Delete, None, _) => {
                return Err(missing_image("before", op).with_hint(FULL_HINT));
            }
            (Op::Truncate, ..) => {
                let message = "a truncate cannot be applied to a table without a primary key";
                return Err(ConnectorError::bad_message(message)
                    .with_hint("declare a primary key for the table"));
            }
            (Op::Create | Op::Read | Op::Update, _, None) => {
                return Err(missing_image("after", op));
            }
            _ => return Err(ConnectorError::bad_message("the row images do not fit the \"op\"")),
        }
        Ok(true)
    }

    fn rows(&self) -> &Rows {
        &self.rows
    }

    fn truncate(&mut self, rows: usize) {
        self.rows.truncate(rows);
        self.weights.truncate(rows);
    }

    fn finish(&mut self) -> Result<Decoded> {
        let (rows, _) = self.rows.flush()?;
        let room = Vec::with_capacity(self.weights.len());
        let weights = std::mem::replace(&mut self.weights, room);
        let only_inserts = weights.iter().all(|weight| *weight == 1);
        Ok(Decoded::Changes(if only_inserts {
            ChangeBatch::inserts(rows)
        } else {
            ChangeBatch::try_new(rows, Int64Array::from(weights))?
        }))
    }
}
