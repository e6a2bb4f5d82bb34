//! [`write_manifest`]: manifests as Avro files.
//!
//! `iceberg` has a writer too; ours differs in three points. It leaks no memory (the crate's leaks
//! the name of every partition field of every entry that it writes). It takes partition fields
//! whose names are no Avro names, as Iceberg's Java library does. And entries that are carried over
//! keep the row ids of their files.
//!
//! **Invariant:** entries come out as they are given: statuses and sequence numbers are the
//! caller's, and a number that is left out is inherited from the manifest list.

use std::collections::{BTreeMap, HashMap};

use apache_avro::types::Value;
use apache_avro::{Decimal, Schema as AvroSchema, Writer};
use bytes::Bytes;
use frazil_connector_api::{ConnectorError, Result};
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, Datum, FieldSummary, FormatVersion, Literal, ManifestContentType,
    ManifestFile, ManifestStatus, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Struct,
    Type, UNASSIGNED_SEQUENCE_NUMBER,
};
use serde_json::{Value as Json, json};

use crate::avro_names::{avro_name, avro_names};
use crate::catalog::write_file;
use crate::error::{ErrorContext, target, unsupported};
use crate::values::datum;

/// What a manifest is about.
#[derive(Debug)]
pub(crate) struct ManifestHead<'a> {
    pub(crate) version: FormatVersion,
    pub(crate) content: ManifestContentType,
    pub(crate) spec: &'a PartitionSpec,
    /// A schema with the columns of the spec.
    pub(crate) schema: &'a Schema,
    /// The snapshot that adds the manifest.
    pub(crate) snapshot_id: i64,
}

/// A file in a manifest.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) status: ManifestStatus,
    pub(crate) snapshot_id: i64,
    /// Data and file sequence number; none for a file that is added.
    pub(crate) sequence: Option<(i64, i64)>,
    pub(crate) file: DataFile,
    /// Row id of the file's first row; none for a file that is added.
    pub(crate) first_row_id: Option<i64>,
}

/// Name and type of a partition field.
struct PartitionField {
    id: i32,
    name: String,
    avro: String,
    data_type: PrimitiveType,
}

/// Writes a manifest, durable on return but for its folder.
///
/// # Errors
/// `Target` if a file's partition does not fit the spec; `Unavailable`.
pub(crate) async fn write_manifest(
    io: &FileIO,
    path: &str,
    head: &ManifestHead<'_>,
    entries: &[Entry],
) -> Result<ManifestFile> {
    let fields = partition_fields(head)?;
    let bytes = encode(head, &fields, entries)?;
    let length = bytes.len() as i64;
    write_file(io, path, bytes).await?;
    let count = |status| {
        let of_status = || entries.iter().filter(move |entry| entry.status == status);
        let rows: u64 = of_status().map(|entry| entry.file.record_count()).sum();
        (Some(of_status().count() as u32), Some(rows))
    };
    let (added_files_count, added_rows_count) = count(ManifestStatus::Added);
    let (existing_files_count, existing_rows_count) = count(ManifestStatus::Existing);
    let (deleted_files_count, deleted_rows_count) = count(ManifestStatus::Deleted);
    let live = entries.iter().filter(|entry| entry.status != ManifestStatus::Deleted);
    let oldest = live.filter_map(|entry| entry.sequence).map(|(data, _)| data).min();
    Ok(ManifestFile {
        manifest_path: path.to_string(),
        manifest_length: length,
        partition_spec_id: head.spec.spec_id(),
        content: head.content,
        // The list writer puts the numbers of the commit in their place.
        sequence_number: UNASSIGNED_SEQUENCE_NUMBER,
        min_sequence_number: oldest.unwrap_or(UNASSIGNED_SEQUENCE_NUMBER),
        added_snapshot_id: head.snapshot_id,
        added_files_count,
        existing_files_count,
        deleted_files_count,
        added_rows_count,
        existing_rows_count,
        deleted_rows_count,
        partitions: Some(summaries(&fields, entries)?),
        key_metadata: None,
        first_row_id: None,
    })
}

fn partition_fields(head: &ManifestHead<'_>) -> Result<Vec<PartitionField>> {
    let what = || format!("partition spec {} does not fit the table's schema", head.spec.spec_id());
    let partition = head.spec.partition_type(head.schema).context(what)?;
    let names = avro_names(partition.fields().iter().map(|field| field.name.as_str()));
    let fields = partition.fields().iter().zip(names).map(|(field, avro)| {
        let Type::Primitive(data_type) = &*field.field_type else {
            return Err(target(format!("partition field \"{}\" is nested", field.name)));
        };
        let data_type = data_type.clone();
        Ok(PartitionField { id: field.id, name: field.name.clone(), avro, data_type })
    });
    fields.collect()
}

fn encode(head: &ManifestHead<'_>, fields: &[PartitionField], entries: &[Entry]) -> Result<Bytes> {
    let schema = AvroSchema::parse(&manifest_schema(fields)?).context(describe)?;
    let mut writer = Writer::new(&schema, Vec::new());
    let json = |value: serde_json::Result<String>| {
        value.map_err(|source| ConnectorError::internal(describe()).with_source(source))
    };
    let version = match head.version {
        FormatVersion::V3 => "3",
        _ => "2",
    };
    for (key, value) in [
        ("schema", json(serde_json::to_string(head.schema))?),
        ("schema-id", head.schema.schema_id().to_string()),
        ("partition-spec", json(serde_json::to_string(head.spec.fields()))?),
        ("partition-spec-id", head.spec.spec_id().to_string()),
        ("format-version", version.to_string()),
        ("content", head.content.to_string()),
    ] {
        writer.add_user_metadata(key.to_string(), value).context(describe)?;
    }
    for entry in entries {
        writer.append_value_ref(&entry_value(entry, fields)?).context(describe)?;
    }
    Ok(Bytes::from(writer.into_inner().context(describe)?))
}

fn describe() -> String {
    "cannot write a manifest".to_string()
}

/// The schema of manifests in format versions 2 and 3.
fn manifest_schema(fields: &[PartitionField]) -> Result<Json> {
    let partition: Vec<_> = fields.iter().map(partition_schema).collect::<Result<_>>()?;
    let required =
        |id: i32, name: &str, kind: Json| json!({ "name": name, "type": kind, "field-id": id });
    let optional = |id: i32, name: &str, kind: Json| {
        let mut field = required(id, name, json!(["null", kind]));
        field["default"] = Json::Null;
        field
    };
    let map = |key: i32, value: i32, kind: &str| {
        json!({ "type": "array", "logicalType": "map", "items": {
            "type": "record", "name": format!("k{key}_v{value}"), "fields": [
                { "name": "key", "type": "int", "field-id": key },
                { "name": "value", "type": kind, "field-id": value },
            ],
        }})
    };
    let list =
        |element: i32, kind: &str| json!({ "type": "array", "items": kind, "element-id": element });
    let data_file = json!({ "type": "record", "name": "r2", "fields": [
        required(134, "content", json!("int")),
        required(100, "file_path", json!("string")),
        required(101, "file_format", json!("string")),
        required(102, "partition", json!({
            "type": "record", "name": "r102", "fields": partition,
        })),
        required(103, "record_count", json!("long")),
        required(104, "file_size_in_bytes", json!("long")),
        optional(108, "column_sizes", map(117, 118, "long")),
        optional(109, "value_counts", map(119, 120, "long")),
        optional(110, "null_value_counts", map(121, 122, "long")),
        optional(137, "nan_value_counts", map(138, 139, "long")),
        optional(125, "lower_bounds", map(126, 127, "bytes")),
        optional(128, "upper_bounds", map(129, 130, "bytes")),
        optional(131, "key_metadata", json!("bytes")),
        optional(132, "split_offsets", list(133, "long")),
        optional(135, "equality_ids", list(136, "int")),
        optional(140, "sort_order_id", json!("int")),
        optional(142, "first_row_id", json!("long")),
        optional(143, "referenced_data_file", json!("string")),
        optional(144, "content_offset", json!("long")),
        optional(145, "content_size_in_bytes", json!("long")),
    ]});
    Ok(json!({ "type": "record", "name": "manifest_entry", "fields": [
        required(0, "status", json!("int")),
        optional(1, "snapshot_id", json!("long")),
        optional(3, "sequence_number", json!("long")),
        optional(4, "file_sequence_number", json!("long")),
        required(2, "data_file", data_file),
    ]}))
}

/// A partition field; it tells its name in Iceberg if Avro does not take it.
fn partition_schema(field: &PartitionField) -> Result<Json> {
    let id = field.id;
    let logical = |kind: &str, logical: &str| json!({ "type": kind, "logicalType": logical });
    let kind = match &field.data_type {
        PrimitiveType::Boolean => json!("boolean"),
        PrimitiveType::Int => json!("int"),
        PrimitiveType::Long => json!("long"),
        PrimitiveType::Float => json!("float"),
        PrimitiveType::Double => json!("double"),
        PrimitiveType::String => json!("string"),
        PrimitiveType::Binary => json!("bytes"),
        PrimitiveType::Date => logical("int", "date"),
        PrimitiveType::Time => logical("long", "time-micros"),
        PrimitiveType::Timestamp | PrimitiveType::Timestamptz => {
            logical("long", "timestamp-micros")
        }
        PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs => {
            logical("long", "timestamp-nanos")
        }
        PrimitiveType::Fixed(size) => {
            json!({ "type": "fixed", "name": format!("fixed_{id}"), "size": size })
        }
        PrimitiveType::Decimal { precision, scale } => json!({
            "type": "fixed", "name": format!("decimal_{id}"),
            "size": Type::decimal_required_bytes(*precision).context(describe)?,
            "logicalType": "decimal", "precision": precision, "scale": scale,
        }),
        PrimitiveType::Uuid => {
            return Err(unsupported(format!(
                "partition field \"{}\" is a uuid, which is not written",
                field.name
            )));
        }
    };
    let mut schema = json!({
        "name": field.avro, "type": ["null", kind], "default": null, "field-id": id,
    });
    if avro_name(&field.name) != field.name {
        schema["iceberg-field-name"] = json!(field.name);
    }
    Ok(schema)
}

fn optional(value: Option<Value>) -> Value {
    match value {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(value) => Value::Union(1, Box::new(value)),
    }
}

fn record<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Record(fields.map(|(name, value)| (name.to_string(), value)).into())
}

fn entry_value(entry: &Entry, fields: &[PartitionField]) -> Result<Value> {
    let long = |value: Option<i64>| optional(value.map(Value::Long));
    let file = &entry.file;
    let content = match file.content_type() {
        DataContentType::Data => 0,
        DataContentType::PositionDeletes => 1,
        DataContentType::EqualityDeletes => 2,
    };
    let counts = |counts: &HashMap<i32, u64>| {
        map_value(counts.iter().map(|(id, count)| Ok((*id, Value::Long(*count as i64)))))
    };
    let bounds = |bounds: &HashMap<i32, Datum>| {
        map_value(bounds.iter().map(|(id, bound)| {
            let bytes = bound.to_bytes().context(describe)?;
            Ok((*id, Value::Bytes(bytes.into_vec())))
        }))
    };
    let longs = |values: &[i64]| Value::Array(values.iter().copied().map(Value::Long).collect());
    let ids = |values: Vec<i32>| Value::Array(values.into_iter().map(Value::Int).collect());
    let format = file.file_format().to_string().to_ascii_uppercase();
    let data_file = record([
        ("content", Value::Int(content)),
        ("file_path", Value::String(file.file_path().to_string())),
        ("file_format", Value::String(format)),
        ("partition", partition_value(file.partition(), fields)?),
        ("record_count", Value::Long(file.record_count() as i64)),
        ("file_size_in_bytes", Value::Long(file.file_size_in_bytes() as i64)),
        ("column_sizes", counts(file.column_sizes())?),
        ("value_counts", counts(file.value_counts())?),
        ("null_value_counts", counts(file.null_value_counts())?),
        ("nan_value_counts", counts(file.nan_value_counts())?),
        ("lower_bounds", bounds(file.lower_bounds())?),
        ("upper_bounds", bounds(file.upper_bounds())?),
        ("key_metadata", optional(file.key_metadata().map(|key| Value::Bytes(key.to_vec())))),
        ("split_offsets", optional(file.split_offsets().map(longs))),
        ("equality_ids", optional(file.equality_ids().map(ids))),
        ("sort_order_id", optional(file.sort_order_id().map(Value::Int))),
        ("first_row_id", long(entry.first_row_id)),
        ("referenced_data_file", optional(file.referenced_data_file().map(Value::String))),
        ("content_offset", long(file.content_offset())),
        ("content_size_in_bytes", long(file.content_size_in_bytes())),
    ]);
    let status = match entry.status {
        ManifestStatus::Existing => 0,
        ManifestStatus::Added => 1,
        ManifestStatus::Deleted => 2,
    };
    Ok(record([
        ("status", Value::Int(status)),
        ("snapshot_id", long(Some(entry.snapshot_id))),
        ("sequence_number", long(entry.sequence.map(|(data, _)| data))),
        ("file_sequence_number", long(entry.sequence.map(|(_, file)| file))),
        ("data_file", data_file),
    ]))
}

/// A map by column id, ascending, so that a manifest is the same for the same files.
fn map_value(entries: impl Iterator<Item = Result<(i32, Value)>>) -> Result<Value> {
    let entries: BTreeMap<i32, Value> = entries.collect::<Result<_>>()?;
    let entries = entries.into_iter();
    let entries = entries.map(|(key, value)| record([("key", Value::Int(key)), ("value", value)]));
    Ok(optional(Some(Value::Array(entries.collect()))))
}

fn partition_value(partition: &Struct, fields: &[PartitionField]) -> Result<Value> {
    check_arity(partition, fields)?;
    let values = partition.iter().zip(fields).map(|(value, field)| {
        let value = value.map(|value| literal_value(value, field)).transpose()?;
        Ok((field.avro.clone(), optional(value)))
    });
    Ok(Value::Record(values.collect::<Result<_>>()?))
}

fn check_arity(partition: &Struct, fields: &[PartitionField]) -> Result<()> {
    if partition.fields().len() == fields.len() {
        return Ok(());
    }
    Err(target(format!(
        "a file has {} partition values, but its partition spec has {} fields",
        partition.fields().len(),
        fields.len()
    )))
}

fn literal_value(literal: &Literal, field: &PartitionField) -> Result<Value> {
    let odd = || target(format!("partition field \"{}\" has a value of another type", field.name));
    let Literal::Primitive(literal) = literal else { return Err(odd()) };
    Ok(match (literal, &field.data_type) {
        (PrimitiveLiteral::Boolean(value), PrimitiveType::Boolean) => Value::Boolean(*value),
        (PrimitiveLiteral::Int(value), PrimitiveType::Int) => Value::Int(*value),
        (PrimitiveLiteral::Int(value), PrimitiveType::Date) => Value::Date(*value),
        // A column of another engine may have been widened.
        (PrimitiveLiteral::Int(value), PrimitiveType::Long) => Value::Long(i64::from(*value)),
        (PrimitiveLiteral::Long(value), PrimitiveType::Long) => Value::Long(*value),
        (PrimitiveLiteral::Long(value), PrimitiveType::Time) => Value::TimeMicros(*value),
        (PrimitiveLiteral::Long(value), PrimitiveType::Timestamp | PrimitiveType::Timestamptz) => {
            Value::TimestampMicros(*value)
        }
        (
            PrimitiveLiteral::Long(value),
            PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs,
        ) => Value::TimestampNanos(*value),
        (PrimitiveLiteral::Float(value), PrimitiveType::Float) => Value::Float(value.0),
        (PrimitiveLiteral::Double(value), PrimitiveType::Double) => Value::Double(value.0),
        (PrimitiveLiteral::String(value), PrimitiveType::String) => Value::String(value.clone()),
        (PrimitiveLiteral::Binary(value), PrimitiveType::Binary) => Value::Bytes(value.clone()),
        (PrimitiveLiteral::Binary(value), PrimitiveType::Fixed(size))
            if value.len() as u64 == *size =>
        {
            Value::Fixed(value.len(), value.clone())
        }
        (PrimitiveLiteral::Int128(value), PrimitiveType::Decimal { .. }) => {
            Value::Decimal(Decimal::from(value.to_be_bytes()))
        }
        _ => return Err(odd()),
    })
}

/// For each partition field what readers prune by.
fn summaries(fields: &[PartitionField], entries: &[Entry]) -> Result<Vec<FieldSummary>> {
    entries.iter().try_for_each(|entry| check_arity(entry.file.partition(), fields))?;
    let summary = |(at, field): (usize, &PartitionField)| {
        let mut summary = FieldSummary { contains_nan: Some(false), ..FieldSummary::default() };
        let (mut lower, mut upper): (Option<Datum>, Option<Datum>) = (None, None);
        for entry in entries {
            let Some(literal) = &entry.file.partition()[at] else {
                summary.contains_null = true;
                continue;
            };
            let Literal::Primitive(literal) = literal else { continue };
            let value = datum(&field.data_type, literal)?;
            if value.is_nan() {
                summary.contains_nan = Some(true);
                continue;
            }
            if lower.as_ref().is_none_or(|lower| value < *lower) {
                lower = Some(value.clone());
            }
            if upper.as_ref().is_none_or(|upper| value > *upper) {
                upper = Some(value);
            }
        }
        let bytes = |bound: Option<Datum>| {
            bound.map(|bound| bound.to_bytes().context(describe)).transpose()
        };
        summary.lower_bound = bytes(lower)?;
        summary.upper_bound = bytes(upper)?;
        Ok(summary)
    };
    fields.iter().enumerate().map(summary).collect()
}

#[cfg(test)]
mod tests;
