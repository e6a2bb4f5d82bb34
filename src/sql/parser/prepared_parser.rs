//! `PREPARE`, `EXECUTE`, `DEALLOCATE`, `DISCARD`, `UNLISTEN`.

use arrow::datatypes::DataType;
use sqlparser::ast;
use sqlparser::tokenizer::Token;

use super::{Parsed, StatementParser, parse};
use crate::error::Error;
use crate::sql::statement::{Discard, Execute, Prepare, Statement, StatementKind};
use crate::types::{TypeForms, arrow_type};

/// Words that a prepared statement may begin with.
const PREPARABLE: [&str; 6] = ["SELECT", "VALUES", "WITH", "INSERT", "UPDATE", "DELETE"];
/// What the values of EXECUTE are read as.
const VALUES: &str = "VALUES ";

impl StatementParser<'_> {
    pub(super) fn prepare(&mut self) -> Parsed<StatementKind> {
        if self.word(1).is_some_and(|word| word == "TRANSACTION") {
            return Err(self.unsupported_statement().into());
        }
        self.expect("PREPARE")?;
        let name = self.name_part()?.value;
        let mut types = Vec::new();
        if self.inner.consume_token(&Token::LParen) {
            loop {
                types.push(self.parameter_type()?);
                if self.inner.consume_token(&Token::RParen) {
                    break;
                }
                if !self.inner.consume_token(&Token::Comma) {
                    return self.expected("',' or ')' after a type");
                }
            }
        }
        self.expect("AS")?;
        let statement = self.inner_statement(&PREPARABLE)?;
        Ok(StatementKind::Prepare(Box::new(Prepare { name, types, statement })))
    }

    /// A type of a parameter; `None` if the statement is to tell it.
    fn parameter_type(&mut self) -> Parsed<Option<DataType>> {
        let position = self.position();
        let sql = self.inner.parse_data_type()?;
        if let ast::DataType::Custom(name, _) = &sql
            && name.to_string().eq_ignore_ascii_case("unknown")
        {
            return Ok(None);
        }
        Ok(Some(arrow_type(&sql, TypeForms::Own).map_err(|error| error.at(position))?))
    }

    /// The rest of the text as a statement of its own that begins with one of these words, or with
    /// a parenthesis.
    pub(super) fn inner_statement(&mut self, words: &[&str]) -> Parsed<Statement> {
        let is_one = match self.word(0) {
            Some(word) => words.contains(&word.as_str()),
            None => self.inner.peek_token_ref().token == Token::LParen,
        };
        if !is_one {
            return self.expected("a query or a write");
        }
        let start = self.rest();
        let offset = self.piece.offset + start;
        let text = self.text_from(start);
        self.take_rest();
        self.statement_of(&text, offset)
    }

    /// A statement of a text that begins at this character of the input.
    fn statement_of(&self, text: &str, offset: usize) -> Parsed<Statement> {
        let shifted = |mut error: Error| {
            error.position = error.position.map(|position| position + offset);
            error
        };
        match parse(text).map_err(shifted)?.pop() {
            Some(statement) => Ok(Statement { offset: statement.offset + offset, ..statement }),
            None => self.expected("a statement"),
        }
    }

    /// Leaves the tokens that are left to another parser.
    fn take_rest(&mut self) {
        while self.inner.next_token().token != Token::EOF {}
    }

    pub(super) fn execute(&mut self) -> Parsed<StatementKind> {
        self.expect("EXECUTE")?;
        let name = self.name_part()?.value;
        if self.inner.peek_token_ref().token != Token::LParen {
            return Ok(StatementKind::Execute(Execute { name, values: None }));
        }
        let start = self.rest();
        let text = format!("{VALUES}{}", self.text_from(start));
        // As many characters stand before the list in the text, by EXECUTE and a name.
        let offset = (self.piece.offset + start).saturating_sub(VALUES.len());
        self.take_rest();
        let values = Some(Box::new(self.statement_of(&text, offset)?));
        Ok(StatementKind::Execute(Execute { name, values }))
    }

    pub(super) fn deallocate(&mut self) -> Parsed<StatementKind> {
        self.expect("DEALLOCATE")?;
        // PREPARE alone is a name.
        if matches!(self.inner.peek_nth_token_ref(1).token, Token::Word(_)) {
            self.take("PREPARE");
        }
        let name = match self.take("ALL") {
            true => None,
            false => Some(self.name_part()?.value),
        };
        Ok(StatementKind::Deallocate { name })
    }

    pub(super) fn discard(&mut self) -> Parsed<StatementKind> {
        self.expect("DISCARD")?;
        let what = [
            ("ALL", Discard::All),
            ("PLANS", Discard::Plans),
            ("SEQUENCES", Discard::Sequences),
            ("TEMP", Discard::Temp),
            ("TEMPORARY", Discard::Temp),
        ];
        match what.into_iter().find(|(word, _)| self.take(word)) {
            Some((_, what)) => Ok(StatementKind::Discard(what)),
            None => self.expected("ALL, PLANS, SEQUENCES or TEMP"),
        }
    }

    pub(super) fn unlisten(&mut self) -> Parsed<StatementKind> {
        let unsupported = self.unsupported_statement();
        self.expect("UNLISTEN")?;
        match self.inner.consume_token(&Token::Mul) {
            true => Ok(StatementKind::Unlisten),
            false => Err(unsupported.into()),
        }
    }
}
