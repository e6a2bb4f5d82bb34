//! [`Piece`]: the input cut into statements, with places as characters.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::error::{Error, ErrorKind, Result, uncapitalised};

mod redact;

pub use redact::redacted;

/// The text of one statement and its tokens, whose places are in that text.
#[derive(Debug)]
pub(super) struct Piece {
    /// The statement's text.
    pub text: String,
    /// Where the text begins in the input, in characters from 0.
    pub offset: usize,
    /// Tokens with blanks and comments.
    pub tokens: Vec<TokenWithSpan>,
}

/// The text of a statement, to turn lines and columns into characters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Places<'a> {
    pub(super) fn new(text: &'a str, offset: usize) -> Self {
        Self { text, offset }
    }

    /// Character in the statement's text, from 0.
    pub(super) fn within(&self, location: Location) -> usize {
        let line = usize::try_from(location.line.saturating_sub(1)).unwrap_or(0);
        let column = usize::try_from(location.column.saturating_sub(1)).unwrap_or(0);
        let before = self.text.split('\n').take(line).map(|line| line.chars().count() + 1);
        before.sum::<usize>() + column
    }

    /// Character in the input, from 1.
    pub(super) fn position(&self, location: Location) -> usize {
        self.offset + self.within(location) + 1
    }

    /// The text between two characters.
    pub(super) fn slice(&self, start: usize, end: usize) -> String {
        self.text.chars().skip(start).take(end.saturating_sub(start)).collect()
    }
}

/// Cuts the input at semicolons; pieces without a token are left out.
///
/// # Errors
/// `Syntax` for an unterminated string, comment or quoted name.
pub(super) fn pieces(input: &str) -> Result<Vec<Piece>> {
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

pub(super) fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::EOF)
}

fn tokenize(text: &str, offset: usize) -> Result<Vec<TokenWithSpan>> {
    Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().map_err(|error| {
        Error::new(ErrorKind::Syntax, uncapitalised(&error.message))
            .at(Places::new(text, offset).position(error.location))
    })
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
