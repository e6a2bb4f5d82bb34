//! `timezone(zone, at)`: the function behind `at AT TIME ZONE zone`.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, LocalResult, Offset, TimeDelta, TimeZone as _};
use datafusion::common::utils::take_function_args;
use datafusion::common::{DataFusionError, ScalarValue, exec_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::functions::datetime::to_local_time::adjust_to_local_time;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{Error, ErrorKind};

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
        let parsed: Tz = zone.parse().map_err(unknown)?;
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
                let local = cast(&at, &micros(None))?;
                let local = local.as_primitive::<TimestampMicrosecondType>();
                let moments =
                    local.try_unary::<_, TimestampMicrosecondType, DataFusionError>(|at| {
                        moment(at, parsed).ok_or_else(out_of_range)
                    })?;
                Arc::new(moments.with_timezone("UTC"))
            }
        };
        Ok(ColumnarValue::Array(shown))
    }
}

/// The moment of a clock's time, in microseconds. As in PostgreSQL, a time that the clock shows
/// twice is the second, and one that it leaves out counts from the offset before the change.
fn moment(at: i64, zone: Tz) -> Option<i64> {
    let local = DateTime::from_timestamp_micros(at)?.naive_utc();
    let offset = match zone.offset_from_local_datetime(&local) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(_, offset) => offset,
        LocalResult::None => {
            // No clock is ever set by as much as a day.
            let before = local.checked_sub_signed(TimeDelta::days(1))?;
            zone.offset_from_local_datetime(&before).latest()?
        }
    };
    let seconds = i64::from(offset.fix().local_minus_utc());
    at.checked_sub(seconds.checked_mul(1_000_000)?)
}

fn out_of_range() -> DataFusionError {
    let error = Error::new(ErrorKind::OutOfRange, "timestamp out of range");
    DataFusionError::External(Box::new(error))
}

/// `timezone(zone, at)`.
pub(super) fn time_zone() -> Arc<ScalarUDF> {
    let signature = Signature::any(2, Volatility::Immutable);
    Arc::new(ScalarUDF::from(TimeZone { signature }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_that_are_left_out_or_come_twice_are_as_in_postgres() {
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        let micros = |text: &str| {
            let time = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap();
            time.and_utc().timestamp_micros()
        };
        for (local, utc) in [
            ("2024-03-31 01:59", "2024-03-31 00:59"),
            ("2024-03-31 02:30", "2024-03-31 01:30"),
            ("2024-03-31 03:00", "2024-03-31 01:00"),
            ("2024-10-27 01:59", "2024-10-26 23:59"),
            ("2024-10-27 02:30", "2024-10-27 01:30"),
            ("2024-10-27 03:00", "2024-10-27 02:00"),
        ] {
            assert_eq!(moment(micros(local), berlin), Some(micros(utc)), "{local}");
        }
        assert_eq!(moment(i64::MAX, berlin), None);
    }
}
