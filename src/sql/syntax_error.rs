//! The parser's error as PostgreSQL would say it, with its place and a hint.

use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::syntax::too_deep;
use super::syntax::{Piece, Places, is_blank};
use crate::error::{Error, ErrorKind, nearest};

/// Words that a statement may begin with or be cut by.
const KEYWORDS: [&str; 58] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "ORDER",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "JOIN",
    "INNER",
    "LEFT",
    "RIGHT",
    "UNION",
    "DISTINCT",
    "INSERT",
    "INTO",
    "VALUES",
    "UPDATE",
    "DELETE",
    "SET",
    "CREATE",
    "TABLE",
    "SOURCE",
    "MATERIALIZED",
    "VIEW",
    "SINK",
    "PIPELINE",
    "SCHEDULE",
    "CATALOG",
    "WITH",
    "FORMAT",
    "ENCODE",
    "PRIMARY",
    "KEY",
    "NOT",
    "NULL",
    "EXISTS",
    "DROP",
    "CASCADE",
    "EXPLAIN",
    "SHOW",
    "FLUSH",
    "RESET",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "DESCRIBE",
    "DISCARD",
    "BETWEEN",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "INTERVAL",
    "APPEND",
    "ONLY",
    "COLUMNS",
    "TABLES",
];

/// PostgreSQL's message for an error at a token.
fn near(token: &TokenWithSpan, places: Places<'_>) -> Error {
    let text = match &token.token {
        Token::Word(word) => word.value.clone(),
        other => other.to_string(),
    };
    Error::new(ErrorKind::Syntax, format!("syntax error at or near \"{text}\""))
        .at(places.position(token.span.start))
}

/// Turns the parser's error into ours.
pub(super) fn translate(error: ParserError, parser: &Parser<'_>, piece: &Piece) -> Error {
    let places = Places::new(&piece.text, piece.offset);
    let text = match error {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
        ParserError::RecursionLimitExceeded => {
            return too_deep();
        }
    };
    let (text, location) = split_location(&text);
    let solid: Vec<&TokenWithSpan> =
        piece.tokens.iter().filter(|token| !is_blank(&token.token)).collect();
    let at_end = text.ends_with("found: EOF")
        || (location.is_none() && parser.peek_token_ref().token == Token::EOF);
    let index = match location {
        _ if at_end => solid.len(),
        Some(location) => index_at(&solid, location),
        None => index_at(&solid, parser.peek_token_ref().span.start),
    };
    // `SELECT * FORM t`: what follows a star has no name, so the fault is the word behind it.
    let misnamed = misspelt(&solid, index);
    let index = match (index.checked_sub(2), index.checked_sub(1)) {
        (Some(star), Some(word)) if solid[star].token == Token::Mul && misnamed.is_some() => word,
        _ => index,
    };
    let error = match solid.get(index) {
        Some(token) => near(token, places),
        None => Error::new(ErrorKind::Syntax, "syntax error at end of input")
            .at(piece.offset + piece.text.chars().count() + 1),
    };
    let error = match expected(text) {
        Some(expected) => error.with_detail(format!("expected {expected}")),
        None => error,
    };
    match misnamed {
        Some(keyword) => error.with_hint(format!("perhaps you meant \"{keyword}\"")),
        None => error,
    }
}

/// The first token that begins at the place or after it.
fn index_at(tokens: &[&TokenWithSpan], location: Location) -> usize {
    let place = (location.line, location.column);
    let before = |token: &&&TokenWithSpan| (token.span.start.line, token.span.start.column) < place;
    tokens.iter().take_while(before).count()
}

/// Cuts ` at Line: 1, Column: 8` off.
fn split_location(text: &str) -> (&str, Option<Location>) {
    let Some((before, place)) = text.rsplit_once(" at Line: ") else {
        return (text, None);
    };
    let location = place.split_once(", Column: ").and_then(|(line, column)| {
        Some(Location::new(line.trim().parse().ok()?, column.trim().parse().ok()?))
    });
    (before, location)
}

fn expected(text: &str) -> Option<&str> {
    let (expected, _) = text.strip_prefix("Expected: ")?.split_once(", found: ")?;
    Some(expected)
}

/// A keyword that the token at the error, or the one before it, is nearly.
fn misspelt(tokens: &[&TokenWithSpan], index: usize) -> Option<&'static str> {
    let candidates = [Some(index), index.checked_sub(1)];
    candidates.into_iter().flatten().find_map(|index| {
        let Token::Word(word) = &tokens.get(index)?.token else { return None };
        let unquoted = word.quote_style.is_none() && word.value.len() > 3;
        let known = KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(&word.value));
        if unquoted && !known { nearest(&word.value, KEYWORDS) } else { None }
    })
}
