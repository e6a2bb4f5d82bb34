//! [`Sides`]: an operator and its operands.

use datafusion::logical_expr::Expr;
use sqlparser::ast::BinaryOperator;

use super::operand::{Operand, no_operator};
use crate::error::Error;

/// An operator and its operands.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) op: BinaryOperator,
    pub(super) left: Operand,
    pub(super) right: Operand,
    pub(super) left_expr: Expr,
    pub(super) right_expr: Expr,
}

impl Sides {
    /// The operands, which are not used again.
    pub(super) fn take(&mut self) -> (Expr, Expr) {
        (std::mem::take(&mut self.left_expr), std::mem::take(&mut self.right_expr))
    }

    /// The error of an operator that does not exist.
    pub(super) fn missing(&self) -> Error {
        no_operator(&self.left, &self.op, &self.right).with_hint(
            "no operator matches the given name and argument types: you might need to add \
             explicit type casts",
        )
    }
}
