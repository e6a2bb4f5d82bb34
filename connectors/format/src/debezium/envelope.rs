//! [`Envelope`]: one change event, its rows already in [`Rows`].

use frazil_connector_api::{ConnectorError, Result};

use crate::json::{Broken, Columns, Cursor, Name, Rows, read_row};
use crate::wire::Wire;

/// The fields as Debezium writes them, with their tokens, in its order.
const FIELDS: [(&str, &str); 8] = [
    ("before", "\"before\""),
    ("after", "\"after\""),
    ("source", "\"source\""),
    ("transaction", "\"transaction\""),
    ("op", "\"op\""),
    ("ts_ms", "\"ts_ms\""),
    ("ts_us", "\"ts_us\""),
    ("ts_ns", "\"ts_ns\""),
];

fn guess_of(expected: usize) -> &'static str {
    FIELDS.get(expected).map_or("", |(_, token)| token)
}

/// What happened to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Create,
    Read,
    Update,
    Delete,
    Truncate,
    /// A logical message: no row.
    Message,
}

impl Op {
    fn from_token(token: &str) -> Option<Self> {
        Some(match token {
            "\"c\"" => Self::Create,
            "\"r\"" => Self::Read,
            "\"u\"" => Self::Update,
            "\"d\"" => Self::Delete,
            "\"t\"" => Self::Truncate,
            "\"m\"" => Self::Message,
            _ => return None,
        })
    }
}

/// A change event. `after_row` is the row that reading it has appended.
#[derive(Debug, Default)]
pub(crate) struct Envelope<'a> {
    op: Option<Op>,
    /// `before` as text, if it is not null: most of it is never needed.
    pub(crate) before: Option<&'a str>,
    pub(crate) after_row: Option<usize>,
    shape: Shape,
}

/// Reads a payload, of the new row the columns `columns`. `None`: it is no change of a row, and
/// rightly so.
///
/// # Errors
/// `BadMessage`; rows may have been appended and are the caller's to truncate.
pub(crate) fn read_envelope<'a>(
    payload: &'a str,
    rows: &mut Rows,
    wires: &[Wire],
    columns: Columns,
) -> Result<Option<(Op, Envelope<'a>)>> {
    let start = rows.len();
    let envelope = read_fields(payload, rows, wires, columns)
        .map_err(|broken| rows.explain(payload, broken))?;
    match envelope.op {
        Some(Op::Message) => {
            rows.truncate(start);
            Ok(None)
        }
        Some(op) => Ok(Some((op, envelope))),
        None if envelope.shape.is_known() => Ok(None),
        None => Err(ConnectorError::bad_message("field \"op\" of the change event is missing")
            .with_hint("flattened events (ExtractNewRecordState) are FORMAT PLAIN")),
    }
}

fn read_fields<'a>(
    payload: &'a str,
    rows: &mut Rows,
    wires: &[Wire],
    columns: Columns,
) -> std::result::Result<Envelope<'a>, Broken> {
    let mut cursor = Cursor::new(payload);
    let mut envelope = Envelope::default();
    let Some(mut object) = cursor.object()? else {
        cursor.end()?;
        return Ok(envelope);
    };
    let (mut seen_before, mut seen_after) = (false, false);
    envelope.shape.0 |= Shape::OBJECT;
    let mut expected = 0;
    while let Some(name) = cursor.next_name(&mut object, guess_of(expected))? {
        let name = match &name {
            Name::Guessed => FIELDS[expected].0,
            Name::Other(name) => {
                expected = FIELDS.iter().position(|(field, _)| field == name).unwrap_or(expected);
                &**name
            }
        };
        expected += 1;
        match name {
            "before" if !std::mem::replace(&mut seen_before, true) => {
                envelope.before = Some(cursor.value()?).filter(|token| *token != "null");
            }
            "after" if !std::mem::replace(&mut seen_after, true) => {
                let index = rows.len();
                let read = read_row(&mut cursor, rows, wires, columns)?;
                envelope.after_row = read.is_row.then_some(index);
            }
            "before" | "after" => {
                let twice = ConnectorError::bad_message("a row image is given twice");
                return Err(rows.refuse(twice));
            }
            "op" => {
                let token = cursor.value()?;
                let unknown = || ConnectorError::bad_message(format!("op {token} is not known"));
                let op = Op::from_token(token);
                envelope.op = Some(op.ok_or_else(|| rows.refuse(unknown()))?);
            }
            name => {
                let token = cursor.value()?;
                envelope.shape.0 |= Shape::of_field(name, token);
            }
        }
    }
    if seen_before || seen_after {
        envelope.shape.0 |= Shape::ROW;
    }
    cursor.end()?;
    Ok(envelope)
}

/// The set of fields that tell events apart that are no changes.
#[derive(Debug, Clone, Copy, Default)]
struct Shape(u16);

impl Shape {
    const CLOCK: u16 = 1;
    const STATUS: u16 = 1 << 1;
    const ID: u16 = 1 << 2;
    const DATABASE: u16 = 1 << 3;
    const DDL: u16 = 1 << 4;
    const ROW: u16 = 1 << 5;
    const OTHER: u16 = 1 << 6;
    const OBJECT: u16 = 1 << 7;

    fn has(self, bits: u16) -> bool {
        self.0 & bits == bits
    }

    /// What a field beside the row images says.
    fn of_field(name: &str, token: &str) -> u16 {
        match name {
            "ts_ms" | "ts_us" | "ts_ns" => Self::CLOCK,
            "status" if matches!(token, "\"BEGIN\"" | "\"END\"") => Self::STATUS,
            "status" => 0,
            "id" => Self::ID,
            "databaseName" => Self::DATABASE,
            "ddl" | "tableChanges" => Self::DDL,
            _ => Self::OTHER,
        }
    }

    /// A heartbeat, a transaction mark, a schema change, or JSON `null` (a wrapped tombstone).
    fn is_known(self) -> bool {
        !self.has(Self::ROW)
            && (self.0 == 0
                || self.0 == Self::OBJECT | Self::CLOCK
                || self.has(Self::STATUS | Self::ID)
                || self.has(Self::DATABASE | Self::DDL))
    }
}

/// The error of an event without a row image that its `op` needs.
pub(crate) fn missing_image(image: &str, op: Op) -> ConnectorError {
    let op = format!("{op:?}").to_lowercase();
    ConnectorError::bad_message(format!("a {op} event has no \"{image}\""))
}
