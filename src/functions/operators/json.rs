//! Operators of JSONB.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Datum, Int64Array, LargeBinaryArray, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::logical_expr::Expr;
use sqlparser::ast::BinaryOperator;

use super::operand::{Operand, as_type};
use super::sides::Sides;
use crate::error::Error;
use crate::functions::json_text::{
    contains, has_key, item, joined, key_of, member, path, text_of, without_item, without_key,
};
use crate::functions::replacement::{Kernel, call};
use crate::types::JSONB;

type Computed = Result<ArrayRef, ArrowError>;
type Compute = fn(&dyn Datum, &dyn Datum, &DataType) -> Computed;

/// What an operator with JSONB is; `None` for an operator that has none.
pub(super) fn plan(sides: &mut Sides) -> Result<Option<Expr>, Error> {
    use BinaryOperator as Op;
    let is_json = |side: &Operand| side.data_type() == Some(&JSONB);
    if matches!(sides.op, Op::ArrowAt) && (is_json(&sides.left) || is_json(&sides.right)) {
        std::mem::swap(&mut sides.left, &mut sides.right);
        std::mem::swap(&mut sides.left_expr, &mut sides.right_expr);
        sides.op = Op::AtArrow;
    }
    if matches!(sides.op, Op::AtArrow | Op::StringConcat)
        && is_json(&sides.right)
        && sides.left == Operand::Unknown
    {
        as_type(&mut sides.left_expr, &mut sides.left, &JSONB)?;
    }
    let has_operator = matches!(
        sides.op,
        Op::Arrow
            | Op::LongArrow
            | Op::HashArrow
            | Op::HashLongArrow
            | Op::AtArrow
            | Op::Question
            | Op::QuestionPipe
            | Op::QuestionAnd
            | Op::Minus
            | Op::StringConcat
    );
    if !is_json(&sides.left) || !has_operator {
        return Ok(None);
    }
    type_right(sides)?;
    let right = sides.right.data_type().cloned().unwrap_or(DataType::Utf8);
    let (name, kernel, to): (_, Compute, _) = match (&sides.op, &right) {
        (Op::Arrow, it) if it.is_integer() => ("json_item", items, JSONB),
        (Op::Arrow, it) if it.is_string() => ("json_member", members, JSONB),
        (Op::LongArrow, it) if it.is_integer() => ("json_item_text", item_texts, DataType::Utf8),
        (Op::LongArrow, it) if it.is_string() => ("json_member_text", texts, DataType::Utf8),
        (Op::HashArrow, DataType::List(_)) => ("json_path", paths, JSONB),
        (Op::HashLongArrow, DataType::List(_)) => ("json_path_text", path_texts, DataType::Utf8),
        (Op::AtArrow, it) if *it == JSONB => ("json_contains", containing, DataType::Boolean),
        (Op::Question, it) if it.is_string() => ("json_has_key", keys, DataType::Boolean),
        (Op::QuestionPipe, DataType::List(_)) => ("json_has_any", any_keys, DataType::Boolean),
        (Op::QuestionAnd, DataType::List(_)) => ("json_has_all", all_keys, DataType::Boolean),
        (Op::Minus, it) if it.is_integer() => ("json_without_item", less_items, JSONB),
        (Op::Minus, it) if it.is_string() => ("json_without_key", less_keys, JSONB),
        (Op::StringConcat, it) if *it == JSONB => ("json_join", joins, JSONB),
        // `||` with a text is a text.
        (Op::StringConcat, it) if it.is_string() => return Ok(None),
        _ => return Err(sides.missing()),
    };
    let (left, right) = sides.take();
    Ok(Some(call(name, Kernel::Binary(kernel, to), vec![left, right])))
}

/// Gives a quoted literal on the right the type that the operator wants.
fn type_right(sides: &mut Sides) -> Result<(), Error> {
    use BinaryOperator as Op;
    if sides.right != Operand::Unknown {
        return Ok(());
    }
    let to = match sides.op {
        Op::AtArrow | Op::StringConcat => JSONB,
        Op::HashArrow | Op::HashLongArrow | Op::QuestionPipe | Op::QuestionAnd => {
            DataType::new_list(DataType::Utf8, true)
        }
        _ => return Ok(()),
    };
    as_type(&mut sides.right_expr, &mut sides.right, &to)
}

/// The row of a side that is one value for all rows, or the row itself.
fn at(is_scalar: bool, row: usize) -> usize {
    if is_scalar { 0 } else { row }
}

/// Computes the values of rows in which neither side is NULL.
fn rows<R: Array + 'static, T, A: FromIterator<Option<T>>>(
    left: &dyn Datum,
    right: &dyn Datum,
    right_type: &DataType,
    value: impl Fn(&str, &R, usize) -> Result<Option<T>, ArrowError>,
) -> Result<A, ArrowError> {
    let ((left, one_left), (right, one_right)) = (left.get(), right.get());
    let right = cast(&right.slice(0, right.len()), right_type)?;
    let typed = right.as_any().downcast_ref::<R>();
    let typed = typed.ok_or_else(|| ArrowError::CastError(format!("jsonb and {right_type}")))?;
    let left: &LargeBinaryArray = left.as_binary();
    let count = match (one_left, one_right) {
        (true, true) => 1,
        (true, false) => typed.len(),
        (false, _) => left.len(),
    };
    let of_row = |row| {
        let (left_row, right_row) = (at(one_left, row), at(one_right, row));
        if left.is_null(left_row) || typed.is_null(right_row) {
            return Ok(None);
        }
        let text = str::from_utf8(left.value(left_row));
        let text = text.map_err(|_| ArrowError::CastError("jsonb that is no text".to_string()))?;
        value(text, typed, right_row)
    };
    (0..count).map(of_row).collect()
}

/// A value within the JSON of each row.
fn found<R: Array + 'static>(
    sides: (&dyn Datum, &dyn Datum),
    right_type: &DataType,
    find: impl for<'a> Fn(&'a str, &R, usize) -> Option<&'a str>,
    is_text: bool,
) -> Computed {
    let (left, right) = sides;
    if is_text {
        let texts: StringArray = rows(left, right, right_type, |json, right: &R, row| {
            Ok(find(json, right, row).and_then(text_of))
        })?;
        return Ok(Arc::new(texts));
    }
    let values: LargeBinaryArray = rows(left, right, right_type, |json, right: &R, row| {
        Ok(find(json, right, row).map(|found| found.as_bytes().to_vec()))
    })?;
    Ok(Arc::new(values))
}

fn by_key<'a>(json: &'a str, right: &StringArray, row: usize) -> Option<&'a str> {
    member(json, &key_of(right.value(row)))
}

fn by_number<'a>(json: &'a str, right: &Int64Array, row: usize) -> Option<&'a str> {
    item(json, right.value(row))
}

fn by_path<'a>(json: &'a str, right: &arrow::array::ListArray, row: usize) -> Option<&'a str> {
    let steps = right.value(row);
    path(json, steps.as_string::<i32>().iter())
}

fn members(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    found((left, right), &DataType::Utf8, by_key, false)
}

fn texts(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    found((left, right), &DataType::Utf8, by_key, true)
}

fn items(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    found((left, right), &DataType::Int64, by_number, false)
}

fn item_texts(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    found((left, right), &DataType::Int64, by_number, true)
}

fn text_list() -> DataType {
    DataType::new_list(DataType::Utf8, true)
}

fn paths(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    found((left, right), &text_list(), by_path, false)
}

fn path_texts(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    found((left, right), &text_list(), by_path, true)
}

fn containing(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    let values: BooleanArray = rows(left, right, &JSONB, |json, right: &LargeBinaryArray, row| {
        let part = str::from_utf8(right.value(row)).unwrap_or_default();
        Ok(Some(contains(json, part)))
    })?;
    Ok(Arc::new(values))
}

fn keys(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    let value = |json: &str, right: &StringArray, row| Ok(Some(has_key(json, right.value(row))));
    let values: BooleanArray = rows(left, right, &DataType::Utf8, value)?;
    Ok(Arc::new(values))
}

fn any_keys(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    listed_keys(left, right, |json, keys| keys.iter().flatten().any(|key| has_key(json, key)))
}

fn all_keys(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    listed_keys(left, right, |json, keys| keys.iter().flatten().all(|key| has_key(json, key)))
}

fn listed_keys(
    left: &dyn Datum,
    right: &dyn Datum,
    holds: impl Fn(&str, &StringArray) -> bool,
) -> Computed {
    let value = |json: &str, right: &arrow::array::ListArray, row| {
        Ok(Some(holds(json, right.value(row).as_string::<i32>())))
    };
    let values: BooleanArray = rows(left, right, &text_list(), value)?;
    Ok(Arc::new(values))
}

fn less_keys(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    let value = |json: &str, right: &StringArray, row| {
        without_key(json, right.value(row)).map(Some).map_err(invalid)
    };
    let values: LargeBinaryArray = rows(left, right, &DataType::Utf8, value)?;
    Ok(Arc::new(values))
}

fn less_items(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    let value = |json: &str, right: &Int64Array, row| {
        without_item(json, right.value(row)).map(Some).map_err(invalid)
    };
    let values: LargeBinaryArray = rows(left, right, &DataType::Int64, value)?;
    Ok(Arc::new(values))
}

fn joins(left: &dyn Datum, right: &dyn Datum, _: &DataType) -> Computed {
    let values: LargeBinaryArray =
        rows(left, right, &JSONB, |json, right: &LargeBinaryArray, row| {
            let other = str::from_utf8(right.value(row)).unwrap_or_default();
            Ok(Some(joined(json, other)))
        })?;
    Ok(Arc::new(values))
}

fn invalid(message: &str) -> ArrowError {
    ArrowError::InvalidArgumentError(message.to_string())
}
