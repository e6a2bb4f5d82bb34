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
mod tests {
    use super::*;

    /// With all parentheses.
    fn shown(expr: &Expr) -> String {
        match expr {
            Expr::BinaryOp { left, op, right } => {
                format!("({} {op} {})", shown(left), shown(right))
            }
            Expr::IsDistinctFrom(left, right) => format!("({} <> {})", shown(left), shown(right)),
            Expr::IsNotDistinctFrom(left, right) => {
                format!("({} == {})", shown(left), shown(right))
            }
            Expr::UnaryOp { op, expr } => format!("({op} {})", shown(expr)),
            Expr::Nested(expr) => shown(expr),
            other => other.to_string(),
        }
    }

    #[test]
    fn is_distinct_binds_more_tightly_than_not_and_or() {
        for (text, meant) in [
            ("a IS DISTINCT FROM b AND c", "((a <> b) AND c)"),
            ("a IS NOT DISTINCT FROM b AND c OR d", "(((a == b) AND c) OR d)"),
            ("a IS DISTINCT FROM b OR c AND d", "((a <> b) OR (c AND d))"),
            ("x AND a IS DISTINCT FROM b OR c", "((x AND (a <> b)) OR c)"),
            ("NOT a IS DISTINCT FROM b AND c", "((NOT (a <> b)) AND c)"),
            ("x OR NOT a IS DISTINCT FROM b = 1 AND c", "(x OR ((NOT (a <> (b = 1))) AND c))"),
            ("a IS DISTINCT FROM (b AND c)", "(a <> (b AND c))"),
            ("a IS DISTINCT FROM b AND c IS DISTINCT FROM d", "((a <> b) AND (c <> d))"),
            ("x AND (y OR z) AND NOT (x AND y)", "((x AND (y OR z)) AND (NOT (x AND y)))"),
        ] {
            let parsed = crate::sql::parse_expression(text).unwrap();
            assert_eq!(shown(&parsed), meant, "{text}");
        }
    }
}
