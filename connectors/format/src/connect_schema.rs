//! Kafka Connect's inline schema: what its names say about the columns.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::json::column_of;
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
    let mut wires = defaults.to_vec();
    for field in fields {
        let column = field.field.as_deref().and_then(|field| column_of(names, field));
        if let Some(column) = column {
            wires[column] = wire_of(field, defaults[column]);
        }
    }
    wires
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
        "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Some(Unit::Days),
        "io.debezium.time.Time"
        | "io.debezium.time.Timestamp"
        | "org.apache.kafka.connect.data.Time"
        | "org.apache.kafka.connect.data.Timestamp" => Some(Unit::Millis),
        "io.debezium.time.MicroTime" | "io.debezium.time.MicroTimestamp" => Some(Unit::Micros),
        "io.debezium.time.NanoTime" | "io.debezium.time.NanoTimestamp" => Some(Unit::Nanos),
        _ => None,
    };
    let decimal = match (field.name.as_deref(), field.kind.as_str()) {
        (Some("org.apache.kafka.connect.data.Decimal"), _) => {
            let scale = field.parameters.as_ref().and_then(|all| all.get("scale")?.parse().ok());
            Some(DecimalText::Base64 { scale })
        }
        (_, "string" | "double" | "float") => Some(DecimalText::Digits),
        _ => None,
    };
    Wire {
        unit: unit.unwrap_or(default.unit),
        unit_is_assumed: default.unit_is_assumed && unit.is_none(),
        decimal: decimal.unwrap_or(default.decimal),
        decimal_is_assumed: default.decimal_is_assumed && decimal.is_none(),
        ..default
    }
}
