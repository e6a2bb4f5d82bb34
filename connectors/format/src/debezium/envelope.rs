//! [`Envelope`]: one change event, its rows already in [`Rows`].

use std::fmt;

use frazil_connector_api::{ConnectorError, Result};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::{RowSeed, Rows};
use crate::wire::Wire;

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

/// A change event. `before_row` and `after_row` are rows that reading it has appended.
#[derive(Debug, Default)]
pub(crate) struct Envelope<'de> {
    pub(crate) op: Option<Op>,
    /// `before` as text, if it was to be kept and is not null.
    pub(crate) before: Option<&'de str>,
    pub(crate) before_row: Option<usize>,
    pub(crate) after_row: Option<usize>,
}

/// What to do with `before`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BeforeAs {
    /// Kept as text; most of it is never needed.
    Text,
    /// Appended as a row.
    Row,
}

/// Reads a payload. `None`: it is no change of a row, and rightly so.
///
/// # Errors
/// `BadMessage`; rows may have been appended and are the caller's to truncate.
pub(crate) fn read_envelope<'de>(
    payload: &'de str,
    rows: &mut Rows,
    wires: &[Wire],
    before_as: BeforeAs,
) -> Result<Option<(Op, Envelope<'de>)>> {
    let start = rows.len();
    let mut deserializer = serde_json::Deserializer::from_str(payload);
    let visitor = EnvelopeVisitor { rows, wires, before_as };
    let read = deserializer.deserialize_any(visitor);
    let (envelope, shape) = read
        .and_then(|read| deserializer.end().map(|()| read))
        .map_err(|error| rows.explain(error))?;
    match envelope.op {
        Some(Op::Message) => {
            rows.truncate(start);
            Ok(None)
        }
        Some(op) => Ok(Some((op, envelope))),
        None if shape.is_known() && !shape.has(Shape::ROW) => Ok(None),
        None => Err(ConnectorError::bad_message("field \"op\" of the change event is missing")
            .with_hint("flattened events (ExtractNewRecordState) are FORMAT PLAIN")),
    }
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

    fn has(self, bits: u16) -> bool {
        self.0 & bits == bits
    }

    /// A heartbeat, a transaction mark, a schema change, or JSON `null` (a wrapped tombstone).
    fn is_known(self) -> bool {
        self.0 & !Self::CLOCK == 0
            || self.has(Self::STATUS | Self::ID)
            || self.has(Self::DATABASE | Self::DDL)
    }
}

struct EnvelopeVisitor<'a> {
    rows: &'a mut Rows,
    wires: &'a [Wire],
    before_as: BeforeAs,
}

impl<'de> Visitor<'de> for EnvelopeVisitor<'_> {
    type Value = (Envelope<'de>, Shape);

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a change event")
    }

    fn visit_unit<E: Error>(self) -> std::result::Result<Self::Value, E> {
        Ok((Envelope::default(), Shape::default()))
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut map: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let Self { rows, wires, before_as } = self;
        let mut envelope = Envelope::default();
        let mut shape = Shape::default();
        let (mut seen_before, mut seen_after, mut seen_any) = (false, false, false);
        while let Some(field) = map.next_key_seed(FieldSeed)? {
            seen_any = true;
            match field {
                Field::Op => {
                    let token: &RawValue = map.next_value()?;
                    let op = Op::from_token(token.get());
                    envelope.op = Some(op.ok_or_else(|| {
                        A::Error::custom(format_args!("op {} is not known", token.get()))
                    })?);
                }
                Field::Before if !seen_before && before_as == BeforeAs::Text => {
                    seen_before = true;
                    let token: &RawValue = map.next_value()?;
                    envelope.before = Some(token.get()).filter(|token| *token != "null");
                }
                Field::Before if !seen_before => {
                    seen_before = true;
                    envelope.before_row = map.next_value_seed(RowOf { rows, wires })?;
                }
                Field::After if !seen_after => {
                    seen_after = true;
                    envelope.after_row = map.next_value_seed(RowOf { rows, wires })?;
                }
                Field::Before | Field::After => {
                    return Err(A::Error::custom("a row image is given twice"));
                }
                Field::Status => {
                    let token: &RawValue = map.next_value()?;
                    if matches!(token.get(), "\"BEGIN\"" | "\"END\"") {
                        shape.0 |= Shape::STATUS;
                    }
                }
                Field::Mark(bit) => {
                    shape.0 |= bit;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if seen_before || seen_after {
            shape.0 |= Shape::ROW;
        }
        if !seen_any {
            shape.0 |= Shape::OTHER;
        }
        Ok((envelope, shape))
    }
}

/// Appends a row image; its index, or `None` if it is null.
struct RowOf<'a> {
    rows: &'a mut Rows,
    wires: &'a [Wire],
}

impl<'de> DeserializeSeed<'de> for RowOf<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Option<usize>, D::Error> {
        let index = self.rows.len();
        let seed = RowSeed { rows: self.rows, wires: self.wires, key_only: false };
        let read = seed.deserialize(deserializer)?;
        Ok(read.is_row.then_some(index))
    }
}

enum Field {
    Op,
    Before,
    After,
    Status,
    /// Of no interest but for what it says of the shape.
    Mark(u16),
}

struct FieldSeed;

impl<'de> DeserializeSeed<'de> for FieldSeed {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Field, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for FieldSeed {
    type Value = Field;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a field of a change event")
    }

    fn visit_str<E: Error>(self, name: &str) -> std::result::Result<Field, E> {
        Ok(match name {
            "op" => Field::Op,
            "before" => Field::Before,
            "after" => Field::After,
            "ts_ms" | "ts_us" | "ts_ns" => Field::Mark(Shape::CLOCK),
            "status" => Field::Status,
            "id" => Field::Mark(Shape::ID),
            "databaseName" => Field::Mark(Shape::DATABASE),
            "ddl" | "tableChanges" => Field::Mark(Shape::DDL),
            _ => Field::Mark(Shape::OTHER),
        })
    }
}

/// The error of an event without a row image that its `op` needs.
pub(crate) fn missing_image(image: &str, op: Op) -> ConnectorError {
    let op = format!("{op:?}").to_lowercase();
    ConnectorError::bad_message(format!("a {op} event has no \"{image}\""))
}
