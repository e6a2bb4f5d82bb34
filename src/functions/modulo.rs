//! `mod(a, b)`: Postgres' name of `a % b`.

use std::sync::Arc;

use arrow::compute::kernels::numeric::rem;
use arrow::datatypes::DataType;
use datafusion::common::utils::take_function_args;
use datafusion::error::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// `mod(a, b)`; becomes `a % b` where expressions are simplified.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Modulo {
    signature: Signature,
}

impl ScalarUDFImpl for Modulo {
    fn name(&self) -> &'static str {
        "mod"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [left, _] = take_function_args("mod", types)?;
        Ok(left.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = take_function_args("mod", args.args)?;
        let rows = args.number_rows;
        Ok(ColumnarValue::Array(rem(&left.into_array(rows)?, &right.into_array(rows)?)?))
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let [left, right] = take_function_args("mod", args)?;
        Ok(ExprSimplifyResult::Simplified(left % right))
    }
}

/// `mod(a, b)`.
pub(super) fn modulo() -> Arc<ScalarUDF> {
    let signature = Signature::numeric(2, Volatility::Immutable);
    Arc::new(ScalarUDF::from(Modulo { signature }))
}
