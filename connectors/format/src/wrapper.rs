//! [`Wrapper`]: takes the schema envelope `{"schema": …, "payload": …}` off a message.
//!
//! The schema is the same, byte for byte, in message after message, and longer than the row. So
//! the bytes up to the payload are remembered: a message that begins with them is not scanned
//! there again.

use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::connect_schema::{ColumnsAt, wires_of};
use crate::wire::Wire;

/// Recognises the envelope and knows how the columns under it are written.
#[derive(Debug, Clone)]
pub(crate) struct Wrapper {
    columns_at: ColumnsAt,
    names: Vec<Box<str>>,
    defaults: Vec<Wire>,
    /// Bytes before the last wrapped payload; empty if there was none.
    prefix: Vec<u8>,
    /// What the schema in `prefix` says.
    wires: Vec<Wire>,
}

impl Wrapper {
    /// A wrapper for columns with these names.
    pub(crate) fn new(columns_at: ColumnsAt, names: Vec<Box<str>>, defaults: Vec<Wire>) -> Self {
        Self { columns_at, names, wires: defaults.clone(), defaults, prefix: Vec::new() }
    }

    /// The payload and how its columns are written; an unwrapped value is its own payload.
    pub(crate) fn open<'m>(&mut self, value: &'m [u8]) -> (&'m [u8], &[Wire]) {
        if self.has_payload_column() || !begins_like_envelope(value) {
            return (value, &self.defaults);
        }
        if !self.prefix.is_empty()
            && let Some(rest) = value.strip_prefix(self.prefix.as_slice())
            && let Some(payload) = rest.trim_ascii_end().strip_suffix(b"}")
        {
            return (payload, &self.wires);
        }
        let Some(envelope) = read_envelope(value) else { return (value, &self.defaults) };
        let payload = envelope.payload.get().as_bytes();
        let schema = envelope.schema.map_or("null", RawValue::get);
        self.wires = wires_of(schema, self.columns_at, &self.names, &self.defaults);
        self.prefix.clear();
        if envelope.schema_first {
            let start = payload.as_ptr().addr() - value.as_ptr().addr();
            self.prefix.extend_from_slice(&value[..start]);
        }
        (payload, &self.wires)
    }

    /// Whether `payload` is a column, so that an object with it is a bare row.
    fn has_payload_column(&self) -> bool {
        self.columns_at == ColumnsAt::Top && self.names.iter().any(|name| &**name == "payload")
    }
}

fn begins_like_envelope(value: &[u8]) -> bool {
    let Some(inside) = value.trim_ascii_start().strip_prefix(b"{") else { return false };
    let inside = inside.trim_ascii_start();
    inside.starts_with(b"\"schema\"") || inside.starts_with(b"\"payload\"")
}

/// An object with exactly the keys `schema` and `payload`.
struct Envelope<'de> {
    schema: Option<&'de RawValue>,
    payload: &'de RawValue,
    schema_first: bool,
}

fn read_envelope(value: &[u8]) -> Option<Envelope<'_>> {
    let mut deserializer = serde_json::Deserializer::from_slice(value);
    let envelope = deserializer.deserialize_map(EnvelopeVisitor).ok()?;
    deserializer.end().ok()?;
    envelope
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Option<Envelope<'de>>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object with schema and payload")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut schema, mut payload): (Option<&RawValue>, Option<&RawValue>) = (None, None);
        let (mut schema_first, mut exact) = (false, true);
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match &*name {
                "schema" if schema.is_none() => schema = Some(map.next_value()?),
                "payload" if payload.is_none() => {
                    schema_first = schema.is_some();
                    payload = Some(map.next_value()?);
                }
                _ => {
                    exact = false;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let envelope = payload.map(|payload| Envelope { schema, payload, schema_first });
        Ok(envelope.filter(|_| exact && schema.is_some()))
    }
}
