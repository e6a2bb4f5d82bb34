//! [`Operand`]: what is known of an operand's type.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, ErrorKind, Result};
use crate::functions::{has_input, input};
use crate::types::{UUID, pg_name};

pub(super) const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// What is known of an operand's type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    /// A quoted literal or a parameter, which takes the type that its place wants.
    Unknown,
    Typed(DataType),
}

impl Operand {
    /// `None` for a NULL without a type.
    pub(super) fn of(expr: &Expr, schema: &DFSchema) -> Option<Self> {
        match expr {
            Expr::Literal(ScalarValue::Utf8(Some(_)), _) => Some(Self::Unknown),
            // As it will be: see `int4_literals`.
            Expr::Literal(ScalarValue::Int64(Some(value)), _) if i32::try_from(*value).is_ok() => {
                Some(Self::Typed(DataType::Int32))
            }
            Expr::Placeholder(parameter) => Some(match &parameter.field {
                Some(field) => Self::Typed(field.data_type().clone()),
                None => Self::Unknown,
            }),
            _ => match expr.get_type(schema) {
                Ok(DataType::Null) | Err(_) => None,
                Ok(data_type) => Some(Self::Typed(data_type)),
            },
        }
    }

    pub(super) fn data_type(&self) -> Option<&DataType> {
        match self {
            Self::Unknown => None,
            Self::Typed(data_type) => Some(data_type),
        }
    }

    /// As PostgreSQL names it in an error.
    pub(super) fn name(&self) -> String {
        self.data_type().map_or_else(|| "unknown".to_string(), pg_name)
    }
}

/// Reads a quoted literal as a value of a type, if the type has texts of its own; a parameter is of
/// that type.
///
/// # Errors
/// `InvalidValue` and the like for a text that is no such value.
pub(super) fn as_type(expr: &mut Expr, operand: &mut Operand, to: &DataType) -> Result<()> {
    if let Expr::Placeholder(parameter) = expr {
        parameter.field = Some(Arc::new(Field::new("", to.clone(), true)));
        *operand = Operand::Typed(to.clone());
        return Ok(());
    }
    if to.is_string() || !has_input(to) {
        return Ok(());
    }
    *expr = literal(std::mem::take(expr), to).map_err(Error::from)?;
    if let Expr::Literal(value, _) = expr {
        *operand = Operand::Typed(value.data_type());
    }
    Ok(())
}

/// A quoted literal as a value of a type; a decimal has the literal's own digits.
///
/// # Errors
/// As [`input`].
pub fn literal(expr: Expr, to: &DataType) -> datafusion::error::Result<Expr> {
    match (to, &expr) {
        (DataType::Decimal128(..), Expr::Literal(ScalarValue::Utf8(Some(text)), _)) => {
            let to = decimal_of(text);
            input(expr, &to)
        }
        _ => input(expr, to),
    }
}

/// A decimal with as many places as a text has.
fn decimal_of(text: &str) -> DataType {
    let (digits, power) = text.trim_ascii().split_once(['e', 'E']).unwrap_or((text, "0"));
    let fraction = digits.trim_ascii().split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let power = power.parse::<i64>().unwrap_or(0);
    let scale = (fraction as i64).saturating_sub(power).clamp(0, 38);
    DataType::Decimal128(38, scale as i8)
}

/// A date, time or timestamp.
pub(super) fn is_moment(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Time64(_))
}

/// Whether a type has neither an order nor arithmetic that the planner knows.
pub(super) fn is_opaque(data_type: &DataType) -> bool {
    *data_type == UUID || *data_type == DataType::LargeBinary
}

/// Types between which there are operators; a class of its own for each kind of value.
#[derive(PartialEq)]
enum Class {
    Text,
    Boolean,
    Number,
    Time,
    Bytes,
    Own(DataType),
}

fn class(data_type: &DataType) -> Option<Class> {
    Some(match data_type {
        it if it.is_string() => Class::Text,
        DataType::Boolean => Class::Boolean,
        it if it.is_numeric() => Class::Number,
        it if it.is_temporal() => Class::Time,
        it if is_opaque(it) => Class::Own(it.clone()),
        it if it.is_binary() => Class::Bytes,
        _ => return None,
    })
}

/// Whether there may be an operator between two operands: both are texts, numbers, times and so on,
/// or a number moves or scales a time.
pub(super) fn are_comparable(left: &Operand, right: &Operand) -> bool {
    let classes = |side: &Operand| side.data_type().and_then(class);
    match (classes(left), classes(right)) {
        (Some(Class::Number), Some(Class::Time)) | (Some(Class::Time), Some(Class::Number)) => true,
        (Some(left), Some(right)) => left == right,
        _ => true,
    }
}

/// Refuses to compare values of two types of which one is a text and the other is not, or of which
/// one has no order with the other.
///
/// # Errors
/// `UndefinedFunction`.
pub fn refuse_texts_beside_others(left: &DataType, right: &DataType) -> Result<()> {
    let sides = [left, right].map(|side| Operand::Typed(side.clone()));
    if left.is_null() || right.is_null() || are_comparable(&sides[0], &sides[1]) {
        return Ok(());
    }
    let message = format!("operator does not exist: {} = {}", pg_name(left), pg_name(right));
    Err(Error::new(ErrorKind::UndefinedFunction, message)
        .with_hint("add an explicit cast to one of the sides"))
}
