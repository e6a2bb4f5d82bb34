//! [`AsPostgres`]: expressions mean what they mean in PostgreSQL.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{AggregateFunction, Cast, Like, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, cast, lit};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use super::rewriting::with_expressions;
use crate::error::{Error, ErrorKind};
use crate::functions::{
    bounded, checked, checked_float, checked_minus, has_input, has_text, input, joined_texts,
    strftime, text, whole_float, without_zone,
};
use crate::types::{is_beyond_arrow, pg_name};

/// Replaces expressions that the planner would compute in another way than PostgreSQL; runs when
/// all types are known, for views and for queries that run once.
///
/// | expression | the planner | here |
/// |---|---|---|
/// | `a + b`, `a - b`, `a * b`, `-a` of integers | wraps around | fails where it overflows |
/// | `a + b`, `a - b`, `a * b`, `a / b` of floats | gives an infinity | fails |
/// | number to integer | cuts off | rounds: decimals half away from zero, floats half to even |
/// | float to text | `1.0`, `inf` | `1`, `Infinity` |
/// | timestamp to text | `2026-01-01T10:00:00` | `2026-01-01 10:00:00` |
/// | bytes to text | their characters | `\x00ff` |
/// | text to timestamp | moves it by the zone in it | leaves the zone out |
/// | text to boolean, number, interval, bytes, UUID, JSONB | fewer forms | PostgreSQL's forms |
/// | `to_char(at, 'YYYY-MM')` | a pattern of `strftime` only | PostgreSQL's pattern |
/// | `LIKE … ESCAPE 'x'` | refused | another pattern |
/// | `FILTER (WHERE NULL)` | fails | takes no row |
/// | `repeat(a, n)`, `a || b` and more | take any memory | fail for a large value |
#[derive(Debug)]
pub(super) struct AsPostgres;

impl AnalyzerRule for AsPostgres {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| with_expressions(node, replaced))?;
        Ok(plan.data)
    }

    fn name(&self) -> &'static str {
        "as_postgres"
    }
}

fn replaced(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let replacement = match &expr {
        Expr::BinaryExpr(binary)
            if is_integer(&binary.left, schema) && is_integer(&binary.right, schema) =>
        {
            checked(&binary.left, binary.op, &binary.right)
        }
        Expr::BinaryExpr(binary)
            if is_float(&binary.left, schema) && is_float(&binary.right, schema) =>
        {
            checked_float(&binary.left, binary.op, &binary.right)
        }
        Expr::Negative(value) if is_integer(value, schema) => {
            Some(checked_minus(value.as_ref().clone()))
        }
        Expr::Cast(cast) => converted(cast, schema)?,
        Expr::Like(like) => match like.escape_char {
            None | Some('\\') => None,
            Some(escape) => Some(with_backslash(like, escape)?),
        },
        Expr::BinaryExpr(binary)
            if binary.op == Operator::StringConcat
                && is_text(&binary.left, schema)
                && binary.left.get_type(schema)? == binary.right.get_type(schema)? =>
        {
            Some(joined_texts(binary.left.as_ref().clone(), binary.right.as_ref().clone()))
        }
        Expr::ScalarFunction(call) if call.func.name() == "to_char" => with_strftime(call)?,
        Expr::ScalarFunction(call) => bounded(call),
        Expr::AggregateFunction(call) => with_boolean_filter(call, schema)?,
        _ => None,
    };
    Ok(replacement.map_or_else(|| Transformed::no(expr), Transformed::yes))
}

fn is_float(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| data_type.is_floating())
}

fn is_text(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| data_type.is_string())
}

fn is_integer(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| data_type.is_integer())
}

/// A cast by way of what PostgreSQL makes of the value.
fn converted(to: &Cast, schema: &DFSchema) -> Result<Option<Expr>> {
    let Ok(from) = to.expr.get_type(schema) else { return Ok(None) };
    let (value, target) = (to.expr.as_ref(), to.field.data_type());
    let between = match target {
        _ if from.is_string() && has_input(target) => input(value.clone(), target)?,
        _ if target.is_string() && has_text(&from) => text(value.clone()),
        _ if !is_castable(&from, target) => return Err(no_cast(&from, target)),
        _ if target.is_integer() && from.is_floating() => whole_float(value.clone()),
        _ if target.is_integer() => match from {
            DataType::Decimal128(precision, scale @ 1..) => {
                cast(value.clone(), DataType::Decimal128(precision - scale as u8 + 1, 0))
            }
            DataType::Decimal256(precision, scale @ 1..) => {
                cast(value.clone(), DataType::Decimal256(precision - scale as u8 + 1, 0))
            }
            _ => return Ok(None),
        },
        DataType::Timestamp(_, None) if from.is_string() => without_zone(value.clone()),
        _ => return Ok(None),
    };
    let is_there = between.get_type(schema)? == *target;
    let whole = Cast { expr: Box::new(between.clone()), field: Arc::clone(&to.field) };
    Ok(Some(if is_there { between } else { Expr::Cast(whole) }))
}

/// Whether values other than NULL can be cast, where one of the types is UUID or JSONB.
fn is_castable(from: &DataType, to: &DataType) -> bool {
    from == to || from.is_null() || !(is_beyond_arrow(from) || is_beyond_arrow(to))
}

fn no_cast(from: &DataType, to: &DataType) -> DataFusionError {
    let message = format!("cannot cast type {} to {}", pg_name(from), pg_name(to));
    DataFusionError::External(Box::new(Error::new(ErrorKind::CannotCast, message)))
}

/// An aggregate whose FILTER is a NULL without a type, which takes no row.
fn with_boolean_filter(call: &AggregateFunction, schema: &DFSchema) -> Result<Option<Expr>> {
    let Some(filter) = &call.params.filter else { return Ok(None) };
    match filter.get_type(schema)? {
        DataType::Boolean => Ok(None),
        DataType::Null => {
            let mut typed = call.clone();
            typed.params.filter = Some(Box::new(lit(ScalarValue::Boolean(None))));
            Ok(Some(Expr::AggregateFunction(typed)))
        }
        _ => {
            let message = "argument of FILTER must be type boolean";
            let error = Error::new(ErrorKind::DatatypeMismatch, message);
            Err(DataFusionError::External(Box::new(error)))
        }
    }
}

/// `LIKE` with a backslash in the place of its escape character.
fn with_backslash(like: &Like, escape: char) -> Result<Expr> {
    let Some(pattern) = literal_text(&like.pattern) else {
        return Err(refused("LIKE with ESCAPE and a pattern that is not a constant"));
    };
    let mut escaped = String::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            _ if letter == escape => {
                escaped.push('\\');
                escaped.extend(letters.next());
            }
            _ => escaped.push(letter),
        }
    }
    let pattern = Box::new(lit(escaped));
    Ok(Expr::Like(Like { pattern, escape_char: None, ..like.clone() }))
}

fn with_strftime(call: &ScalarFunction) -> Result<Option<Expr>> {
    let [value, pattern] = call.args.as_slice() else { return Ok(None) };
    let pattern = literal_text(pattern);
    let Some(ours) = pattern.and_then(strftime) else {
        return Err(refused("this pattern of to_char"));
    };
    if pattern == Some(ours.as_str()) {
        return Ok(None);
    }
    let args = vec![value.clone(), lit(ours)];
    Ok(Some(Expr::ScalarFunction(ScalarFunction { func: Arc::clone(&call.func), args })))
}

fn literal_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        Expr::Cast(cast) => literal_text(&cast.expr),
        _ => None,
    }
}

fn refused(what: &str) -> DataFusionError {
    let error = Error::unsupported(format!("{what} is not supported"));
    DataFusionError::External(Box::new(error))
}
