//! [`Columns`]: how a table's columns are found in its files, which may be older than the schema or
//! written by others.
//!
//! A column is found by its field id, at every depth. In a file without field ids it is found by
//! the table's name mapping. A column that a file lacks has, in this order: the value of the file's
//! identity partition, the column's initial default, or NULL.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use frazil_connector_api::{ConnectorError, Result};
use iceberg::spec::{
    DEFAULT_SCHEMA_NAME_MAPPING, Datum, MappedField, NameMapping, NestedField, Schema,
    TableMetadata, Type,
};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::error::target;
use crate::schema::file_schema;
use crate::values::{as_type, column_value, repeated};

/// Values of columns by field id.
pub(crate) type Constants = HashMap<i32, Datum>;

/// Columns of a table; see the module.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    schema: SchemaRef,
    defaults: Arc<Constants>,
    names: Option<Arc<[Arc<MappedField>]>>,
}

/// Names of a level of a nested schema, in a file without field ids.
type Names<'a> = Option<&'a [Arc<MappedField>]>;

impl Columns {
    /// All columns of a table's current schema.
    ///
    /// # Errors
    /// `Target` if the table's name mapping cannot be read.
    pub(crate) fn new(metadata: &TableMetadata) -> Result<Self> {
        let names = metadata.properties().get(DEFAULT_SCHEMA_NAME_MAPPING);
        Self::of(metadata.current_schema(), names.map(String::as_str))
    }

    fn of(schema: &Schema, names: Option<&str>) -> Result<Self> {
        let mut defaults = Constants::new();
        for field in schema.as_struct().fields() {
            add_defaults(field, &mut defaults);
        }
        let names = names.map(|text| -> Result<Arc<[Arc<MappedField>]>> {
            let names: NameMapping = serde_json::from_str(text).map_err(|source| {
                target(format!("table property \"{DEFAULT_SCHEMA_NAME_MAPPING}\" is broken"))
                    .with_source(source)
            })?;
            Ok(names.fields().iter().cloned().map(Arc::new).collect())
        });
        let names = names.transpose()?;
        Ok(Self { schema: file_schema(schema)?, defaults: Arc::new(defaults), names })
    }

    /// Their Arrow schema, with field ids.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Some of the columns, by index; `None` keeps all.
    pub(crate) fn project(&self, columns: Option<&[usize]>) -> Result<Self> {
        let schema = match columns {
            None => Arc::clone(&self.schema),
            Some(columns) => Arc::new(self.schema.project(columns)?),
        };
        Ok(Self { schema, ..self.clone() })
    }

    /// Where each of the columns is among the columns of a file; `None` if the file lacks it.
    ///
    /// # Errors
    /// `Target` if the file has no field ids and the table no name mapping: nobody can tell which
    /// column is which then.
    pub(crate) fn places(&self, path: &str, file: &Fields) -> Result<Vec<Option<usize>>> {
        let has_ids = file.is_empty() || file.iter().any(|field| field_id(field).is_some());
        if !has_ids && self.names.is_none() {
            return Err(target(format!(
                "data file \"{path}\" has no field ids, and the table has no name mapping"
            ))
            .with_hint(format!(
                "set table property {DEFAULT_SCHEMA_NAME_MAPPING}, or rewrite the file"
            )));
        }
        let places = places(file, self.root_names(file));
        let fields = self.schema.fields().iter();
        Ok(fields.map(|field| field_id(field).and_then(|id| places.get(&id).copied())).collect())
    }

    fn root_names(&self, file: &Fields) -> Names<'_> {
        let names = self.names.as_deref()?;
        let has_ids = file.iter().any(|field| field_id(field).is_some());
        (!has_ids).then_some(names)
    }

    /// A column of a file as column `at` of ours.
    ///
    /// # Errors
    /// `Target` if its values do not fit.
    pub(crate) fn shape(
        &self,
        at: usize,
        column: &ArrayRef,
        found: usize,
        file: &Fields,
    ) -> Result<ArrayRef> {
        let names = self.root_names(file).and_then(|names| named(names, file[found].name()));
        self.shape_field(column, &file[found], self.schema.field(at), names)
    }

    /// Column `at` for rows of a file that lacks it.
    ///
    /// # Errors
    /// `Target` if there is no value for it.
    pub(crate) fn absent(&self, at: usize, constants: &Constants, rows: usize) -> Result<ArrayRef> {
        let field = self.schema.field(at);
        match field_id(field).and_then(|id| constants.get(&id)) {
            Some(constant) => repeated(constant, field.data_type(), rows),
            None => self.absent_field(field, rows),
        }
    }

    fn absent_field(&self, field: &Field, rows: usize) -> Result<ArrayRef> {
        match field_id(field).and_then(|id| self.defaults.get(&id)) {
            Some(default) => repeated(default, field.data_type(), rows),
            None if field.is_nullable() => Ok(new_null_array(field.data_type(), rows)),
            None => Err(target(format!(
                "a data file lacks column \"{}\", which may not be NULL",
                field.name()
            ))),
        }
    }

    fn shape_field(
        &self,
        column: &ArrayRef,
        from: &Field,
        to: &Field,
        names: Names<'_>,
    ) -> Result<ArrayRef> {
        match (from.data_type(), to.data_type()) {
            (DataType::Struct(found), DataType::Struct(wanted)) => {
                let column = column.as_struct();
                let places = places(found, names);
                let children = wanted.iter().map(|field| {
                    match field_id(field).and_then(|id| places.get(&id).copied()) {
                        None => self.absent_field(field, column.len()),
                        Some(at) => {
                            let names = names.and_then(|names| named(names, found[at].name()));
                            self.shape_field(column.column(at), &found[at], field, names)
                        }
                    }
                });
                let children = children.collect::<Result<Vec<_>>>()?;
                let nulls = column.nulls().cloned();
                Ok(Arc::new(StructArray::try_new(wanted.clone(), children, nulls)?))
            }
            (DataType::List(found), DataType::List(wanted)) => {
                let list = column.as_list::<i32>();
                let names = names.and_then(|names| named(names, "element"));
                let values = self.shape_field(list.values(), found, wanted, names)?;
                let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
                Ok(Arc::new(ListArray::try_new(Arc::clone(wanted), offsets, values, nulls)?))
            }
            (DataType::Map(found, _), DataType::Map(wanted, sorted)) => {
                let map = column.as_map();
                let (DataType::Struct(from), DataType::Struct(to)) =
                    (found.data_type(), wanted.data_type())
                else {
                    return Err(ConnectorError::internal("a map has no entries"));
                };
                let side = |at: usize, column: &ArrayRef, name| {
                    let names = names.and_then(|names| named(names, name));
                    self.shape_field(column, &from[at], &to[at], names)
                };
                let sides = vec![side(0, map.keys(), "key")?, side(1, map.values(), "value")?];
                let entries = StructArray::try_new(to.clone(), sides, None)?;
                let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
                let map = MapArray::try_new(Arc::clone(wanted), offsets, entries, nulls, *sorted)?;
                Ok(Arc::new(map))
            }
            (_, wanted) => as_type(column, wanted),
        }
    }
}

/// The values of a file's identity partition, by the column that they are of.
pub(crate) fn identity_values(
    metadata: &TableMetadata,
    spec_id: i32,
    partition: &iceberg::spec::Struct,
) -> Constants {
    let Some(spec) = metadata.partition_spec_by_id(spec_id) else { return Constants::new() };
    let fields = spec.fields().iter().zip(partition.iter());
    let identity =
        fields.filter(|(field, _)| field.transform == iceberg::spec::Transform::Identity);
    let values = identity.filter_map(|(field, value)| {
        let column = metadata.current_schema().field_by_id(field.source_id)?;
        Some((field.source_id, column_value(column, value?)?))
    });
    values.collect()
}

fn add_defaults(field: &NestedField, defaults: &mut Constants) {
    let default = field.initial_default.as_ref().and_then(|value| column_value(field, value));
    defaults.extend(default.map(|default| (field.id, default)));
    match &*field.field_type {
        Type::Struct(inner) => {
            inner.fields().iter().for_each(|field| add_defaults(field, defaults));
        }
        Type::List(list) => add_defaults(&list.element_field, defaults),
        Type::Map(map) => {
            add_defaults(&map.key_field, defaults);
            add_defaults(&map.value_field, defaults);
        }
        Type::Primitive(_) => {}
    }
}

fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// The fields of one level of a file by field id, or by name where the file has no ids.
fn places(fields: &Fields, names: Names<'_>) -> HashMap<i32, usize> {
    let id = |field: &Field| match names {
        None => field_id(field),
        Some(names) => names.iter().find(|it| it.names().contains(field.name()))?.field_id(),
    };
    let fields = fields.iter().enumerate();
    fields.filter_map(|(at, field)| Some((id(field)?, at))).collect()
}

/// The names below a field.
fn named<'a>(names: &'a [Arc<MappedField>], field: &str) -> Names<'a> {
    let field = names.iter().find(|it| it.names().iter().any(|name| name == field))?;
    Some(field.fields())
}

#[cfg(test)]
mod tests;
