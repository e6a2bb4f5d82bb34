//! Kafka Connect's inline schema: what its names say about the columns.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::wire::{DecimalText, Unit, Wire};

/// Where the columns stand in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnsAt {
    /// The struct's own fields.
    Top,
    /// The fields of its field `after` (or `before`).
    Envelope,
}

/// The part of a Connect schema that matters here.
#[derive(Debug, Deserialize)]
struct ConnectSchema {
    #[serde(rename = "type", default)]
    kind: String,
    name: Option<String>,
    field: Option<String>,
    #[serde(default)]
    parameters: Option<BTreeMap<String, String>>,
    #[serde(default)]
    fields: Option<Vec<ConnectSchema>>,
    #[serde(default)]
    items: Option<Box<ConnectSchema>>,
}

/// The wires that hold under `schema`: `defaults` where it says nothing.
///
/// A schema that is null, empty or not understood changes nothing.
pub(crate) fn wires_of(
    schema: &str,
    columns_at: ColumnsAt,
    names: &[Box<str>],
    defaults: &[Wire],
) -> Vec<Wire> {
    let parsed: Option<ConnectSchema> = serde_json::from_str(schema).ok();
    let fields = parsed.as_ref().and_then(|schema| columns(schema, columns_at)).unwrap_or_default();
    let find = |name: &str| fields.iter().find(|field| field.field.as_deref() == Some(name));
    names
        .iter()
        .zip(defaults)
        .map(|(name, default)| find(name).map_or(*default, |field| wire_of(field, *default)))
        .collect()
}

fn columns(schema: &ConnectSchema, columns_at: ColumnsAt) -> Option<&[ConnectSchema]> {
    let fields = schema.fields.as_deref()?;
    match columns_at {
        ColumnsAt::Top => Some(fields),
        ColumnsAt::Envelope => ["after", "before"]
            .iter()
            .find_map(|side| fields.iter().find(|field| field.field.as_deref() == Some(side)))?
            .fields
            .as_deref(),
    }
}

fn wire_of(field: &ConnectSchema, default: Wire) -> Wire {
    if let Some(item) = &field.items {
        return wire_of(item, default);
    }
    let unit = match field.name.as_deref().unwrap_or_default() {
        "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Unit::Days,
        "io.debezium.time.Time"
        | "io.debezium.time.Timestamp"
        | "org.apache.kafka.connect.data.Time"
        | "org.apache.kafka.connect.data.Timestamp" => Unit::Millis,
        "io.debezium.time.MicroTime" | "io.debezium.time.MicroTimestamp" => Unit::Micros,
        "io.debezium.time.NanoTime" | "io.debezium.time.NanoTimestamp" => Unit::Nanos,
        _ => default.unit,
    };
    let decimal = match (field.name.as_deref(), field.kind.as_str()) {
        (Some("org.apache.kafka.connect.data.Decimal"), _) => {
            let scale = field.parameters.as_ref().and_then(|all| all.get("scale")?.parse().ok());
            DecimalText::Base64 { scale }
        }
        (_, "string" | "double" | "float") => DecimalText::Digits,
        _ => default.decimal,
    };
    Wire { unit, decimal, ..default }
}
