//! `DECLARE`, `FETCH`, `MOVE`, `CLOSE`.

use sqlparser::tokenizer::Token;

use super::{Parsed, StatementParser};
use crate::error::{Error, ErrorKind};
use crate::sql::statement::{Declare, Direction, Fetch, StatementKind};

/// Words that the query of a cursor may begin with.
const QUERY: [&str; 3] = ["SELECT", "VALUES", "WITH"];

impl StatementParser<'_> {
    pub(super) fn declare(&mut self) -> Parsed<StatementKind> {
        self.expect("DECLARE")?;
        let name = self.name_part()?.value;
        let mut is_binary = false;
        while !self.take("CURSOR") {
            if self.word(0).is_some_and(|word| word == "SCROLL") {
                return Err(Error::unsupported("SCROLL cursors are not supported")
                    .with_hint("leave SCROLL out and fetch forward: rows are computed as they go")
                    .at(self.position())
                    .into());
            }
            if self.take("BINARY") {
                is_binary = true;
            } else if !self.take_all(&["NO", "SCROLL"])
                && !self.take("INSENSITIVE")
                && !self.take("ASENSITIVE")
            {
                return self.expected("CURSOR");
            }
        }
        let is_held = self.take_all(&["WITH", "HOLD"]);
        if !is_held {
            self.take_all(&["WITHOUT", "HOLD"]);
        }
        self.expect("FOR")?;
        let query = self.inner_statement(&QUERY)?;
        Ok(StatementKind::Declare(Box::new(Declare { name, is_binary, is_held, query })))
    }

    pub(super) fn fetch(&mut self) -> Parsed<StatementKind> {
        let is_move = self.take("MOVE");
        if !is_move {
            self.expect("FETCH")?;
        }
        let direction = match self.inner.peek_nth_token_ref(1).token {
            // A lone word is a name.
            Token::EOF => Direction::Forward(1),
            _ => self.direction()?,
        };
        if !self.take("FROM") {
            self.take("IN");
        }
        let cursor = self.name_part()?.value;
        Ok(StatementKind::Fetch(Fetch { cursor, direction, is_move }))
    }

    fn direction(&mut self) -> Parsed<Direction> {
        let backward = |count: i64| Direction::Forward(count.saturating_neg());
        let word = self.word(0).unwrap_or_default();
        let fixed = match word.as_str() {
            "NEXT" => Some(Direction::Forward(1)),
            "PRIOR" => Some(backward(1)),
            "FIRST" => Some(Direction::Absolute(1)),
            "LAST" => Some(Direction::Absolute(-1)),
            "ALL" => Some(Direction::ForwardAll),
            _ => None,
        };
        if let Some(fixed) = fixed {
            self.inner.next_token();
            return Ok(fixed);
        }
        match word.as_str() {
            "ABSOLUTE" | "RELATIVE" => {
                self.inner.next_token();
                let Some(count) = self.count()? else { return self.expected("a number") };
                Ok(match word.as_str() {
                    "ABSOLUTE" => Direction::Absolute(count),
                    _ => Direction::Relative(count),
                })
            }
            "FORWARD" => {
                self.inner.next_token();
                if self.take("ALL") {
                    return Ok(Direction::ForwardAll);
                }
                Ok(Direction::Forward(self.count()?.unwrap_or(1)))
            }
            "BACKWARD" => {
                self.inner.next_token();
                if self.take("ALL") {
                    return Ok(backward(i64::MAX));
                }
                Ok(backward(self.count()?.unwrap_or(1)))
            }
            _ => Ok(Direction::Forward(self.count()?.unwrap_or(1))),
        }
    }

    /// A number of rows with its sign, if there is one.
    fn count(&mut self) -> Parsed<Option<i64>> {
        let position = self.position();
        let minus = self.inner.consume_token(&Token::Minus);
        let signed = minus || self.inner.consume_token(&Token::Plus);
        let Token::Number(digits, _) = &self.inner.peek_token_ref().token else {
            return if signed { self.expected("a number") } else { Ok(None) };
        };
        // As in PostgreSQL, whose numbers of rows here have 32 bits.
        let Ok(count) = digits.parse::<i32>() else {
            let message = format!("syntax error at or near \"{digits}\"");
            return Err(Error::new(ErrorKind::Syntax, message).at(position).into());
        };
        self.inner.next_token();
        let count = i64::from(count);
        Ok(Some(if minus { -count } else { count }))
    }

    pub(super) fn close(&mut self) -> Parsed<StatementKind> {
        self.expect("CLOSE")?;
        let name = match self.take("ALL") {
            true => None,
            false => Some(self.name_part()?.value),
        };
        Ok(StatementKind::Close { name })
    }
}
