//! Columns of the engine as columns of Iceberg: types, field ids, and [`Conform`].
//!
//! Narrow integers widen, views and dictionaries become plain, times become microseconds. What
//! Iceberg cannot hold without loss is refused when the sink is opened.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema as ArrowSchema, SchemaRef, TimeUnit};
use frazil_connector_api::Result;
use iceberg::arrow::{arrow_schema_to_schema_auto_assign_ids, schema_to_arrow_schema};
use iceberg::spec::{Datum, FormatVersion, NestedField, Schema, Type};

use crate::error::{ErrorContext, target, unsupported};
use crate::values::{as_type, column_value, repeated};

/// The schema of a table for rows of `rows`, with the columns `key` as its identifier, unless one
/// of them may be NULL: Iceberg's identifier fields may not, and readers do not need them.
///
/// # Errors
/// `Unsupported` for a column that Iceberg cannot hold.
pub(crate) fn iceberg_schema(
    rows: &ArrowSchema,
    key: &[usize],
    version: FormatVersion,
) -> Result<Schema> {
    let mut fields = Vec::with_capacity(rows.fields().len());
    for (index, field) in rows.fields().iter().enumerate() {
        let data_type = stored_type(field.name(), field.data_type(), version)?;
        let float = matches!(data_type, DataType::Float32 | DataType::Float64);
        if key.contains(&index) && (float || data_type.is_nested()) {
            return Err(unsupported(format!(
                "column \"{}\" of type {data_type} cannot be in a primary key",
                field.name()
            ))
            .with_hint("Iceberg's identifier fields are neither floating point nor nested"));
        }
        let is_required = key.contains(&index) && !field.is_nullable();
        fields.push(Field::new(field.name(), data_type, !is_required));
    }
    let schema = arrow_schema_to_schema_auto_assign_ids(&ArrowSchema::new(fields))
        .context(|| "cannot turn the sink's columns into Iceberg's".to_string())?;
    let key = if key.iter().any(|&at| rows.field(at).is_nullable()) { &[] } else { key };
    let names = key.iter().map(|&index| rows.field(index).name());
    let ids: Vec<i32> = names.filter_map(|name| schema.field_id_by_name(name)).collect();
    schema
        .into_builder()
        .with_identifier_field_ids(ids)
        .build()
        .context(|| "cannot make the table's schema".to_string())
}

/// The type that a column has in the table's files.
fn stored_type(column: &str, data_type: &DataType, version: FormatVersion) -> Result<DataType> {
    let nested = |field: &FieldRef| -> Result<FieldRef> {
        let inner = stored_type(column, field.data_type(), version)?;
        Ok(Arc::new(Field::new(field.name(), inner, field.is_nullable())))
    };
    let utc = |zone: &Option<Arc<str>>| zone.as_ref().map(|_| Arc::<str>::from("+00:00"));
    Ok(match data_type {
        DataType::Boolean
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Utf8
        | DataType::FixedSizeBinary(_)
        | DataType::Decimal128(_, _) => data_type.clone(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::LargeBinary,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => {
            DataType::Time64(TimeUnit::Microsecond)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) if version >= FormatVersion::V3 => {
            DataType::Timestamp(TimeUnit::Nanosecond, utc(zone))
        }
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Nanosecond => {
            DataType::Timestamp(TimeUnit::Microsecond, utc(zone))
        }
        DataType::Dictionary(_, values) => stored_type(column, values, version)?,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => DataType::List(nested(item)?),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(nested).collect::<Result<_>>()?)
        }
        DataType::Map(entries, sorted) => DataType::Map(nested(entries)?, *sorted),
        other => {
            return Err(unsupported(format!(
                "column \"{column}\" has type {other}, which an Iceberg table cannot hold"
            ))
            .with_hint("cast it in the query, for example to text or to timestamp(6)"));
        }
    })
}

/// Checks that `rows`, of the schema `wanted`, can go into a table of schema `found`.
///
/// # Errors
/// `Target` naming the first column that does not fit.
pub(crate) fn check_fits(
    table: &str,
    rows: &ArrowSchema,
    wanted: &Schema,
    found: &Schema,
) -> Result<()> {
    for field in wanted.as_struct().fields() {
        let name = &field.name;
        let Some(there) = found.field_by_name(name) else {
            return Err(target(format!("table \"{table}\" has no column \"{name}\"")));
        };
        if !same_type(&field.field_type, &there.field_type) {
            return Err(target(format!(
                "column \"{name}\" of table \"{table}\" has type {}, but the sink writes {}",
                there.field_type, field.field_type
            ))
            .with_hint("cast the column in the query, or write into another table"));
        }
        if there.required && rows.field_with_name(name).is_ok_and(Field::is_nullable) {
            return Err(target(format!(
                "column \"{name}\" of table \"{table}\" may not be NULL, but the sink's may"
            ))
            .with_hint("write coalesce(column, value) in the query"));
        }
    }
    for field in found.as_struct().fields() {
        let is_absent = wanted.field_by_name(&field.name).is_none();
        if field.required && is_absent && write_default(field).is_none() {
            return Err(target(format!(
                "table \"{table}\" requires column \"{}\", which the sink does not write",
                field.name
            )));
        }
    }
    let key = |schema: &Schema| {
        let names = schema.identifier_field_ids().filter_map(|id| schema.name_by_field_id(id));
        let mut names: Vec<String> = names.map(String::from).collect();
        names.sort();
        names
    };
    let (ours, theirs) = (key(wanted), key(found));
    if !ours.is_empty() && !theirs.is_empty() && ours != theirs {
        return Err(target(format!(
            "table \"{table}\" has the key ({}), but the sink's key is ({})",
            theirs.join(", "),
            ours.join(", ")
        )));
    }
    Ok(())
}

/// What a writer without a column puts into it.
fn write_default(field: &NestedField) -> Option<Datum> {
    column_value(field, field.write_default.as_ref()?)
}

fn same_type(left: &Type, right: &Type) -> bool {
    match (left, right) {
        (Type::Primitive(left), Type::Primitive(right)) => left == right,
        (Type::Struct(left), Type::Struct(right)) => {
            left.fields().len() == right.fields().len()
                && left.fields().iter().zip(right.fields()).all(|(left, right)| {
                    left.name == right.name && same_type(&left.field_type, &right.field_type)
                })
        }
        (Type::List(left), Type::List(right)) => {
            same_type(&left.element_field.field_type, &right.element_field.field_type)
        }
        (Type::Map(left), Type::Map(right)) => {
            same_type(&left.key_field.field_type, &right.key_field.field_type)
                && same_type(&left.value_field.field_type, &right.value_field.field_type)
        }
        _ => false,
    }
}

/// The Arrow schema of a table's files, with field ids.
pub(crate) fn file_schema(schema: &Schema) -> Result<SchemaRef> {
    let schema = schema_to_arrow_schema(schema)
        .context(|| "cannot turn the table's columns into Arrow's".to_string())?;
    Ok(Arc::new(schema))
}

/// The same schema for readers outside: no field ids.
pub(crate) fn plain_schema(schema: &ArrowSchema) -> Result<SchemaRef> {
    let plain = iceberg::arrow::strip_metadata_from_schema(schema)
        .context(|| "cannot strip the field ids of a schema".to_string())?;
    Ok(Arc::new(plain))
}

/// Brings rows into the shape of a table's files: columns by name, stored types; for columns that
/// the sink does not have their write default, or NULL.
#[derive(Debug, Clone)]
pub(crate) struct Conform {
    target: SchemaRef,
    sources: Vec<Option<usize>>,
    /// Write defaults by column, as far as there are any.
    defaults: Vec<Option<Datum>>,
}

impl Conform {
    /// From rows of `rows` to files of `target`.
    ///
    /// # Errors
    /// `Internal` if the table's schema has no Arrow form.
    pub(crate) fn new(rows: &ArrowSchema, schema: &Schema) -> Result<Self> {
        let target = file_schema(schema)?;
        let fields = schema.as_struct().fields();
        let defaults = fields.iter().map(|field| write_default(field)).collect();
        let by_name: HashMap<&str, usize> =
            rows.fields().iter().enumerate().map(|(i, f)| (f.name().as_str(), i)).collect();
        let sources = target
            .fields()
            .iter()
            .map(|field| by_name.get(field.name().as_str()).copied())
            .collect();
        Ok(Self { target, sources, defaults })
    }

    /// The schema of the files.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.target
    }

    /// Rows in the shape of the files.
    ///
    /// # Errors
    /// `Target` for NULL in a required column or a value outside the stored type.
    pub(crate) fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = self
            .sources
            .iter()
            .zip(&self.defaults)
            .zip(self.target.fields())
            .map(|((source, default), field)| match (source, default) {
                (Some(index), _) => as_type(rows.column(*index), field.data_type()),
                (None, Some(default)) => repeated(default, field.data_type(), rows.num_rows()),
                (None, None) => Ok(new_null_array(field.data_type(), rows.num_rows())),
            })
            .collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(self.target.clone(), columns)
            .map_err(|source| target("rows do not fit the table").with_source(source))
    }
}
