//! Quotients of decimals.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Datum, Decimal128Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, i256};
use arrow::error::ArrowError;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;
use sqlparser::ast::BinaryOperator;

use super::sides::Sides;
use crate::functions::replacement::{Kernel, call, pairwise};

/// Digits of a decimal.
const DIGITS: i16 = 38;
/// Places behind the point of a quotient that has room for them.
const PLACES: i16 = 20;

/// `numeric / numeric`, also with an integer.
pub(super) fn plan(sides: &mut Sides) -> Option<Expr> {
    if sides.op != BinaryOperator::Divide {
        return None;
    }
    let (left, right) = (sides.left.data_type()?, sides.right.data_type()?);
    if !left.is_decimal() && !right.is_decimal() {
        return None;
    }
    let (left, right) = (form(&sides.left_expr, left)?, form(&sides.right_expr, right)?);
    // Digits before the point of the largest quotient.
    let whole = left.0 - left.1 + right.1;
    let places = (DIGITS - whole).min(PLACES).max(left.1).max(right.1).min(DIGITS);
    let to = DataType::Decimal128(DIGITS as u8, places as i8);
    let (left, right) = sides.take();
    Some(call("numeric_divide", Kernel::Binary(divide, to), vec![left, right]))
}

/// Digits, and those behind the point, of a number as a decimal.
fn form(expr: &Expr, data_type: &DataType) -> Option<(i16, i16)> {
    if let Expr::Literal(ScalarValue::Int64(Some(value)), _) = expr {
        return Some((value.unsigned_abs().max(1).ilog10() as i16 + 1, 0));
    }
    let (precision, scale) = decimal_form(data_type)?;
    Some((precision.into(), scale.into()))
}

fn decimal_form(data_type: &DataType) -> Option<(u8, i8)> {
    Some(match data_type {
        DataType::Decimal128(precision, scale @ 0..) => (*precision, *scale),
        DataType::Int8 | DataType::UInt8 => (3, 0),
        DataType::Int16 | DataType::UInt16 => (5, 0),
        DataType::Int32 | DataType::UInt32 => (10, 0),
        DataType::Int64 => (19, 0),
        DataType::UInt64 => (20, 0),
        _ => return None,
    })
}

/// A half is rounded away from zero.
fn divide(left: &dyn Datum, right: &dyn Datum, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let DataType::Decimal128(precision, places) = *to else {
        return Err(ArrowError::ComputeError(format!("a quotient of type {to}")));
    };
    let (left, right) = (decimals(left)?, decimals(right)?);
    // (left / 10^a) / (right / 10^b) = left * 10^(places + b - a) / right, in units of the result.
    let shift = i32::from(places) + i32::from(right.1) - i32::from(left.1);
    let shift = u32::try_from(shift).map_err(|_| overflow())?;
    let unit = i256::from_i128(10).checked_pow(shift).ok_or_else(overflow)?;
    let max = i256::from_i128(10_i128.pow(u32::from(precision)));
    let values: Decimal128Array = pairwise::<Decimal128Type, Decimal128Type, Decimal128Type>(
        (&left.0, left.2),
        (&right.0, right.2),
        |left, right| {
            if right == 0 {
                return Err(ArrowError::DivideByZero);
            }
            let (left, right) = (i256::from_i128(left), i256::from_i128(right));
            let scaled = left.checked_mul(unit).ok_or_else(overflow)?;
            let (quotient, rest) = (scaled / right, scaled % right);
            let doubled = rest.wrapping_abs().checked_mul(i256::from_i128(2));
            let is_up = doubled.is_none_or(|doubled| doubled >= right.wrapping_abs());
            let away = match (left < i256::ZERO) == (right < i256::ZERO) {
                true => i256::ONE,
                false => i256::MINUS_ONE,
            };
            let rounded = if is_up { quotient + away } else { quotient };
            let fits = rounded.wrapping_abs() < max;
            rounded.to_i128().filter(|_| fits).ok_or_else(overflow)
        },
    )?;
    Ok(Arc::new(values.with_precision_and_scale(precision, places)?))
}

fn decimals(side: &dyn Datum) -> Result<(Decimal128Array, i8, bool), ArrowError> {
    let (array, is_scalar) = side.get();
    let form = decimal_form(array.data_type());
    let (precision, scale) =
        form.ok_or_else(|| ArrowError::CastError(format!("{} / numeric", array.data_type())))?;
    let array = cast(&array.slice(0, array.len()), &DataType::Decimal128(precision, scale))?;
    Ok((array.as_primitive::<Decimal128Type>().clone(), scale, is_scalar))
}

fn overflow() -> ArrowError {
    ArrowError::ArithmeticOverflow("numeric field overflow".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_rounded_half_away_from_zero() {
        let decimal = |value: i128, precision, scale| {
            let array = Decimal128Array::from(vec![value]);
            array.with_precision_and_scale(precision, scale).unwrap()
        };
        let divided = |left: (i128, i8), right: (i128, i8), places: i8| {
            let (left, right) = (decimal(left.0, 12, left.1), decimal(right.0, 12, right.1));
            divide(&left, &right, &DataType::Decimal128(38, places))
                .map(|it| it.as_primitive::<Decimal128Type>().value(0))
        };
        assert_eq!(divided((200, 2), (3, 0), 5).unwrap(), 66_667);
        assert_eq!(divided((-200, 2), (3, 0), 5).unwrap(), -66_667);
        assert_eq!(divided((1, 0), (-8, 0), 2).unwrap(), -13);
        assert_eq!(divided((5, 0), (2, 1), 1).unwrap(), 250);
        assert!(matches!(divided((1, 0), (0, 2), 2), Err(ArrowError::DivideByZero)));
        assert!(divided((999_999_999_999, 0), (1, 12), 20).is_err());
    }
}
