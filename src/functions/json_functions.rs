//! Functions of JSONB that SQL calls by name.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::common::utils::take_function_args;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::json_text::{length, type_of};
use crate::error::{Error, ErrorKind};
use crate::types::{JSONB, pg_name};

/// A function of one JSONB value.
///
/// **Law:** its value is NULL exactly where the argument is.
#[derive(Debug)]
struct JsonFunction {
    name: &'static str,
    signature: Signature,
    returns: DataType,
    kernel: fn(&[Option<&str>]) -> Result<ArrayRef>,
}

impl PartialEq for JsonFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for JsonFunction {}

impl Hash for JsonFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &'static str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// A quoted literal is JSONB.
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [only] if *only == JSONB || only.is_string() || only.is_null() => Ok(vec![JSONB]),
            _ => plan_err!("no function matches {}({})", self.name, names(types)),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [column] = take_function_args(self.name, args.args)?;
        let column = column.into_array(args.number_rows)?;
        let column = column.as_binary::<i64>();
        let texts: Vec<_> =
            column.iter().map(|value| value.and_then(|it| str::from_utf8(it).ok())).collect();
        Ok(ColumnarValue::Array((self.kernel)(&texts)?))
    }
}

/// `jsonb_typeof`, `jsonb_array_length`.
pub(super) fn json_functions() -> [Arc<ScalarUDF>; 2] {
    let function = |name, returns, kernel| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(JsonFunction { name, signature, returns, kernel }))
    };
    [
        function("jsonb_typeof", DataType::Utf8, |texts| {
            let types = texts.iter().map(|json| json.map(type_of));
            Ok(Arc::new(types.collect::<StringArray>()))
        }),
        function("jsonb_array_length", DataType::Int32, |texts| {
            let lengths = texts.iter().map(|json| json.map(array_length).transpose());
            Ok(Arc::new(lengths.collect::<Result<Int32Array>>()?))
        }),
    ]
}

fn names(types: &[DataType]) -> String {
    types.iter().map(pg_name).collect::<Vec<_>>().join(", ")
}

fn array_length(json: &str) -> Result<i32> {
    length(json).and_then(|it| i32::try_from(it).ok()).ok_or_else(|| {
        let what = if type_of(json) == "object" { "non-array" } else { "scalar" };
        let message = format!("cannot get array length of a {what}");
        DataFusionError::External(Box::new(Error::new(ErrorKind::InvalidParameter, message)))
    })
}
