//! Functions of PostgreSQL that clients call and the crate lacks.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int32Array, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::logical_expr::ScalarUDF;

use super::catalog_function::{by_id, constant, function, null, number, truth};
use super::object_ids as ids;
use super::relation_rows::{RelationRow, visible};
use super::value_functions::{array_to_string, expand_array, json_build_object, like_escape};
use crate::catalog::Catalog;
use crate::session::variables::unrecognized;
use crate::session::{SERVER_VERSION, Variables};

/// PostgreSQL's number of its encoding UTF8.
const ENCODING_UTF8: i64 = 6;

/// Texts about things that are not here, such as comments and functions in SQL.
const UNKNOWN_TEXTS: &[&str] = &[
    "col_description",
    "obj_description",
    "pg_advisory_unlock_all",
    "pg_describe_object",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_get_function_sqlbody",
    "pg_get_functiondef",
    "pg_get_partition_constraintdef",
    "pg_get_ruledef",
    "pg_get_serial_sequence",
    "pg_get_triggerdef",
    "pg_tablespace_location",
    "shobj_description",
];

/// Everything is visible, and everyone may do everything.
const PERMISSIONS: &[&str] = &[
    "has_column_privilege",
    "has_function_privilege",
    "has_sequence_privilege",
    "has_type_privilege",
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_function_is_visible",
    "pg_has_role",
    "pg_opclass_is_visible",
    "pg_operator_is_visible",
    "pg_opfamily_is_visible",
    "pg_statistics_obj_is_visible",
    "pg_ts_config_is_visible",
    "pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible",
    "pg_ts_template_is_visible",
    "pg_type_is_visible",
];

/// Sizes on disk, which are not told by relation.
const SIZES: &[&str] =
    &["pg_database_size", "pg_indexes_size", "pg_table_size", "pg_tablespace_size"];

fn current_setting(variables: Variables) -> ScalarUDF {
    function("current_setting", DataType::Utf8, move |args, rows| {
        let Some(first) = args.first() else {
            return Ok(new_null_array(&DataType::Utf8, rows));
        };
        let names = cast(first, &DataType::Utf8)?;
        let quiet = args.len() > 1;
        let value = |name: Option<&str>| match name.map(|name| (name, variables.get(name))) {
            None => Ok(None),
            Some((_, Some(value))) => Ok(Some(value.to_string())),
            Some((_, None)) if quiet => Ok(None),
            Some((name, None)) => Err(DataFusionError::External(Box::new(unrecognized(name)))),
        };
        let values = names.as_string::<i32>().iter().map(value).collect::<Result<StringArray>>()?;
        Ok(Arc::new(values))
    })
}

/// Gives the value back; the setting itself is for SET.
fn set_config() -> ScalarUDF {
    function("set_config", DataType::Utf8, |args, rows| match args.get(1) {
        Some(value) => Ok(cast(value, &DataType::Utf8)?),
        None => Ok(new_null_array(&DataType::Utf8, rows)),
    })
}

fn size_pretty() -> ScalarUDF {
    const UNITS: &[&str] = &["bytes", "kB", "MB", "GB", "TB", "PB"];
    function("pg_size_pretty", DataType::Utf8, |args, rows| {
        let Some(first) = args.first() else {
            return Ok(new_null_array(&DataType::Utf8, rows));
        };
        let sizes = cast(first, &DataType::Int64)?;
        let pretty = |size: Option<i64>| {
            size.map(|size| {
                let (mut size, mut unit) = (size, 0);
                while size.abs() >= 10_240 && unit + 1 < UNITS.len() {
                    size /= 1024;
                    unit += 1;
                }
                format!("{size} {}", UNITS[unit])
            })
        };
        let sizes = sizes.as_primitive::<Int64Type>().iter().map(pretty);
        Ok(Arc::new(sizes.collect::<StringArray>()))
    })
}

/// Id of a relation by its name; NULL for one that is not there.
fn to_regclass(catalog: &Catalog) -> ScalarUDF {
    let id = |row: RelationRow| (row.relation.name.clone(), ids::relation(row.relation.id));
    let relations: HashMap<String, i32> = visible(catalog).into_iter().map(id).collect();
    function("to_regclass", DataType::Int32, move |args, rows| {
        let Some(first) = args.first() else {
            return Ok(new_null_array(&DataType::Int32, rows));
        };
        let names = cast(first, &DataType::Utf8)?;
        let bare = |name: &str| name.trim_start_matches("public.").trim_matches('"').to_string();
        let id = |name: Option<&str>| name.and_then(|name| relations.get(&bare(name)).copied());
        Ok(Arc::new(names.as_string::<i32>().iter().map(id).collect::<Int32Array>()))
    })
}

/// The functions over a catalog and one session's variables.
pub(super) fn functions(catalog: &Catalog, variables: &Variables) -> Vec<ScalarUDF> {
    let mut indexes = HashMap::new();
    let mut constraints = HashMap::new();
    let mut views = HashMap::new();
    for row in visible(catalog) {
        let relation = &row.relation;
        if !row.key.is_empty() {
            let (name, columns) = (row.key_name(), row.key_columns());
            let definition =
                format!("CREATE UNIQUE INDEX {name} ON {} USING btree ({columns})", relation.name);
            indexes.insert(i64::from(ids::key_index(relation.id)), definition);
            let key = format!("PRIMARY KEY ({columns})");
            constraints.insert(i64::from(ids::key_constraint(relation.id)), key);
        }
        if let Some(query) = row.query() {
            views.insert(i64::from(ids::relation(relation.id)), query.to_string());
        }
    }
    let version = format!("PostgreSQL {SERVER_VERSION} (Frazil {})", env!("CARGO_PKG_VERSION"));
    let mut all = vec![
        by_id("pg_get_indexdef", indexes),
        by_id("pg_get_constraintdef", constraints),
        by_id("pg_get_viewdef", views),
        by_id("pg_encoding_to_char", HashMap::from([(ENCODING_UTF8, "UTF8".to_string())])),
        constant("version", version),
        constant("getdatabaseencoding", "UTF8".to_string()),
        number("pg_char_to_encoding", ENCODING_UTF8),
        current_setting(variables.clone()),
        set_config(),
        size_pretty(),
        to_regclass(catalog),
        null("to_regtype", DataType::Int32),
        truth("pg_is_in_recovery", false),
        like_escape(),
        json_build_object(),
        array_to_string(),
        expand_array(),
    ];
    all.extend(UNKNOWN_TEXTS.iter().map(|name| null(name, DataType::Utf8)));
    all.extend(PERMISSIONS.iter().map(|name| truth(name, true)));
    all.extend(SIZES.iter().map(|name| number(name, 0)));
    all
}
