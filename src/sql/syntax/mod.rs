//! PostgreSQL's syntax: text to tokens to trees, by the one door to `sqlparser`.
//!
//! **Invariant:** every tree that the engine sees has PostgreSQL's precedence and is within the
//! limits, so that one text has one meaning wherever it stands.

mod lexer;
mod limits;
mod precedence;
mod tree;

pub(super) use lexer::{Piece, Places, is_blank, pieces, tokenize};
pub use lexer::{redacted, same_text};
pub use limits::no_parameter;
pub(super) use limits::{check_limits, check_tokens, too_deep};
pub use tree::{mended, parse_expression, parse_postgres};
pub(super) use tree::{parse_query, parse_statement, parser};
