//! [`Operand`]: what is known of an operand's type.

use std::fmt::Display;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::{Expr, ExprSchemable, lit};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, ErrorKind, Result};
use crate::functions::{has_input, read_text};
use crate::types::{is_beyond_arrow, pg_name};

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
    fn name(&self) -> String {
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
    *expr = literal(std::mem::take(expr), to).map_err(Error::from)?;
    match expr {
        Expr::Literal(value, _) if !value.data_type().is_string() => {
            *operand = Operand::Typed(value.data_type());
        }
        _ => {}
    }
    Ok(())
}

/// A quoted literal as a value of a type that is read in PostgreSQL's own way; anything else as it
/// is.
///
/// # Errors
/// As [`read_text`].
pub fn literal(expr: Expr, to: &DataType) -> datafusion::error::Result<Expr> {
    match &expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) if has_input(to) => {
            let value = read_text(text, to);
            Ok(lit(value.map_err(|error| DataFusionError::External(Box::new(error)))?))
        }
        _ => Ok(expr),
    }
}

/// A time of day or a timestamp.
pub(super) fn is_moment(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Time64(_))
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
        it if is_beyond_arrow(it) => Class::Own(it.clone()),
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
    let [left, right] = sides;
    Err(no_operator(&left, "=", &right).with_hint("add an explicit cast to one of the sides"))
}

/// The error of an operator that does not exist.
pub(super) fn no_operator(left: &Operand, op: impl Display, right: &Operand) -> Error {
    let message = format!("operator does not exist: {} {op} {}", left.name(), right.name());
    Error::new(ErrorKind::UndefinedFunction, message)
}
