//! How `IS DISTINCT FROM` binds, beside AND, OR and NOT.

use sqlparser::ast::Expr;

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
