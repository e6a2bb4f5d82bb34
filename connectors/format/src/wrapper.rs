//! [`Wrapper`]: takes the schema envelope `{"schema": …, "payload": …}` off a message.
//!
//! The schema is the same, byte for byte, in message after message, and longer than the row. So
//! the bytes up to the payload are remembered: a message that begins with them is not scanned
//! there again.

use std::fmt;

use frazil_connector_api::{ConnectorError, Result};
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
    prefix: String,
    /// What the schema in `prefix` says.
    wires: Vec<Wire>,
}

impl Wrapper {
    /// A wrapper for columns with these names.
    pub(crate) fn new(columns_at: ColumnsAt, names: Vec<Box<str>>, defaults: Vec<Wire>) -> Self {
        Self { columns_at, names, wires: defaults.clone(), defaults, prefix: String::new() }
    }

    /// The payload and how its columns are written; an unwrapped value is its own payload.
    ///
    /// The text is checked once and whole: cheaper than string by string.
    ///
    /// # Errors
    /// `BadMessage` if the value is not UTF-8.
    pub(crate) fn open<'m>(&mut self, value: &'m [u8]) -> Result<(&'m str, &[Wire])> {
        let value = std::str::from_utf8(value).map_err(|error| {
            ConnectorError::bad_message("message is not UTF-8 text").with_source(error)
        })?;
        Ok(self.open_text(value))
    }

    fn open_text<'m>(&mut self, value: &'m str) -> (&'m str, &[Wire]) {
        if self.has_payload_column() || !begins_like_envelope(value) {
            return (value, &self.defaults);
        }
        if !self.prefix.is_empty()
            && let Some(rest) = value.strip_prefix(self.prefix.as_str())
            && let Some(payload) = rest.trim_ascii_end().strip_suffix('}')
        {
            return (payload, &self.wires);
        }
        let Some(envelope) = read_envelope(value) else { return (value, &self.defaults) };
        let payload = envelope.payload.get();
        let schema = envelope.schema.map_or("null", RawValue::get);
        self.wires = wires_of(schema, self.columns_at, &self.names, &self.defaults);
        self.prefix.clear();
        if envelope.schema_first {
            let start = payload.as_ptr().addr() - value.as_ptr().addr();
            self.prefix.push_str(&value[..start]);
        }
        (payload, &self.wires)
    }

    /// Whether `payload` is a column, so that an object with it is a bare row.
    fn has_payload_column(&self) -> bool {
        self.columns_at == ColumnsAt::Top && self.names.iter().any(|name| &**name == "payload")
    }
}

fn begins_like_envelope(value: &str) -> bool {
    let Some(inside) = value.trim_ascii_start().strip_prefix('{') else { return false };
    let inside = inside.trim_ascii_start();
    inside.starts_with("\"schema\"") || inside.starts_with("\"payload\"")
}

/// An object with exactly the keys `schema` and `payload`.
struct Envelope<'de> {
    schema: Option<&'de RawValue>,
    payload: &'de RawValue,
    schema_first: bool,
}

fn read_envelope(value: &str) -> Option<Envelope<'_>> {
    let mut deserializer = serde_json::Deserializer::from_str(value);
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

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut map: A,
    ) -> std::result::Result<Self::Value, A::Error> {
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
