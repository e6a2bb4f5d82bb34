//! Dates, times of day and timestamps that are moved and subtracted.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Datum, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use datafusion::logical_expr::{Expr, cast as cast_expr};
use sqlparser::ast::BinaryOperator::{Minus, Plus};

use super::operand::INTERVAL;
use super::sides::Sides;
use crate::error::Error;
use crate::functions::replacement::{Kernel, call, pairwise};

const DAY_MICROS: i64 = 86_400_000_000;
const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
const TIME: DataType = DataType::Time64(TimeUnit::Microsecond);

type Computed = Result<ArrayRef, ArrowError>;
type Compute = fn(&dyn Datum, &dyn Datum, &DataType) -> Computed;

/// What an operator between these types is; `None` where the planner's own is right.
pub(super) fn plan(sides: &mut Sides) -> Result<Option<Expr>, Error> {
    let (Some(left), Some(right)) = (sides.left.data_type(), sides.right.data_type()) else {
        return Ok(None);
    };
    // What may stand in either order stands with the time first.
    let swaps = sides.op == Plus && !is_time(left) && is_time(right);
    let (first, second) = if swaps { (right, left) } else { (left, right) };
    let (op, is_plus) = (&sides.op, sides.op == Plus);
    let (name, kernel, to): (_, Compute, _) = match (first, second) {
        _ if !matches!(op, Plus | Minus) => return refuse(sides),
        (DataType::Date32, second) if second.is_integer() => match is_plus {
            true => ("date_add", |l, r, _| moved_days(l, r, 1), DataType::Date32),
            false => ("date_subtract", |l, r, _| moved_days(l, r, -1), DataType::Date32),
        },
        (DataType::Date32, DataType::Date32) if !is_plus => {
            ("days_between", days_between, DataType::Int32)
        }
        (DataType::Date32, DataType::Time64(_)) if is_plus => {
            ("at_time", |l, r, _| at_time(l, r), TIMESTAMP)
        }
        (DataType::Date32, second) if *second == INTERVAL => {
            // As a timestamp, it is moved by the planner's own operator.
            let (left, right) = sides.take();
            let (date, interval) = if swaps { (right, left) } else { (left, right) };
            let date = cast_expr(date, TIMESTAMP);
            return Ok(Some(if is_plus { date + interval } else { date - interval }));
        }
        (DataType::Time64(_), second) if *second == INTERVAL => match is_plus {
            true => ("time_add", |l, r, _| moved_time(l, r, 1), TIME),
            false => ("time_subtract", |l, r, _| moved_time(l, r, -1), TIME),
        },
        (DataType::Time64(_), DataType::Time64(_)) if !is_plus => {
            ("time_between", time_between, INTERVAL)
        }
        (
            DataType::Timestamp(..) | DataType::Date32,
            DataType::Timestamp(..) | DataType::Date32,
        ) if !is_plus => ("timestamp_between", timestamp_between, INTERVAL),
        (DataType::Timestamp(..), second) if *second == INTERVAL => return Ok(None),
        _ => return refuse(sides),
    };
    let (left, right) = sides.take();
    let args = if swaps { vec![right, left] } else { vec![left, right] };
    Ok(Some(call(name, Kernel::Binary(kernel, to), args)))
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Time64(_) | DataType::Timestamp(..))
}

/// There is no other operator with a time.
fn refuse(sides: &Sides) -> Result<Option<Expr>, Error> {
    let sides_are_times =
        [&sides.left, &sides.right].map(|side| side.data_type().is_some_and(is_time));
    match sides_are_times {
        [false, false] => Ok(None),
        _ => Err(sides.missing()),
    }
}

fn moved_days(dates: &dyn Datum, days: &dyn Datum, sign: i64) -> Computed {
    let (dates, one_date) = dates.get();
    let (days, one_number) = days.get();
    let days = cast(&days.slice(0, days.len()), &DataType::Int64)?;
    let moved: PrimitiveArray<Date32Type> = pairwise::<Date32Type, Int64Type, Date32Type>(
        (dates.as_primitive(), one_date),
        (days.as_primitive(), one_number),
        |date, days| {
            let moved = days.checked_mul(sign).and_then(|days| days.checked_add(date.into()));
            moved.and_then(|moved| i32::try_from(moved).ok()).ok_or_else(|| far("date"))
        },
    )?;
    Ok(Arc::new(moved))
}

fn days_between(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    let ((left, one_left), (right, one_right)) = (left.get(), right.get());
    let days: PrimitiveArray<Int32Type> = pairwise::<Date32Type, Date32Type, Int32Type>(
        (left.as_primitive(), one_left),
        (right.as_primitive(), one_right),
        |left, right| left.checked_sub(right).ok_or_else(|| far("date")),
    )?;
    Ok(Arc::new(days))
}

fn at_time(dates: &dyn Datum, times: &dyn Datum) -> Computed {
    let ((dates, one_date), (times, one_time)) = (dates.get(), times.get());
    let moments: PrimitiveArray<TimestampMicrosecondType> =
        pairwise::<Date32Type, Time64MicrosecondType, TimestampMicrosecondType>(
            (dates.as_primitive(), one_date),
            (times.as_primitive(), one_time),
            |date, time| {
                let midnight = i64::from(date).checked_mul(DAY_MICROS);
                midnight.and_then(|it| it.checked_add(time)).ok_or_else(|| far("timestamp"))
            },
        )?;
    Ok(Arc::new(moments))
}

/// Around the clock; days and months of the interval change nothing.
fn moved_time(times: &dyn Datum, intervals: &dyn Datum, sign: i64) -> Computed {
    let ((times, one_time), (intervals, one_interval)) = (times.get(), intervals.get());
    let moved: PrimitiveArray<Time64MicrosecondType> =
        pairwise::<Time64MicrosecondType, IntervalMonthDayNanoType, Time64MicrosecondType>(
            (times.as_primitive(), one_time),
            (intervals.as_primitive(), one_interval),
            |time, interval: IntervalMonthDayNano| {
                let micros = (interval.nanoseconds / 1000) % DAY_MICROS;
                Ok((time + sign * micros).rem_euclid(DAY_MICROS))
            },
        )?;
    Ok(Arc::new(moved))
}

fn time_between(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    let ((left, one_left), (right, one_right)) = (left.get(), right.get());
    let between: PrimitiveArray<IntervalMonthDayNanoType> =
        pairwise::<Time64MicrosecondType, Time64MicrosecondType, IntervalMonthDayNanoType>(
            (left.as_primitive(), one_left),
            (right.as_primitive(), one_right),
            |left, right| Ok(IntervalMonthDayNano::new(0, 0, (left - right) * 1000)),
        )?;
    Ok(Arc::new(between))
}

/// Whole days and the time that is left, of one sign.
fn timestamp_between(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    let micros = |side: &dyn Datum| -> Result<_, ArrowError> {
        let (array, is_scalar) = side.get();
        let moments = cast(&array.slice(0, array.len()), &TIMESTAMP)?;
        Ok((moments.as_primitive::<TimestampMicrosecondType>().clone(), is_scalar))
    };
    let ((left, one_left), (right, one_right)) = (micros(left)?, micros(right)?);
    let between: PrimitiveArray<IntervalMonthDayNanoType> =
        pairwise::<TimestampMicrosecondType, TimestampMicrosecondType, IntervalMonthDayNanoType>(
            (&left, one_left),
            (&right, one_right),
            |left, right| {
                let micros = left.checked_sub(right).ok_or_else(|| far("interval"))?;
                let days = i32::try_from(micros / DAY_MICROS).map_err(|_| far("interval"))?;
                Ok(IntervalMonthDayNano::new(0, days, micros % DAY_MICROS * 1000))
            },
        )?;
    Ok(Arc::new(between))
}

fn far(what: &str) -> ArrowError {
    ArrowError::ArithmeticOverflow(format!("{what} out of range"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{IntervalMonthDayNanoArray, Scalar, Time64MicrosecondArray};

    use super::*;

    #[test]
    fn times_go_around_the_clock() {
        let hour = 3_600_000_000;
        let times = Time64MicrosecondArray::from(vec![Some(hour / 2), None, Some(23 * hour)]);
        let interval = IntervalMonthDayNano::new(1, 1, hour * 1000);
        let interval = Scalar::new(IntervalMonthDayNanoArray::from(vec![interval]));
        let moved = |sign| {
            let moved = moved_time(&times, &interval, sign).unwrap();
            moved.as_primitive::<Time64MicrosecondType>().iter().collect::<Vec<_>>()
        };
        assert_eq!(moved(1), [Some(hour * 3 / 2), None, Some(0)]);
        assert_eq!(moved(-1), [Some(24 * hour - hour / 2), None, Some(22 * hour)]);
    }
}
