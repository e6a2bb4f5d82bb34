//! [`Piece`]: the input cut into statements, with places as characters.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::error::{Error, ErrorKind, Result, uncapitalised};

mod redact;

pub use redact::redacted;

/// The text of one statement and its tokens, whose places are in that text.
#[derive(Debug)]
pub(in crate::sql) struct Piece {
    /// The statement's text.
    pub text: String,
    /// Where the text begins in the input, in characters from 0.
    pub offset: usize,
    /// Tokens with blanks and comments.
    pub tokens: Vec<TokenWithSpan>,
}

/// The text of a statement, to turn lines and columns into characters.
#[derive(Debug, Clone, Copy)]
pub(in crate::sql) struct Places<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Places<'a> {
    pub(in crate::sql) fn new(text: &'a str, offset: usize) -> Self {
        Self { text, offset }
    }

    /// Character in the statement's text, from 0.
    pub(in crate::sql) fn within(&self, location: Location) -> usize {
        let line = usize::try_from(location.line.saturating_sub(1)).unwrap_or(0);
        let column = usize::try_from(location.column.saturating_sub(1)).unwrap_or(0);
        let before = self.text.split('\n').take(line).map(|line| line.chars().count() + 1);
        before.sum::<usize>() + column
    }

    /// Character in the input, from 1.
    pub(in crate::sql) fn position(&self, location: Location) -> usize {
        self.offset + self.within(location) + 1
    }

    /// The text between two characters.
    pub(in crate::sql) fn slice(&self, start: usize, end: usize) -> String {
        self.text.chars().skip(start).take(end.saturating_sub(start)).collect()
    }
}

/// Cuts the input at semicolons; pieces without a token are left out.
///
/// # Errors
/// `Syntax` for an unterminated string, comment or quoted name.
pub(in crate::sql) fn pieces(input: &str) -> Result<Vec<Piece>> {
    let places = Places::new(input, 0);
    let tokens = tokenize(input, 0)?;
    let mut pieces = Vec::new();
    for part in tokens.split(|token| token.token == Token::SemiColon) {
        let solid = |token: &&TokenWithSpan| !is_blank(&token.token);
        let (Some(first), Some(last)) = (part.iter().find(solid), part.iter().rev().find(solid))
        else {
            continue;
        };
        let offset = places.within(first.span.start);
        let text = places.slice(offset, places.within(last.span.end));
        let tokens = tokenize(&text, offset)?;
        pieces.push(Piece { text, offset, tokens });
    }
    Ok(pieces)
}

pub(in crate::sql) fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::EOF)
}

/// The tokens of a text, with blanks and comments.
pub(in crate::sql) fn tokenize(text: &str, offset: usize) -> Result<Vec<TokenWithSpan>> {
    Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().map_err(|error| {
        Error::new(ErrorKind::Syntax, uncapitalised(&error.message))
            .at(Places::new(text, offset).position(error.location))
    })
}

/// True if two texts are the same but for blanks, comments and the case of bare words.
pub fn same_text(one: &str, other: &str) -> bool {
    let solid = |text: &str| -> Option<Vec<Token>> {
        let tokens = tokenize(text, 0).ok()?.into_iter().map(|token| match token.token {
            Token::Word(mut word) if word.quote_style.is_none() => {
                word.value.make_ascii_lowercase();
                Token::Word(word)
            }
            token => token,
        });
        Some(tokens.filter(|token| !is_blank(token) && *token != Token::SemiColon).collect())
    };
    one == other || solid(one).is_some_and(|tokens| solid(other) == Some(tokens))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_semicolons_outside_of_strings() {
        let pieces = pieces("-- hello\nSELECT ';' ;;\n  SELECT 2 -- bye\n").unwrap();
        let texts: Vec<_> =
            pieces.iter().map(|piece| (piece.text.as_str(), piece.offset)).collect();
        assert_eq!(texts, [("SELECT ';'", 9), ("SELECT 2", 25)]);
    }

    #[test]
    fn blanks_comments_and_case_are_no_difference() {
        let text = "SELECT a, 'X y' FROM \"T\"";
        assert!(same_text(text, "select A ,\n 'X y' -- why\n from \"T\" ;"));
        for other in ["SELECT a, 'X  y' FROM \"T\"", "SELECT a, 'X y' FROM \"t\"", "SELECT 'a"] {
            assert!(!same_text(text, other), "{other}");
        }
    }

    #[test]
    fn counts_characters_not_bytes() {
        let pieces = pieces("SELECT 'é';\nSELECT 1").unwrap();
        assert_eq!(pieces[1].offset, 12);
    }

    #[test]
    fn tells_where_an_unterminated_string_begins() {
        let error = pieces("SELECT 1;\nSELECT 'abc").unwrap_err();
        assert_eq!((error.kind, error.position), (ErrorKind::Syntax, Some(18)));
    }
}
