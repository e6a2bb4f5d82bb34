//! [`redacted`]: the text of a statement without its secrets.

use frazil_connector_api::Options;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{Places, is_blank, pieces};

/// What stands in the place of a secret.
const HIDDEN: &str = "'***'";

/// The text of statements with `'***'` for each option that may hold a secret, such as
/// `properties.sasl.password`: what is shown to users and written to logs.
///
/// Only option lists change: parentheses behind `WITH` and `ENCODE …`.
pub fn redacted(text: &str) -> String {
    // Text that was parsed before always has tokens; other text is not shown at all.
    let Ok(pieces) = pieces(text) else { return String::new() };
    let places = Places::new(text, 0);
    let (mut shown, mut at) = (String::new(), 0);
    for piece in &pieces {
        for (start, end) in secrets(piece.text.as_str(), &piece.tokens) {
            shown.push_str(&places.slice(at, piece.offset + start));
            shown.push_str(HIDDEN);
            at = piece.offset + end;
        }
    }
    shown.push_str(&places.slice(at, text.chars().count()));
    shown
}

/// Where the values of secret options are, in characters.
fn secrets(text: &str, tokens: &[TokenWithSpan]) -> Vec<(usize, usize)> {
    let places = Places::new(text, 0);
    let tokens: Vec<_> = tokens.iter().filter(|token| !is_blank(&token.token)).collect();
    let is_word = |at: Option<usize>, word: &str| {
        let token = at.and_then(|at| tokens.get(at)).map(|token| &token.token);
        matches!(token, Some(Token::Word(found)) if found.value.eq_ignore_ascii_case(word))
    };
    let mut found = Vec::new();
    let mut name: Option<String> = None;
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::LParen if is_word(at.checked_sub(1), "WITH") => name = Some(String::new()),
            Token::LParen if is_word(at.checked_sub(2), "ENCODE") => name = Some(String::new()),
            Token::RParen => name = None,
            Token::Comma if name.is_some() => name = Some(String::new()),
            Token::Eq => {
                if name.as_deref().is_some_and(Options::is_secret)
                    && let Some(value) = tokens.get(at + 1)
                {
                    let start = places.within(value.span.start);
                    found.push((start, places.within(value.span.end)));
                }
                if let Some(name) = &mut name {
                    name.clear();
                }
            }
            Token::Word(word) => {
                name.iter_mut().for_each(|name| name.push_str(&word.value));
            }
            Token::SingleQuotedString(part) => {
                name.iter_mut().for_each(|name| name.push_str(part));
            }
            other => name.iter_mut().for_each(|name| name.push_str(&other.to_string())),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_the_values_of_secret_options_alone() {
        let sql = "CREATE TABLE \"é\" (password INT) WITH (connector = 'kafka', topic = 'a''b',
  properties.sasl.username = 'me', properties.sasl.password = 'it''s', -- 'x'
  'properties.ssl.key.password'='k', s3.secret-access-key = abc,
  properties.sasl.jaas.config = $$y$$)
  FORMAT PLAIN ENCODE JSON (a.token = 'z', time.precision.mode = 'connect');
SELECT 1 AS x WHERE password = 'kept' OR (password = 'kept')";
        let expected = sql
            .replace("'it''s'", HIDDEN)
            .replace("'k',", "'***',")
            .replace("abc", HIDDEN)
            .replace("$$y$$", HIDDEN)
            .replace("'z'", HIDDEN);
        assert_eq!(redacted(sql), expected);
    }

    #[test]
    fn other_text_stays_as_it_is() {
        let sql = "CREATE VIEW v AS WITH t AS (SELECT 1) SELECT * FROM t -- end";
        assert_eq!(redacted(sql), sql);
    }
}
