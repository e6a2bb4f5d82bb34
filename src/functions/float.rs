//! Floats as in PostgreSQL: operators that fail where they leave the range, and an order of all.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Datum, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Operator};

use super::replacement::{Kernel, call};

type Computed = std::result::Result<ArrayRef, ArrowError>;
type Compute = fn(&dyn Datum, &dyn Datum) -> Computed;

/// `left + right`, `left - right`, `left * right` or `left / right` of floats, which fails where it
/// divides by zero or leaves the range; `None` for other operators.
pub fn checked_float(left: &Expr, operator: Operator, right: &Expr) -> Option<Expr> {
    let (name, kernel): (_, Compute) = match operator {
        Operator::Plus => ("float_add", |left, right| checked(left, right, numeric::add)),
        Operator::Minus => ("float_subtract", |left, right| checked(left, right, numeric::sub)),
        Operator::Multiply => ("float_multiply", |left, right| checked(left, right, numeric::mul)),
        Operator::Divide => ("float_divide", |left, right| {
            if divides_by_zero(left, right)? {
                return Err(ArrowError::DivideByZero);
            }
            checked(left, right, numeric::div)
        }),
        _ => return None,
    };
    Some(call(name, Kernel::Operator(kernel), vec![left.clone(), right.clone()]))
}

/// Computes, and fails where finite numbers give one that is not.
fn checked(left: &dyn Datum, right: &dyn Datum, compute: Compute) -> Computed {
    let values = compute(left, right)?;
    let wide = cast(&values, &DataType::Float64)?;
    let wide = wide.as_primitive::<Float64Type>();
    // The usual case: nothing to look for.
    if wide.values().iter().all(|value| value.is_finite()) {
        return Ok(values);
    }
    let finite = pairs(left, right)?;
    let overflows = wide.iter().zip(finite).any(|(value, pair)| match (value, pair) {
        (Some(value), Some((left, right))) => {
            !value.is_finite() && left.is_finite() && right.is_finite()
        }
        _ => false,
    });
    match overflows {
        true => Err(ArrowError::ArithmeticOverflow("value out of range: overflow".to_string())),
        false => Ok(values),
    }
}

/// True if a number is divided by zero. NaN is no number: its quotient is NaN.
fn divides_by_zero(left: &dyn Datum, right: &dyn Datum) -> std::result::Result<bool, ArrowError> {
    let divisors = cast(right.get().0, &DataType::Float64)?;
    if !divisors.as_primitive::<Float64Type>().iter().any(|divisor| divisor == Some(0.0)) {
        return Ok(false);
    }
    let mut pairs = pairs(left, right)?.into_iter().flatten();
    Ok(pairs.any(|(left, right)| right == 0.0 && !left.is_nan()))
}

/// The operands of each row; none where one is NULL.
fn pairs(
    left: &dyn Datum,
    right: &dyn Datum,
) -> std::result::Result<Vec<Option<(f64, f64)>>, ArrowError> {
    let wide = |side: &dyn Datum| -> std::result::Result<(Float64Array, bool), ArrowError> {
        let (array, is_scalar) = side.get();
        let array = cast(array, &DataType::Float64)?;
        Ok((array.as_primitive::<Float64Type>().clone(), is_scalar))
    };
    let ((left, one_left), (right, one_right)) = (wide(left)?, wide(right)?);
    let rows = match (one_left, one_right) {
        (false, _) => left.len(),
        (true, false) => right.len(),
        (true, true) => 1,
    };
    let of = |array: &Float64Array, is_scalar: bool, row: usize| {
        let row = if is_scalar { 0 } else { row };
        array.is_valid(row).then(|| array.value(row))
    };
    let pair = |row| of(&left, one_left, row).zip(of(&right, one_right, row));
    Ok((0..rows).map(pair).collect())
}

/// A number that is greater where the float is; NaN is the greatest, and both zeros are one.
pub fn float_rank(value: Expr) -> Expr {
    let kernel = |column: &ArrayRef| -> Result<ArrayRef> {
        let floats = cast(column, &DataType::Float64)?;
        let ranks: Int64Array = floats.as_primitive::<Float64Type>().unary(rank);
        Ok(Arc::new(ranks))
    };
    call("float_rank", Kernel::Column(kernel, Some(&DataType::Int64)), vec![value])
}

/// The float that has a rank.
pub fn float_of_rank(value: Expr) -> Expr {
    let kernel = |column: &ArrayRef| -> Result<ArrayRef> {
        let floats: Float64Array =
            column.as_primitive::<Int64Type>().unary(|rank| f64::from_bits(flipped(rank) as u64));
        Ok(Arc::new(floats))
    };
    call("float_of_rank", Kernel::Column(kernel, Some(&DataType::Float64)), vec![value])
}

fn rank(value: f64) -> i64 {
    let value = if value.is_nan() { f64::NAN.abs() } else { value + 0.0 };
    flipped(value.to_bits() as i64)
}

/// Flips all bits of a negative number but its sign: an order of bits for one of values, and back.
fn flipped(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

#[cfg(test)]
mod tests {
    use arrow::array::Scalar;

    use super::*;

    #[test]
    fn ranks_are_in_the_order_of_floats() {
        let ordered = [f64::NEG_INFINITY, -2.5, -1e-300, 0.0, 1e-300, 3.0, f64::INFINITY, f64::NAN];
        for pair in ordered.windows(2) {
            assert!(rank(pair[0]) < rank(pair[1]), "{pair:?}");
        }
        assert_eq!(rank(-0.0), rank(0.0));
        assert_eq!(rank(-f64::NAN), rank(f64::NAN));
        for value in ordered {
            let back = f64::from_bits(flipped(rank(value)) as u64);
            assert!(back == value || value.is_nan() && back.is_nan(), "{value}");
        }
    }

    #[test]
    fn only_what_finite_numbers_make_is_out_of_range() {
        let floats = |values: [f64; 2]| Float64Array::from(values.to_vec());
        let two = floats([1e308, f64::INFINITY]);
        assert!(checked(&two, &floats([1.0, 10.0]), numeric::mul).is_ok());
        assert!(checked(&two, &floats([10.0, 1.0]), numeric::mul).is_err());
        let one = Scalar::new(Float64Array::from(vec![1.0]));
        assert!(checked(&two, &one, numeric::add).is_ok());
        let nan = floats([f64::NAN, 1.0]);
        assert!(checked(&nan, &nan, numeric::sub).is_ok());
        assert!(divides_by_zero(&nan, &floats([0.0, 0.0])).unwrap());
        assert!(!divides_by_zero(&nan, &floats([0.0, 1.0])).unwrap());
    }
}
