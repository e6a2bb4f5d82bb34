//! [`CatalogFunction`]: a function of PostgreSQL as a closure over arrays.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

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

/// A function of any arguments; its body takes the arguments and the number of rows.
pub(super) fn function(
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

/// NULL, whatever is asked.
pub(super) fn null(name: &str, result: DataType) -> ScalarUDF {
    let array_type = result.clone();
    function(name, result, move |_, rows| Ok(new_null_array(&array_type, rows)))
}

/// Always the same truth.
pub(super) fn truth(name: &str, value: bool) -> ScalarUDF {
    function(name, DataType::Boolean, move |_, rows| {
        Ok(Arc::new(BooleanArray::from(vec![value; rows])))
    })
}

/// Always the same text.
pub(super) fn constant(name: &str, value: String) -> ScalarUDF {
    function(name, DataType::Utf8, move |_, rows| {
        Ok(Arc::new(StringArray::from_iter_values((0..rows).map(|_| value.as_str()))))
    })
}

/// Always the same number.
pub(super) fn number(name: &str, value: i64) -> ScalarUDF {
    function(name, DataType::Int64, move |_, rows| {
        Ok(Arc::new(Int64Array::from(vec![value; rows])))
    })
}

/// A text by object id; NULL for one that is not there.
pub(super) fn by_id(name: &str, texts: HashMap<i64, String>) -> ScalarUDF {
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
