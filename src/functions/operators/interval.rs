//! Intervals: their lengths, multiples and parts.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Datum, Decimal128Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType};
use arrow::error::ArrowError;
use datafusion::logical_expr::Expr;
use sqlparser::ast::BinaryOperator;

use super::operand::INTERVAL;
use super::sides::Sides;
use crate::error::Error;
use crate::functions::replacement::{Kernel, call, pairwise};

type Compute = fn(&dyn Datum, &dyn Datum, &DataType) -> Result<ArrayRef, ArrowError>;

const DAY_NANOS: i128 = 86_400_000_000_000;
const MONTH_DAYS: i128 = 30;

/// The length of an interval, by which it is compared: a month has 30 days.
pub(super) fn length(value: Expr) -> Expr {
    let kernel = |column: &ArrayRef| -> datafusion::error::Result<ArrayRef> {
        let values = column.as_primitive::<IntervalMonthDayNanoType>().iter();
        let length = |value: IntervalMonthDayNano| {
            let days = i128::from(value.months) * MONTH_DAYS + i128::from(value.days);
            days * DAY_NANOS + i128::from(value.nanoseconds)
        };
        let lengths: Decimal128Array = values.map(|value| value.map(length)).collect();
        Ok(Arc::new(lengths.with_precision_and_scale(38, 0)?))
    };
    call("interval_length", Kernel::Column(kernel, Some(&DataType::Decimal128(38, 0))), vec![value])
}

/// `interval * number`, `number * interval`, `interval / number`.
pub(super) fn plan(sides: &mut Sides) -> Result<Option<Expr>, Error> {
    let (Some(left), Some(right)) = (sides.left.data_type(), sides.right.data_type()) else {
        return Ok(None);
    };
    let (is_left, is_right) = (*left == INTERVAL, *right == INTERVAL);
    if !is_left && !is_right {
        return Ok(None);
    }
    let is_scaled = (is_left && right.is_numeric()) || (is_right && left.is_numeric());
    let (name, kernel): (_, Compute) = match sides.op {
        BinaryOperator::Multiply if is_scaled => ("interval_multiply", multiply),
        BinaryOperator::Divide if is_scaled && is_left => ("interval_divide", divide),
        BinaryOperator::Plus | BinaryOperator::Minus => return Ok(None),
        _ => return Err(sides.missing()),
    };
    let (left, right) = sides.take();
    let args = if is_left { vec![left, right] } else { vec![right, left] };
    Ok(Some(call(name, Kernel::Binary(kernel, INTERVAL), args)))
}

fn multiply(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Result<ArrayRef, ArrowError> {
    scaled(left, right, Ok)
}

fn divide(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Result<ArrayRef, ArrowError> {
    scaled(left, right, |divisor| match divisor {
        0.0 => Err(ArrowError::DivideByZero),
        divisor => Ok(1.0 / divisor),
    })
}

fn scaled(
    intervals: &dyn Datum,
    numbers: &dyn Datum,
    factor: impl Fn(f64) -> Result<f64, ArrowError>,
) -> Result<ArrayRef, ArrowError> {
    let (intervals, one_interval) = intervals.get();
    let (numbers, one_number) = numbers.get();
    let numbers = cast(&numbers.slice(0, numbers.len()), &DataType::Float64)?;
    let values: PrimitiveArray<IntervalMonthDayNanoType> =
        pairwise::<IntervalMonthDayNanoType, Float64Type, IntervalMonthDayNanoType>(
            (intervals.as_primitive(), one_interval),
            (numbers.as_primitive(), one_number),
            |interval, number| times(interval, factor(number)?).ok_or_else(out_of_range),
        )?;
    Ok(Arc::new(values))
}

/// Each part by the factor; a fraction of a month goes to days, one of a day to the time.
fn times(value: IntervalMonthDayNano, factor: f64) -> Option<IntervalMonthDayNano> {
    // Multiplication leaves errors far below a microsecond.
    let tidy = |value: f64| (value * 1e6).round() / 1e6;
    let whole = |value: f64| (value.abs() <= f64::from(i32::MAX)).then_some(value as i32);
    let months = f64::from(value.months) * factor;
    let days = f64::from(value.days) * factor;
    let month_days = tidy((months - months.trunc()) * MONTH_DAYS as f64);
    let rest = tidy(days - days.trunc() + month_days - month_days.trunc());
    let more = rest.trunc();
    let micros =
        value.nanoseconds as f64 / 1000.0 * factor + (rest - more) * (DAY_NANOS / 1000) as f64;
    let micros = micros.round_ties_even();
    if !micros.is_finite() || micros.abs() >= i64::MAX as f64 / 1000.0 {
        return None;
    }
    let days = days.trunc() + month_days.trunc() + more;
    let nanos = (micros as i64).checked_mul(1000)?;
    Some(IntervalMonthDayNano::new(whole(months)?, whole(days)?, nanos))
}

fn out_of_range() -> ArrowError {
    ArrowError::ArithmeticOverflow("interval out of range".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_go_to_the_parts_below() {
        let of = |months, days, seconds: i64| {
            IntervalMonthDayNano::new(months, days, seconds * 1_000_000_000)
        };
        assert_eq!(times(of(0, 0, 5400), 2.0), Some(of(0, 0, 10_800)));
        assert_eq!(times(of(1, 0, 0), 0.5), Some(of(0, 15, 0)));
        assert_eq!(times(of(0, 1, 0), 0.5), Some(of(0, 0, 43_200)));
        assert_eq!(times(of(1, 1, 0), 1.5), Some(of(1, 16, 43_200)));
        assert_eq!(times(of(0, 3, 0), 1.0 / 3.0), Some(of(0, 1, 0)));
        assert_eq!(times(of(1, 0, 0), 1e300), None);
        assert_eq!(times(of(1, 0, 0), f64::NAN), None);
    }
}
