//! [`PgCatalogSchema`]: `pg_catalog` with the tables that tell of this engine.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int16Array, Int32Array, ListArray, RecordBatch, StringArray,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int16Type, Int32Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;

use super::context::{DATABASE, SCHEMA};
use super::object_ids as ids;
use super::relation_rows::{RelationRow, visible};
use super::value_functions::text_list;
use crate::catalog::Catalog;
use crate::session::{Variables, type_modifier};
use crate::types::pg_type;

/// Name of the role that owns everything.
const OWNER: &str = "postgres";

/// Columns of a table by name; those of the crate's table that are not given are NULL, zero or
/// empty, and those that it lacks are added. A list is one, where the crate's table has its text.
type Columns = Vec<(&'static str, ArrayRef)>;

/// `pg_catalog`: the crate's tables, and ours in place of some.
#[derive(Debug)]
pub(super) struct PgCatalogSchema {
    standard: Arc<dyn SchemaProvider>,
    catalog: Arc<Catalog>,
    variables: Variables,
}

impl PgCatalogSchema {
    /// The schema over a catalog and one session's variables.
    pub(super) fn new(
        standard: Arc<dyn SchemaProvider>,
        catalog: Arc<Catalog>,
        variables: Variables,
    ) -> Self {
        Self { standard, catalog, variables }
    }

    /// Our rows of a table; `None` where the crate's are right.
    fn columns(&self, table: &str) -> Option<Columns> {
        let relations = visible(&self.catalog);
        match table {
            "pg_class" => Some(classes(&relations)),
            "pg_attribute" => Some(attributes(&relations)),
            "pg_namespace" => Some(namespaces()),
            "pg_database" => Some(databases()),
            "pg_tables" => Some(tables(&relations)),
            "pg_matviews" => Some(materialized_views(&relations)),
            "pg_views" => Some(views(&relations)),
            "pg_roles" | "pg_authid" => Some(roles()),
            "pg_index" => Some(indexes(&relations)),
            "pg_constraint" => Some(constraints(&relations)),
            "pg_settings" => Some(settings(&self.variables)),
            _ => None,
        }
    }
}

#[async_trait]
impl SchemaProvider for PgCatalogSchema {
    fn table_names(&self) -> Vec<String> {
        self.standard.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let name = name.to_ascii_lowercase();
        let Some(standard) = self.standard.table(&name).await? else { return Ok(None) };
        let Some(columns) = self.columns(&name) else { return Ok(Some(standard)) };
        let rows = filled(&standard.schema(), &columns)?;
        Ok(Some(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.standard.table_exist(name)
    }
}

/// A batch of the schema with the given columns.
fn filled(schema: &Schema, columns: &Columns) -> Result<RecordBatch> {
    let rows = columns.first().map_or(0, |(_, column)| column.len());
    let mut fields: Vec<Arc<Field>> = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for field in schema.fields() {
        let given = columns.iter().find(|(name, _)| name == field.name());
        let (field, array) = match given.map(|(_, given)| given) {
            Some(list) if matches!(list.data_type(), DataType::List(_)) => (
                Arc::new(Field::new(field.name(), list.data_type().clone(), true)),
                Arc::clone(list),
            ),
            Some(given) => (Arc::clone(field), cast(given, field.data_type())?),
            None if field.is_nullable() => {
                (Arc::clone(field), new_null_array(field.data_type(), rows))
            }
            None => {
                let default = ScalarValue::new_default(field.data_type())?;
                (Arc::clone(field), default.to_array_of_size(rows)?)
            }
        };
        fields.push(field);
        arrays.push(array);
    }
    for (name, array) in columns.iter().filter(|(name, _)| schema.index_of(name).is_err()) {
        fields.push(Arc::new(Field::new(*name, array.data_type().clone(), true)));
        arrays.push(Arc::clone(array));
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
}

fn ints(values: impl IntoIterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn shorts(values: impl IntoIterator<Item = usize>) -> ArrayRef {
    let short = |value| i16::try_from(value).unwrap_or(i16::MAX);
    Arc::new(Int16Array::from_iter_values(values.into_iter().map(short)))
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn bools(values: impl IntoIterator<Item = bool>) -> ArrayRef {
    Arc::new(BooleanArray::from(values.into_iter().collect::<Vec<_>>()))
}

/// No array of texts in any row.
fn no_texts(rows: usize) -> ArrayRef {
    new_null_array(&text_list(), rows)
}

fn keyed(relations: &[RelationRow]) -> impl Iterator<Item = &RelationRow> {
    relations.iter().filter(|row| !row.key.is_empty())
}

/// Relations, then the indexes of their primary keys.
fn classes(relations: &[RelationRow]) -> Columns {
    let count = relations.len();
    let all = count + keyed(relations).count();
    let oids = relations.iter().map(|row| ids::relation(row.relation.id));
    let index_oids = keyed(relations).map(|row| ids::key_index(row.relation.id));
    let names = relations.iter().map(|row| row.relation.name.clone());
    let kinds = relations.iter().map(|row| row.relkind);
    let widths = relations.iter().map(|row| row.relation.schema.fields().len());
    let with_key = relations.iter().map(|row| !row.key.is_empty());
    let methods = (0..all).map(|at| if at < count { ids::ACCESS_HEAP } else { ids::ACCESS_BTREE });
    vec![
        ("oid", ints(oids.chain(index_oids))),
        ("relname", texts(names.chain(keyed(relations).map(RelationRow::key_name)))),
        ("relnamespace", ints((0..all).map(|_| ids::NAMESPACE_PUBLIC))),
        ("reloftype", ints((0..all).map(|_| 0))),
        ("relowner", ints((0..all).map(|_| ids::OWNER))),
        ("relam", ints(methods)),
        ("reltuples", ints((0..all).map(|_| -1))),
        ("relhasindex", bools(with_key.chain((count..all).map(|_| false)))),
        ("relpersistence", texts((0..all).map(|_| "p"))),
        ("relkind", texts(kinds.chain((count..all).map(|_| "i")))),
        ("relnatts", shorts(widths.chain(keyed(relations).map(|row| row.key.len())))),
        ("relispopulated", bools((0..all).map(|_| true))),
        ("relreplident", texts((0..all).map(|_| "d"))),
        ("relacl", no_texts(all)),
        ("reloptions", no_texts(all)),
    ]
}

/// Columns of relations, then those of the indexes of their keys.
fn attributes(relations: &[RelationRow]) -> Columns {
    let mut columns: Vec<(i32, usize, &arrow::datatypes::Field)> = Vec::new();
    for row in relations {
        for (at, field) in row.relation.schema.fields().iter().enumerate() {
            columns.push((ids::relation(row.relation.id), at + 1, field));
        }
        for (at, column) in row.key.iter().enumerate() {
            let field = row.relation.schema.field(*column);
            columns.push((ids::key_index(row.relation.id), at + 1, field));
        }
    }
    let type_of = |field: &arrow::datatypes::Field| {
        let oid = pg_type(field.data_type()).map_or(0, |pg_type| pg_type.oid());
        i32::try_from(oid).unwrap_or(0)
    };
    vec![
        ("attrelid", ints(columns.iter().map(|(relation, _, _)| *relation))),
        ("attname", texts(columns.iter().map(|(_, _, field)| field.name()))),
        ("atttypid", ints(columns.iter().map(|(_, _, field)| type_of(field)))),
        ("attstattarget", ints(columns.iter().map(|_| -1))),
        ("attlen", ints(columns.iter().map(|_| -1))),
        ("attnum", shorts(columns.iter().map(|(_, number, _)| *number))),
        ("atttypmod", ints(columns.iter().map(|(_, _, field)| type_modifier(field.data_type())))),
        ("attstorage", texts(columns.iter().map(|_| "p"))),
        ("attnotnull", bools(columns.iter().map(|(_, _, field)| !field.is_nullable()))),
        ("attislocal", bools(columns.iter().map(|_| true))),
        ("attidentity", texts(columns.iter().map(|_| ""))),
        ("attgenerated", texts(columns.iter().map(|_| ""))),
        ("attacl", no_texts(columns.len())),
    ]
}

fn namespaces() -> Columns {
    let known = [
        (ids::NAMESPACE_PG_CATALOG, "pg_catalog"),
        (ids::NAMESPACE_PUBLIC, SCHEMA),
        (ids::NAMESPACE_INFORMATION, "information_schema"),
        (ids::NAMESPACE_FRAZIL, "frazil"),
    ];
    vec![
        ("oid", ints(known.iter().map(|(oid, _)| *oid))),
        ("nspname", texts(known.iter().map(|(_, name)| *name))),
        ("nspowner", ints(known.iter().map(|_| ids::OWNER))),
        ("nspacl", no_texts(known.len())),
    ]
}

fn databases() -> Columns {
    const ENCODING_UTF8: i32 = 6;
    vec![
        ("oid", ints([ids::DATABASE_ID])),
        ("datname", texts([DATABASE])),
        ("datdba", ints([ids::OWNER])),
        ("encoding", ints([ENCODING_UTF8])),
        ("datlocprovider", texts(["c"])),
        ("datcollate", texts(["C"])),
        ("datctype", texts(["C"])),
        ("datallowconn", bools([true])),
        ("datconnlimit", ints([-1])),
        ("dattablespace", ints([ids::TABLESPACE_DEFAULT])),
        ("datacl", no_texts(1)),
    ]
}

/// The owner of everything. Anyone may connect, under any name, and do everything.
fn roles() -> Columns {
    let mut columns = vec![
        ("oid", ints([ids::OWNER])),
        ("rolname", texts([OWNER])),
        ("rolconnlimit", ints([-1])),
    ];
    columns.extend(
        [
            "rolsuper",
            "rolinherit",
            "rolcreaterole",
            "rolcreatedb",
            "rolcanlogin",
            "rolreplication",
            "rolbypassrls",
        ]
        .map(|right| (right, bools([true]))),
    );
    columns
}

fn tables(relations: &[RelationRow]) -> Columns {
    let tables: Vec<_> = relations.iter().filter(|row| row.relkind == "r").collect();
    vec![
        ("schemaname", texts(tables.iter().map(|_| SCHEMA))),
        ("tablename", texts(tables.iter().map(|row| &row.relation.name))),
        ("tableowner", texts(tables.iter().map(|_| OWNER))),
        ("hasindexes", bools(tables.iter().map(|row| !row.key.is_empty()))),
    ]
}

fn materialized_views(relations: &[RelationRow]) -> Columns {
    let views: Vec<_> = relations.iter().filter(|row| row.relkind == "m").collect();
    vec![
        ("schemaname", texts(views.iter().map(|_| SCHEMA))),
        ("matviewname", texts(views.iter().map(|row| &row.relation.name))),
        ("matviewowner", texts(views.iter().map(|_| OWNER))),
        ("hasindexes", bools(views.iter().map(|_| false))),
        ("ispopulated", bools(views.iter().map(|_| true))),
        ("definition", texts(views.iter().map(|row| row.query().unwrap_or_default()))),
    ]
}

fn views(relations: &[RelationRow]) -> Columns {
    let views: Vec<_> = relations.iter().filter(|row| row.relkind == "v").collect();
    vec![
        ("schemaname", texts(views.iter().map(|_| SCHEMA))),
        ("viewname", texts(views.iter().map(|row| &row.relation.name))),
        ("viewowner", texts(views.iter().map(|_| OWNER))),
        ("definition", texts(views.iter().map(|row| row.query().unwrap_or_default()))),
    ]
}

/// The numbers of each key's columns, from 1.
fn key_numbers(rows: &[&RelationRow]) -> ArrayRef {
    let numbers = rows
        .iter()
        .map(|row| Some(row.key.iter().map(|at| i16::try_from(at + 1).ok()).collect::<Vec<_>>()));
    Arc::new(ListArray::from_iter_primitive::<Int16Type, _, _>(numbers))
}

fn indexes(relations: &[RelationRow]) -> Columns {
    let rows: Vec<_> = keyed(relations).collect();
    let yes = || bools(rows.iter().map(|_| true));
    // Order, collation and operators of a key's columns are the types' own.
    let own = rows.iter().map(|row| Some(vec![Some(0); row.key.len()]));
    let own: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(own));
    vec![
        ("indexrelid", ints(rows.iter().map(|row| ids::key_index(row.relation.id)))),
        ("indrelid", ints(rows.iter().map(|row| ids::relation(row.relation.id)))),
        ("indnatts", shorts(rows.iter().map(|row| row.key.len()))),
        ("indnkeyatts", shorts(rows.iter().map(|row| row.key.len()))),
        ("indisunique", yes()),
        ("indisprimary", yes()),
        ("indimmediate", yes()),
        ("indisvalid", yes()),
        ("indisready", yes()),
        ("indislive", yes()),
        ("indkey", key_numbers(&rows)),
        ("indcollation", Arc::clone(&own)),
        ("indclass", Arc::clone(&own)),
        ("indoption", own),
    ]
}

fn constraints(relations: &[RelationRow]) -> Columns {
    let rows: Vec<_> = keyed(relations).collect();
    vec![
        ("oid", ints(rows.iter().map(|row| ids::key_constraint(row.relation.id)))),
        ("conname", texts(rows.iter().map(|row| row.key_name()))),
        ("connamespace", ints(rows.iter().map(|_| ids::NAMESPACE_PUBLIC))),
        ("contype", texts(rows.iter().map(|_| "p"))),
        ("convalidated", bools(rows.iter().map(|_| true))),
        ("conrelid", ints(rows.iter().map(|row| ids::relation(row.relation.id)))),
        ("conindid", ints(rows.iter().map(|row| ids::key_index(row.relation.id)))),
        ("conislocal", bools(rows.iter().map(|_| true))),
        ("conkey", key_numbers(&rows)),
        ("confkey", new_null_array(key_numbers(&[]).data_type(), rows.len())),
    ]
}

fn settings(variables: &Variables) -> Columns {
    let start = Variables::default();
    let all: Vec<_> = variables.iter().collect();
    let first = || texts(all.iter().map(|(name, _)| start.get(name).unwrap_or_default()));
    let source = |(name, value): &(&str, &str)| match start.get(name) == Some(*value) {
        true => "default",
        false => "session",
    };
    vec![
        ("name", texts(all.iter().map(|(name, _)| *name))),
        ("setting", texts(all.iter().map(|(_, value)| *value))),
        ("source", texts(all.iter().map(source))),
        ("context", texts(all.iter().map(|_| "user"))),
        ("boot_val", first()),
        ("reset_val", first()),
    ]
}
