//! Functions of PostgreSQL that clients call and the crate lacks.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::object_ids as ids;
use super::relation_rows::visible;
use crate::catalog::{Catalog, Definition};
use crate::error::{Error, ErrorKind};
use crate::session::{SERVER_VERSION, Variables};

type Body = Arc<dyn Fn(&[ArrayRef], usize) -> Result<ArrayRef> + Send + Sync>;

/// A function of any arguments with one type of result.
#[derive(Clone)]
struct CatalogFunction {
    name: String,
    signature: Signature,
    result: DataType,
    body: Body,
}

impl fmt::Debug for CatalogFunction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CatalogFunction({})", self.name)
    }
}

impl PartialEq for CatalogFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for CatalogFunction {}

impl Hash for CatalogFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for CatalogFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays =
            args.args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array((self.body)(&arrays, rows)?))
    }
}

fn function(
    name: &str,
    result: DataType,
    body: impl Fn(&[ArrayRef], usize) -> Result<ArrayRef> + Send + Sync + 'static,
) -> ScalarUDF {
    let signature = Signature::one_of(
        vec![
            datafusion::logical_expr::TypeSignature::Nullary,
            datafusion::logical_expr::TypeSignature::VariadicAny,
        ],
        Volatility::Stable,
    );
    let name = name.to_string();
    ScalarUDF::new_from_impl(CatalogFunction { name, signature, result, body: Arc::new(body) })
}

fn null(name: &str, result: DataType) -> ScalarUDF {
    let array_type = result.clone();
    function(name, result, move |_, rows| Ok(new_null_array(&array_type, rows)))
}

fn truth(name: &str, value: bool) -> ScalarUDF {
    function(name, DataType::Boolean, move |_, rows| {
        Ok(Arc::new(BooleanArray::from(vec![value; rows])))
    })
}

fn constant(name: &str, value: String) -> ScalarUDF {
    function(name, DataType::Utf8, move |_, rows| {
        Ok(Arc::new(StringArray::from_iter_values((0..rows).map(|_| value.as_str()))))
    })
}

/// A text by object id; NULL for one that is not there.
fn by_id(name: &str, texts: HashMap<i64, String>) -> ScalarUDF {
    function(name, DataType::Utf8, move |args, rows| {
        let Some(first) = args.first() else {
            return Ok(new_null_array(&DataType::Utf8, rows));
        };
        let oids = cast(first, &DataType::Int64)?;
        let oids = oids.as_primitive::<Int64Type>();
        let text = |oid: Option<i64>| oid.and_then(|oid| texts.get(&oid).map(String::as_str));
        Ok(Arc::new(oids.iter().map(text).collect::<StringArray>()))
    })
}

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
            Some((name, None)) => Err(DataFusionError::External(Box::new(Error::new(
                ErrorKind::InvalidParameter,
                format!("unrecognized configuration parameter \"{name}\""),
            )))),
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
        if let Definition::View(view) = relation.definition.as_ref() {
            views.insert(i64::from(ids::relation(relation.id)), view.query.clone());
        }
    }
    let zero = |name: &str| {
        function(name, DataType::Int64, |_, rows| Ok(Arc::new(Int64Array::from(vec![0; rows]))))
    };
    let version = format!("PostgreSQL {SERVER_VERSION} (Frazil {})", env!("CARGO_PKG_VERSION"));
    vec![
        by_id("pg_get_indexdef", indexes),
        by_id("pg_get_constraintdef", constraints),
        by_id("pg_get_viewdef", views),
        constant("version", version),
        current_setting(variables.clone()),
        set_config(),
        size_pretty(),
        null("col_description", DataType::Utf8),
        null("obj_description", DataType::Utf8),
        null("shobj_description", DataType::Utf8),
        null("pg_advisory_unlock_all", DataType::Utf8),
        null("pg_get_function_arguments", DataType::Utf8),
        null("pg_get_function_identity_arguments", DataType::Utf8),
        null("pg_get_function_result", DataType::Utf8),
        null("pg_get_serial_sequence", DataType::Utf8),
        null("to_regtype", DataType::Int32),
        truth("pg_collation_is_visible", true),
        truth("pg_function_is_visible", true),
        truth("pg_type_is_visible", true),
        truth("pg_is_in_recovery", false),
        zero("pg_table_size"),
        zero("pg_indexes_size"),
    ]
}
