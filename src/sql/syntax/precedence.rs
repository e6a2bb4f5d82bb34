//! [`with_precedence`]: mends how tightly `IS DISTINCT FROM` binds.
//!
//! The parser takes all that follows as its right side: it reads `a IS DISTINCT FROM b AND c` as
//! `a IS DISTINCT FROM (b AND c)`, where PostgreSQL, and everyone, means
//! `(a IS DISTINCT FROM b) AND c`.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value, VisitMut, VisitorMut};

/// The syntax tree with PostgreSQL's precedence.
///
/// Parentheses are nodes of their own, so that AND or OR right below an operator that binds more
/// tightly can only be the parser's mistake.
pub(in crate::sql) fn with_precedence<T: VisitMut>(mut parsed: T) -> T {
    // The visitor never breaks off.
    let _ = parsed.visit(&mut Mend);
    parsed
}

struct Mend;

impl VisitorMut for Mend {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        use BinaryOperator::{And, Or};
        let taken = std::mem::replace(expr, Expr::Value(Value::Null.into()));
        *expr = match taken {
            Expr::IsDistinctFrom(left, right) => {
                lift(*right, &[And, Or], |right| Expr::IsDistinctFrom(left, Box::new(right)))
            }
            Expr::IsNotDistinctFrom(left, right) => {
                lift(*right, &[And, Or], |right| Expr::IsNotDistinctFrom(left, Box::new(right)))
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                let not = |expr| Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) };
                lift(*expr, &[And, Or], not)
            }
            Expr::BinaryOp { left, op: And, right } => {
                let and = |right| Expr::BinaryOp { left, op: And, right: Box::new(right) };
                lift(*right, &[Or], and)
            }
            other => other,
        };
        ControlFlow::Continue(())
    }
}

/// Wraps the first operand below the operators, and leaves these above.
fn lift(expr: Expr, operators: &[BinaryOperator], wrap: impl FnOnce(Expr) -> Expr) -> Expr {
    match expr {
        Expr::BinaryOp { left, op, right } if operators.contains(&op) => {
            Expr::BinaryOp { left: Box::new(lift(*left, operators, wrap)), op, right }
        }
        operand => wrap(operand),
    }
}

#[cfg(test)]
mod tests;
