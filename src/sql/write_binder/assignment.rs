//! Values for columns of a table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlan, Projection, cast};

use crate::error::{Error, ErrorKind, Result};
use crate::functions::{has_input, literal};

/// What the columns of an old row are qualified by; no name of SQL.
pub(super) const OLD: &str = "\0old";

/// A value cast to the type of its column, also if it has that type as far as is known: with the
/// values of parameters it may have another one.
pub(super) fn assigned(value: Expr, column: &FieldRef, schema: &DFSchema) -> Result<Expr> {
    let to = column.data_type();
    let value = literal(value, to)?;
    // Arrow does not know how these are read.
    if has_input(to) && value.get_type(schema).is_ok_and(|from| from.is_string()) {
        return Ok(cast(value, to.clone()));
    }
    Ok(match value.cast_to(column.data_type(), schema)? {
        cast @ (Expr::Cast(_) | Expr::Literal(..)) => cast,
        same => cast(same, column.data_type().clone()),
    })
}

/// A parameter that is a value of a column has the column's type.
pub(super) fn typed_parameter(expr: Expr, column: &FieldRef) -> Expr {
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            Expr::Placeholder(Placeholder::new_with_field(id, Some(Arc::clone(column))))
        }
        Expr::Alias(mut alias) => {
            *alias.expr = typed_parameter(*alias.expr, column);
            Expr::Alias(alias)
        }
        expr => expr,
    }
}

/// A query whose n-th item is for a column, where there is one: a parameter alone has its type.
pub(super) fn with_typed_parameters<'a>(
    plan: LogicalPlan,
    column: impl Fn(usize) -> Option<&'a FieldRef>,
) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(plan) };
    let items = projection.expr.into_iter().enumerate().map(|(index, expr)| match column(index) {
        Some(column) => typed_parameter(expr, column),
        None => expr,
    });
    let typed = Projection::try_new(items.collect(), projection.input)?;
    Ok(LogicalPlan::Projection(typed))
}

/// Some columns of a schema.
pub(super) fn columns_from(
    schema: &DFSchema,
    columns: impl Iterator<Item = usize>,
) -> Result<DFSchema> {
    let columns = columns.map(|index| schema.qualified_field(index));
    let columns = columns.map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
    Ok(DFSchema::new_with_metadata(columns.collect(), HashMap::new())?)
}

/// The error for a column that SET or INSERT names twice.
pub(super) fn set_twice(schema: &Schema, index: usize) -> Error {
    let message = format!("column \"{}\" is set twice", schema.field(index).name());
    Error::new(ErrorKind::DuplicateColumn, message)
}
