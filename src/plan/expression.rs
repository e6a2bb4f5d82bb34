//! Logical expressions to physical ones over the columns of an input.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};

/// Binds an expression to the columns of `schema`.
///
/// # Errors
/// `Unsupported` if it holds a subquery or what else has no physical form.
pub(super) fn physical(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    if expr.exists(|expr| Ok(is_subquery(expr)))? {
        return Err(Error::unsupported("this subquery is not supported in a live view")
            .with_hint("write it as a join"));
    }
    Ok(create_physical_expr(expr, schema, &ExecutionProps::new())?)
}

/// Binds expressions to the columns of `schema`.
pub(super) fn physicals<'a>(
    exprs: impl IntoIterator<Item = &'a Expr>,
    schema: &DFSchema,
) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    exprs.into_iter().map(|expr| physical(expr, schema)).collect()
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)
    )
}

/// The column's index if the expression is a column, whatever name it is given.
pub(super) fn column_index(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Alias(alias) => column_index(&alias.expr, schema),
        _ => None,
    }
}
