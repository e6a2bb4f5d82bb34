//! How deep a statement may be, and how many parameters it may have.

use std::ops::ControlFlow;

use sqlparser::ast::{self, Visit};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::lexer::Places;
use crate::error::{Error, ErrorKind, Result};

/// Levels of a statement's tree: operators, parentheses, subqueries, set operations and joins below
/// each other. A plan of that depth fits on a stack of `LARGE_STACK_BYTES`.
const DEPTH_MAX: usize = 1000;
/// Parentheses and subqueries within each other.
pub(super) const NESTING_MAX: usize = 300;
/// Tokens between two commas of one level of parentheses. The tree is at most as deep, so that it
/// can be looked at and dropped.
const RUN_MAX: usize = 40_000;
/// Set operations in one level of parentheses.
const SET_OPERATIONS_MAX: usize = DEPTH_MAX;
/// The largest number of a parameter: the protocol counts them in 16 bits.
const PARAMETER_MAX: usize = 65_535;

/// Refuses a statement whose tree could be too deep to be looked at.
///
/// # Errors
/// `TooDeep`.
pub(in crate::sql) fn check_tokens(tokens: &[TokenWithSpan]) -> Result<()> {
    // Tokens since the last comma, and set operations, of each open parenthesis.
    let mut levels = vec![(0_usize, 0_usize)];
    let mut prefixes = 0_usize;
    for token in tokens {
        prefixes = match &token.token {
            Token::Whitespace(_) => prefixes,
            Token::Minus | Token::Plus | Token::Tilde => prefixes + 1,
            Token::Word(word) if word.value.eq_ignore_ascii_case("NOT") => prefixes + 1,
            _ => 0,
        };
        let depth = levels.len();
        let Some((run, sets)) = levels.last_mut() else { return Ok(()) };
        match &token.token {
            Token::Whitespace(_) => {}
            Token::LParen => {
                *run += 1;
                levels.push((0, 0));
            }
            Token::RParen if depth > 1 => {
                levels.pop();
            }
            Token::Comma => *run = 0,
            Token::Word(word) if word.quote_style.is_none() => {
                *run += 1;
                let set = ["UNION", "INTERSECT", "EXCEPT"];
                *sets += usize::from(set.iter().any(|set| word.value.eq_ignore_ascii_case(set)));
            }
            _ => *run += 1,
        }
        let is_long = |(run, sets): &(usize, usize)| *run > RUN_MAX || *sets > SET_OPERATIONS_MAX;
        if prefixes > NESTING_MAX || levels.last().is_some_and(is_long) {
            return Err(too_deep());
        }
    }
    Ok(())
}

pub(in crate::sql) fn too_deep() -> Error {
    Error::new(ErrorKind::TooDeep, "stack depth limit exceeded")
        .with_detail(format!("a statement may be {DEPTH_MAX} levels deep"))
        .with_hint("use IN with a list, VALUES or a table in the place of a long expression")
}

/// Checks a tree's depth and the numbers of its parameters.
///
/// # Errors
/// `TooDeep`, `UndefinedParameter`.
pub(in crate::sql) fn check_limits(parsed: &impl Visit, places: Places<'_>) -> Result<()> {
    match parsed.visit(&mut Limits { places, depth: 0, added: Vec::new() }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Limits<'a> {
    places: Places<'a>,
    depth: usize,
    /// What each open query added for its set operations.
    added: Vec<usize>,
}

impl Limits<'_> {
    fn deeper(&mut self, levels: usize) -> ControlFlow<Box<Error>> {
        self.depth += levels;
        match self.depth > DEPTH_MAX {
            true => ControlFlow::Break(Box::new(too_deep())),
            false => ControlFlow::Continue(()),
        }
    }
}

impl ast::Visitor for Limits<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Self::Break> {
        let levels = 1 + set_depth(&query.body);
        self.added.push(levels);
        self.deeper(levels)
    }

    fn post_visit_query(&mut self, _: &ast::Query) -> ControlFlow<Self::Break> {
        self.depth -= self.added.pop().unwrap_or(0);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Self::Break> {
        let joins: usize = select.from.iter().map(|from| 1 + from.joins.len()).sum();
        match self.depth + joins > DEPTH_MAX {
            true => ControlFlow::Break(Box::new(too_deep())),
            false => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, _: &ast::Expr) -> ControlFlow<Self::Break> {
        self.deeper(1)
    }

    fn post_visit_expr(&mut self, _: &ast::Expr) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ast::ValueWithSpan) -> ControlFlow<Self::Break> {
        let ast::Value::Placeholder(name) = &value.value else {
            return ControlFlow::Continue(());
        };
        let Some(digits) = name.strip_prefix('$') else { return ControlFlow::Continue(()) };
        match digits.parse::<usize>() {
            Ok(1..=PARAMETER_MAX) => ControlFlow::Continue(()),
            _ if !digits.bytes().all(|digit| digit.is_ascii_digit()) => ControlFlow::Continue(()),
            _ => {
                let error = no_parameter(digits);
                ControlFlow::Break(Box::new(error.at(self.places.position(value.span.start))))
            }
        }
    }
}

/// A parameter that has no value.
pub fn no_parameter(number: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::UndefinedParameter, format!("there is no parameter ${number}"))
}

/// Set operations below each other.
fn set_depth(body: &ast::SetExpr) -> usize {
    let mut pending = vec![(body, 0)];
    let mut deepest = 0;
    while let Some((body, depth)) = pending.pop() {
        deepest = deepest.max(depth);
        if let ast::SetExpr::SetOperation { left, right, .. } = body {
            pending.extend([(left.as_ref(), depth + 1), (right.as_ref(), depth + 1)]);
        }
    }
    deepest
}

#[cfg(test)]
mod tests;
