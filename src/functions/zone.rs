//! `timezone(zone, at)`: the function behind `at AT TIME ZONE zone`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::utils::take_function_args;
use datafusion::common::{DataFusionError, ScalarValue, exec_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::functions::datetime::to_local_time::adjust_to_local_time;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::Error;

/// `timezone(zone, at)`: of a moment the clock's time in the zone, of a clock's time in the zone
/// the moment.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeZone {
    signature: Signature,
}

fn micros(zone: Option<Arc<str>>) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zone)
}

impl ScalarUDFImpl for TimeZone {
    fn name(&self) -> &'static str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [_, at] = take_function_args("timezone", types)?;
        match at {
            DataType::Timestamp(_, Some(_)) => Ok(micros(None)),
            DataType::Timestamp(_, None) | DataType::Date32 => Ok(micros(Some("UTC".into()))),
            other => plan_err!("no function matches timezone(text, {other}): cast to timestamptz"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [zone, at] = take_function_args("timezone", args.args)?;
        let ColumnarValue::Scalar(zone) = zone else {
            let error = Error::unsupported("a time zone that is not a constant is not supported");
            return Err(DataFusionError::External(Box::new(error)));
        };
        let Some(Some(zone)) = zone.try_as_str() else {
            let null = ScalarValue::try_from(args.return_field.data_type())?;
            return Ok(ColumnarValue::Scalar(null));
        };
        let unknown = |_| exec_datafusion_err!("error parsing time zone \"{zone}\"");
        let parsed: arrow::array::timezone::Tz = zone.parse().map_err(unknown)?;
        let there = micros(Some(zone.into()));
        let at = at.into_array(args.number_rows)?;
        let shown: ArrayRef = match at.data_type() {
            DataType::Timestamp(_, Some(_)) => {
                let moments = cast(&at, &there)?;
                let moments = moments.as_primitive::<TimestampMicrosecondType>();
                let local =
                    moments.try_unary::<_, TimestampMicrosecondType, DataFusionError>(|at| {
                        adjust_to_local_time::<TimestampMicrosecondType>(at, parsed)
                    })?;
                Arc::new(local)
            }
            _ => {
                let moments = cast(&cast(&at, &micros(None))?, &there)?;
                let moments = moments.as_primitive::<TimestampMicrosecondType>().clone();
                Arc::new(moments.with_timezone("UTC"))
            }
        };
        Ok(ColumnarValue::Array(shown))
    }
}

/// `timezone(zone, at)`.
pub(super) fn time_zone() -> Arc<ScalarUDF> {
    let signature = Signature::any(2, Volatility::Immutable);
    Arc::new(ScalarUDF::from(TimeZone { signature }))
}
