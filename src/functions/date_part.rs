//! `date_part(part, at)`, also behind `EXTRACT`: seconds and milliseconds with their fractions.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, DurationMicrosecondType, Field, FieldRef, Int64Type, TimeUnit};
use datafusion::common::utils::take_function_args;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::scalar::ScalarValue;

/// Digits of a minute's microseconds.
const DIGITS: u8 = 8;

/// The planner's `date_part`, which cuts fractions of seconds off, with PostgreSQL's types of
/// `second` and `milliseconds`: numerics of 6 and 3 places.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DatePart {
    inner: Arc<ScalarUDF>,
    aliases: Vec<String>,
}

/// The places behind the point of a part that has any.
fn scale(part: &str) -> Option<i8> {
    match part.to_lowercase().as_str() {
        "second" | "seconds" | "sec" | "secs" | "s" => Some(6),
        "millisecond" | "milliseconds" | "msec" | "msecs" | "ms" => Some(3),
        _ => None,
    }
}

fn scale_of(part: Option<&ScalarValue>) -> Option<i8> {
    part.and_then(|part| part.try_as_str()).flatten().and_then(scale)
}

impl ScalarUDFImpl for DatePart {
    fn name(&self) -> &'static str {
        "date_part"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let part = args.scalar_arguments.first().copied().flatten();
        match scale_of(part) {
            None => self.inner.return_field_from_args(args),
            Some(scale) => {
                let is_nullable = args.arg_fields.iter().any(|field| field.is_nullable());
                let data_type = DataType::Decimal128(DIGITS, scale);
                Ok(Arc::new(Field::new("date_part", data_type, is_nullable)))
            }
        }
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [part, at] = take_function_args("date_part", args.args.clone())?;
        let literal = match &part {
            ColumnarValue::Scalar(part) => part.try_as_str().flatten().unwrap_or_default(),
            ColumnarValue::Array(_) => "",
        };
        if literal.eq_ignore_ascii_case("epoch") && matches!(at.data_type(), DataType::Duration(_))
        {
            let at = at.into_array(args.number_rows)?;
            return Ok(ColumnarValue::Array(seconds(&at)?));
        }
        let Some(scale) = scale(literal) else { return self.inner.invoke_with_args(args) };
        args.return_field = Arc::new(Field::new("date_part", DataType::Int32, true));
        args.args[0] = ColumnarValue::Scalar(ScalarValue::from("microsecond"));
        let is_scalar = matches!(at, ColumnarValue::Scalar(_));
        let rows = args.number_rows;
        let micros = self.inner.invoke_with_args(args)?.into_array(rows)?;
        let micros = cast(&micros, &DataType::Int64)?;
        let digits: Decimal128Array = micros.as_primitive::<Int64Type>().unary(i128::from);
        let parts = digits.with_precision_and_scale(DIGITS, scale)?;
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&parts, 0)?),
            false => ColumnarValue::Array(Arc::new(parts)),
        })
    }
}

/// Durations as seconds with fractions.
fn seconds(durations: &ArrayRef) -> Result<ArrayRef> {
    let micros = cast(durations, &DataType::Duration(TimeUnit::Microsecond))?;
    let micros = micros.as_primitive::<DurationMicrosecondType>();
    let seconds: Float64Array = micros.unary(|micros| micros as f64 / 1e6);
    Ok(Arc::new(seconds))
}

/// `date_part(part, at)`.
pub(super) fn date_part() -> Arc<ScalarUDF> {
    let inner = datafusion::functions::datetime::date_part();
    let aliases = vec!["datepart".to_string()];
    Arc::new(ScalarUDF::from(DatePart { inner, aliases }))
}

/// `EXTRACT(part FROM at)` as a call of [`date_part`].
#[derive(Debug)]
pub(super) struct Extract;

impl ExprPlanner for Extract {
    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let call = ScalarFunction { func: date_part(), args };
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}
