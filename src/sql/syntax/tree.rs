//! The one door to the parser of PostgreSQL's syntax.
//!
//! ```text
//! tokens ──bounded──► sqlparser ──► tree ──precedence, calls, balance, limits──► tree
//! ```
//!
//! **Invariant:** every tree that the engine sees came through here, so that one text has one
//! meaning wherever it stands; clippy refuses the parser's own entry points elsewhere. No tree is
//! deeper, and no parameter's number larger, than `limits` say.

#![expect(clippy::disallowed_methods, reason = "the one place that may call the parser")]

use std::ops::ControlFlow;

use sqlparser::ast::{self, BinaryOperator, VisitMut, VisitorMut};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::lexer::{Places, tokenize};
use super::limits::{NESTING_MAX, check_limits, check_tokens};
use super::precedence::with_precedence;
use crate::error::{Error, ErrorKind, Result};

static DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// Result of the parser.
type Parsed<T> = std::result::Result<T, ParserError>;

/// A parser over a statement's tokens.
pub(in crate::sql) fn parser(tokens: Vec<TokenWithSpan>) -> Parser<'static> {
    Parser::new(&DIALECT).with_recursion_limit(NESTING_MAX).with_tokens_with_locations(tokens)
}

/// Parses a statement.
pub(in crate::sql) fn parse_statement(parser: &mut Parser<'_>) -> Parsed<ast::Statement> {
    parser.parse_statement().map(mended)
}

/// Parses a query.
pub(in crate::sql) fn parse_query(parser: &mut Parser<'_>) -> Parsed<Box<ast::Query>> {
    parser.parse_query().map(mended)
}

/// One statement as PostgreSQL's syntax, without this engine's own statements.
///
/// # Errors
/// `Syntax`, `TooDeep`, `UndefinedParameter`.
pub fn parse_postgres(text: &str) -> Result<ast::Statement> {
    let tokens = tokenize(text, 0)?;
    check_tokens(&tokens)?;
    let mut parser = parser(tokens);
    let parsed = parse_statement(&mut parser).and_then(|statement| {
        parser.expect_token(&Token::EOF)?;
        Ok(statement)
    });
    let statement = parsed.map_err(|error| Error::new(ErrorKind::Syntax, error.to_string()))?;
    check_limits(&statement, Places::new(text, 0))?;
    Ok(statement)
}

/// An expression of the engine's own making.
pub fn parse_expression(text: &str) -> Option<ast::Expr> {
    Parser::new(&DIALECT).try_with_sql(text).ok()?.parse_expr().map(mended).ok()
}

/// The tree with PostgreSQL's precedence and calls, and chains of AND and OR as balanced trees:
/// these are long in generated SQL, and as the parser builds them as deep as they are long.
pub fn mended<T: VisitMut>(parsed: T) -> T {
    let mut parsed = with_precedence(parsed);
    // The visitor never breaks off.
    let _ = parsed.visit(&mut Mend);
    parsed
}

/// Reserved words that are calls in PostgreSQL and columns to the parser.
const CALLS: [&str; 2] = ["current_schema", "current_role"];

struct Mend;

impl VisitorMut for Mend {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::Identifier(word) = expr
            && word.quote_style.is_none()
            && CALLS.iter().any(|call| word.value.eq_ignore_ascii_case(call))
        {
            *expr = ast::Expr::Function(ast::Function {
                name: ast::ObjectName::from(vec![word.clone()]),
                uses_odbc_syntax: false,
                parameters: ast::FunctionArguments::None,
                args: ast::FunctionArguments::None,
                filter: None,
                null_treatment: None,
                over: None,
                within_group: Vec::new(),
            });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        let op = match expr {
            ast::Expr::BinaryOp { op: BinaryOperator::And, .. } => BinaryOperator::And,
            ast::Expr::BinaryOp { op: BinaryOperator::Or, .. } => BinaryOperator::Or,
            _ => return ControlFlow::Continue(()),
        };
        let taken = std::mem::replace(expr, ast::Expr::Value(ast::Value::Null.into()));
        *expr = balanced(operands(taken, &op), &op);
        ControlFlow::Continue(())
    }
}

/// The operands of a chain, from left to right.
fn operands(chain: ast::Expr, op: &BinaryOperator) -> Vec<ast::Expr> {
    let mut pending = vec![chain];
    let mut operands = Vec::new();
    while let Some(next) = pending.pop() {
        match next {
            ast::Expr::BinaryOp { left, op: other, right } if other == *op => {
                pending.extend([*right, *left]);
            }
            operand => operands.push(operand),
        }
    }
    operands
}

fn balanced(mut level: Vec<ast::Expr>, op: &BinaryOperator) -> ast::Expr {
    while level.len() > 1 {
        let mut above = Vec::with_capacity(level.len().div_ceil(2));
        let mut below = level.into_iter();
        while let Some(left) = below.next() {
            above.push(match below.next() {
                Some(right) => ast::Expr::BinaryOp {
                    left: Box::new(left),
                    op: op.clone(),
                    right: Box::new(right),
                },
                None => left,
            });
        }
        level = above;
    }
    level.pop().unwrap_or(ast::Expr::Value(ast::Value::Null.into()))
}
