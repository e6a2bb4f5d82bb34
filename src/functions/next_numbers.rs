//! The numbers of identity columns, as a function that no text can call.
//!
//! ```text
//! INSERT INTO t (name) …  ─bind─►  next_numbers(t, id)  ─session─►  the same with a source
//! ```

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::DataType;
use datafusion::common::utils::take_function_args;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use crate::error::Error;

/// Where numbers come from.
pub trait NumberSource: fmt::Debug + Send + Sync {
    /// The first of `count` numbers in a row of a column of a table, which nobody else gets.
    ///
    /// # Errors
    /// What writing down says that they are given.
    fn take(&self, table: u32, column: usize, count: usize) -> crate::error::Result<i64>;
}

/// `next_numbers(table, column)`: for each row another number.
#[derive(Debug)]
struct NextNumbers {
    signature: Signature,
    source: Option<Arc<dyn NumberSource>>,
}

/// The next number of a column of a table, for each row. It has no source of numbers yet.
#[must_use]
pub fn next_numbers(table: u32, column: usize) -> Expr {
    let column = u64::try_from(column).unwrap_or(u64::MAX);
    call(None, vec![lit(table), lit(column)])
}

/// An expression of [`next_numbers`] with a source; `None` for any other expression.
#[must_use]
pub fn with_source(expr: &Expr, source: &Arc<dyn NumberSource>) -> Option<Expr> {
    let Expr::ScalarFunction(function) = expr else { return None };
    function.func.inner().downcast_ref::<NextNumbers>()?;
    Some(call(Some(Arc::clone(source)), function.args.clone()))
}

fn call(source: Option<Arc<dyn NumberSource>>, args: Vec<Expr>) -> Expr {
    let signature =
        Signature::exact(vec![DataType::UInt32, DataType::UInt64], Volatility::Volatile);
    let function = Arc::new(ScalarUDF::from(NextNumbers { signature, source }));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, args))
}

impl NextNumbers {
    fn source_id(&self) -> Option<*const ()> {
        self.source.as_ref().map(|source| Arc::as_ptr(source).cast())
    }
}

impl PartialEq for NextNumbers {
    fn eq(&self, other: &Self) -> bool {
        self.source_id() == other.source_id()
    }
}

impl Eq for NextNumbers {}

impl Hash for NextNumbers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source_id().hash(state);
    }
}

impl ScalarUDFImpl for NextNumbers {
    fn name(&self) -> &'static str {
        "next_numbers"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let count = args.number_rows;
        let failed = |error: Error| DataFusionError::External(Box::new(error));
        let (table, column) = match take_function_args("next_numbers", args.args)? {
            [
                ColumnarValue::Scalar(ScalarValue::UInt32(Some(table))),
                ColumnarValue::Scalar(ScalarValue::UInt64(Some(column))),
            ] => (table, usize::try_from(column).unwrap_or(usize::MAX)),
            _ => return Err(failed(Error::internal("numbers of no column were asked for"))),
        };
        if count == 0 {
            return Ok(ColumnarValue::Array(Arc::new(Int64Array::from_iter_values([]))));
        }
        let Some(source) = &self.source else {
            return Err(failed(Error::internal("numbers of a column have no source")));
        };
        let first = source.take(table, column, count).map_err(failed)?;
        let numbers = (first..).take(count);
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from_iter_values(numbers))))
    }
}
