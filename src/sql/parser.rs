//! [`parse`]: text to statements.

use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::scope::{DATABASE, SCHEMA};
use super::statement::{Name, Statement, StatementKind, Transaction, Truncate};
use super::syntax;
use super::syntax::{Piece, Places, is_blank, pieces};
use super::syntax_error::translate;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::on_large_stack;

mod cursor_parser;
mod no_effect_parser;
mod prepared_parser;

/// Parses statements, which semicolons separate.
///
/// # Errors
/// `Syntax` with the place in `text`; `Unsupported` for statements that are only understood.
pub fn parse(text: &str) -> Result<Vec<Statement>> {
    on_large_stack(|| pieces(text)?.iter().map(parse_piece).collect())
}

fn parse_piece(piece: &Piece) -> Result<Statement> {
    syntax::check_tokens(&piece.tokens)?;
    let mut parser = StatementParser { inner: syntax::parser(piece.tokens.clone()), piece };
    let parsed = parser.statement().and_then(|kind| match &parser.inner.peek_token_ref().token {
        Token::EOF => Ok(kind),
        _ => parser.expected("end of statement"),
    });
    match parsed {
        Ok(kind) => Ok(Statement { kind, text: piece.text.clone(), offset: piece.offset }),
        Err(Fault::Parser(error)) => Err(translate(error, &parser.inner, piece)),
        Err(Fault::Engine(error)) => Err(error),
    }
}

/// Why a statement was not parsed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The text is not SQL.
    Parser(ParserError),
    /// The text is understood but refused.
    Engine(Error),
}

impl From<ParserError> for Fault {
    fn from(error: ParserError) -> Self {
        Self::Parser(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// Result of parsing.
pub(super) type Parsed<T> = std::result::Result<T, Fault>;

/// Parses one statement: our own syntax here, PostgreSQL's by `sqlparser`.
pub(super) struct StatementParser<'a> {
    /// The parser of PostgreSQL's syntax, at the same token.
    pub(super) inner: Parser<'a>,
    piece: &'a Piece,
}

impl StatementParser<'_> {
    fn statement(&mut self) -> Parsed<StatementKind> {
        let word = self.word(0).unwrap_or_default();
        match word.as_str() {
            "CREATE" => self.create(),
            "DROP" => self.drop(),
            "ALTER" => self.alter(),
            "EXPLAIN" => self.explain(),
            "SHOW" | "DESCRIBE" | "DESC" => self.show(),
            "SET" => self.set(),
            "RESET" => self.reset(),
            "FLUSH" if self.take("FLUSH") => Ok(StatementKind::Flush),
            "RUN" => {
                self.inner.next_token();
                self.expect("PIPELINE")?;
                Ok(StatementKind::RunPipeline { name: self.name()? })
            }
            "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" => self.transaction(&word),
            "SAVEPOINT" | "RELEASE" => self.transaction(&word),
            "PREPARE" => self.prepare(),
            "EXECUTE" => self.execute(),
            "DEALLOCATE" => self.deallocate(),
            "DISCARD" => self.discard(),
            "UNLISTEN" => self.unlisten(),
            "VACUUM" => self.vacuum("VACUUM"),
            "ANALYZE" | "ANALYSE" => self.vacuum("ANALYZE"),
            "CHECKPOINT" => self.checkpoint(),
            "COMMENT" => self.comment(),
            "LOCK" => self.lock(),
            "DECLARE" => self.declare(),
            "FETCH" | "MOVE" => self.fetch(),
            "CLOSE" => self.close(),
            "COPY" => self.copy(),
            "TRUNCATE" => self.truncate(),
            _ => self.postgres_statement(),
        }
    }

    fn postgres_statement(&mut self) -> Parsed<StatementKind> {
        let parsed = syntax::parse_statement(&mut self.inner)?;
        syntax::check_limits(&parsed, self.places())?;
        Ok(match parsed {
            ast::Statement::Query(query) => with_insert(query),
            ast::Statement::Insert(insert) => StatementKind::Insert(Box::new(insert)),
            ast::Statement::Update(update) => StatementKind::Update(Box::new(update)),
            ast::Statement::Delete(delete) => StatementKind::Delete(Box::new(delete)),
            _ => return Err(self.unsupported_statement().into()),
        })
    }

    /// The statement is SQL, but none of ours.
    pub(super) fn unsupported_statement(&self) -> Error {
        let words = self.piece.tokens.iter().filter(|token| !is_blank(&token.token));
        let words = words.map_while(|token| match &token.token {
            Token::Word(word) => Some(word.value.to_uppercase()),
            _ => None,
        });
        let head = words.take(2).collect::<Vec<_>>().join(" ");
        Error::unsupported(format!("statement \"{head}\" is not supported"))
            .at(self.piece.offset + 1)
    }

    /// `TRUNCATE [TABLE] [ONLY] name [*], … [CONTINUE IDENTITY] [CASCADE | RESTRICT]`.
    fn truncate(&mut self) -> Parsed<StatementKind> {
        self.expect("TRUNCATE")?;
        self.take("TABLE");
        let mut names = Vec::new();
        loop {
            self.take("ONLY");
            names.push(self.name()?);
            let _ = self.inner.consume_token(&Token::Mul);
            if !self.inner.consume_token(&Token::Comma) {
                break;
            }
        }
        let restarts = self.take_all(&["RESTART", "IDENTITY"]);
        if !restarts {
            self.take_all(&["CONTINUE", "IDENTITY"]);
        }
        // No table refers to another.
        if !self.take("CASCADE") {
            self.take("RESTRICT");
        }
        Ok(StatementKind::Truncate(Truncate { names, restarts }))
    }

    fn explain(&mut self) -> Parsed<StatementKind> {
        self.expect("EXPLAIN")?;
        if self.word(0).is_some_and(|word| word == "ANALYZE" || word == "VERBOSE")
            || self.inner.peek_token_ref().token == Token::LParen
        {
            let error = Error::unsupported("options of EXPLAIN are not supported");
            return Err(error.at(self.position()).into());
        }
        if self.word(0).is_some_and(|word| word == "EXPLAIN") {
            return self.expected("a statement to explain");
        }
        let kind = self.statement()?;
        // The places of its tokens are those in the whole text.
        let (text, offset) = (self.piece.text.clone(), self.piece.offset);
        Ok(StatementKind::Explain(Box::new(Statement { kind, text, offset })))
    }

    /// Parses a query.
    pub(super) fn query(&mut self) -> Parsed<Box<ast::Query>> {
        let query = syntax::parse_query(&mut self.inner)?;
        syntax::check_limits(query.as_ref(), self.places())?;
        Ok(query)
    }

    /// Parses a query from the tokens `start..end` and continues at `end`.
    pub(super) fn query_between(
        &mut self,
        start: usize,
        end: Option<usize>,
    ) -> Parsed<Box<ast::Query>> {
        let end = end.unwrap_or(self.piece.tokens.len());
        let mut parser = syntax::parser(self.piece.tokens[start..end].to_vec());
        let query = syntax::parse_query(&mut parser)?;
        syntax::check_limits(query.as_ref(), self.places())?;
        if parser.peek_token_ref().token != Token::EOF {
            return Ok(parser.expected_ref("end of query", parser.peek_token_ref())?);
        }
        while self.inner.index() > end {
            self.inner.prev_token();
        }
        Ok(query)
    }

    fn transaction(&mut self, word: &str) -> Parsed<StatementKind> {
        self.inner.next_token();
        match word {
            "SAVEPOINT" => {
                let name = self.name_part()?.value;
                return Ok(StatementKind::Transaction(Transaction::Savepoint(name)));
            }
            "RELEASE" => {
                let name = self.savepoint_name()?;
                return Ok(StatementKind::Transaction(Transaction::Release(name)));
            }
            "ROLLBACK" | "ABORT" => {
                if !self.take("WORK") {
                    self.take("TRANSACTION");
                }
                if self.take("TO") {
                    let name = self.savepoint_name()?;
                    return Ok(StatementKind::Transaction(Transaction::RollbackTo(name)));
                }
            }
            _ => {}
        }
        while self.inner.peek_token_ref().token != Token::EOF {
            if self.word(0).is_some_and(|word| word == "PREPARED") {
                return Err(self.unsupported_statement().into());
            }
            self.inner.next_token();
        }
        Ok(StatementKind::Transaction(match word {
            "BEGIN" | "START" => Transaction::Begin,
            "COMMIT" | "END" => Transaction::Commit,
            _ => Transaction::Rollback,
        }))
    }

    /// `[SAVEPOINT] name`.
    fn savepoint_name(&mut self) -> Parsed<String> {
        // SAVEPOINT alone is a name.
        if matches!(self.inner.peek_nth_token_ref(1).token, Token::Word(_)) {
            self.take("SAVEPOINT");
        }
        Ok(self.name_part()?.value)
    }

    /// The character in the statement's text, from 0, where the rest begins.
    pub(super) fn rest(&self) -> usize {
        self.places().within(self.inner.peek_token_ref().span.start)
    }

    /// The statement's text from a character that [`Self::rest`] gave.
    pub(super) fn text_from(&self, start: usize) -> String {
        self.places().slice(start, usize::MAX)
    }

    pub(super) fn places(&self) -> Places<'_> {
        Places::new(&self.piece.text, self.piece.offset)
    }

    /// Place of the next token in the input, in characters from 1.
    pub(super) fn position(&self) -> usize {
        match self.inner.peek_token_ref() {
            TokenWithSpan { token: Token::EOF, .. } => {
                self.piece.offset + self.piece.text.chars().count() + 1
            }
            token => self.places().position(token.span.start),
        }
    }

    /// The n-th next token in capitals, if it is a bare word.
    pub(super) fn word(&self, n: usize) -> Option<String> {
        match &self.inner.peek_nth_token_ref(n).token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        }
    }

    /// Takes the next token if it is this bare word.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let found = self.word(0).is_some_and(|next| next == word);
        if found {
            self.inner.next_token();
        }
        found
    }

    /// Takes these bare words if all of them follow.
    pub(super) fn take_all(&mut self, words: &[&str]) -> bool {
        let found = words
            .iter()
            .enumerate()
            .all(|(n, word)| self.word(n).is_some_and(|next| next == *word));
        if found {
            for _ in words {
                self.inner.next_token();
            }
        }
        found
    }

    pub(super) fn expect(&mut self, word: &str) -> Parsed<()> {
        if self.take(word) { Ok(()) } else { self.expected(word) }
    }

    pub(super) fn expected<T>(&self, what: &str) -> Parsed<T> {
        Ok(self.inner.expected_ref(what, self.inner.peek_token_ref())?)
    }

    /// A name, whose schema may be `public`.
    pub(super) fn name(&mut self) -> Parsed<Name> {
        let parts = self.qualified_name()?;
        let values: Vec<&str> = parts.iter().map(|part| part.value.as_str()).collect();
        check_place(&values).map_err(|error| match parts.first() {
            Some(first) => error.at(first.position),
            None => error,
        })?;
        match parts.into_iter().next_back() {
            Some(name) => Ok(name),
            None => self.expected("a name"),
        }
    }

    /// A name of one or more parts.
    pub(super) fn qualified_name(&mut self) -> Parsed<Vec<Name>> {
        let mut parts = vec![self.name_part()?];
        while self.inner.consume_token(&Token::Period) {
            parts.push(self.name_part()?);
        }
        Ok(parts)
    }

    /// A name of one part.
    pub(super) fn name_part(&mut self) -> Parsed<Name> {
        let position = self.position();
        let ident = self.inner.parse_identifier()?;
        Ok(Name { value: fold(&ident), position })
    }

    pub(super) fn if_not_exists(&mut self) -> bool {
        self.take_all(&["IF", "NOT", "EXISTS"])
    }
}

/// `WITH … INSERT INTO t query` is `INSERT INTO t WITH … query`.
fn with_insert(mut query: Box<ast::Query>) -> StatementKind {
    let ast::SetExpr::Insert(ast::Statement::Insert(insert)) = query.body.as_ref() else {
        return StatementKind::Query(query);
    };
    let mut insert = insert.clone();
    match &mut insert.source {
        Some(source) if source.with.is_none() => source.with = query.with.take(),
        // Two lists of names, or nothing that could read them: it is refused as a query.
        _ => return StatementKind::Query(query),
    }
    StatementKind::Insert(Box::new(insert))
}

/// Refuses a name of several parts that is not in the one schema of the one database.
///
/// # Errors
/// `Unsupported` for another database, `UndefinedSchema` for another schema, as in PostgreSQL.
pub(super) fn check_place(parts: &[&str]) -> Result<()> {
    match parts {
        [_] => Ok(()),
        [schema, _] | [DATABASE, schema, _] if *schema == SCHEMA => Ok(()),
        [schema, _] | [DATABASE, schema, _] => Err(Error::new(
            ErrorKind::UndefinedSchema,
            format!("schema \"{schema}\" does not exist"),
        )
        .with_hint(format!("the only schema is \"{SCHEMA}\""))),
        _ => {
            let name = parts.join(".");
            let message = format!("cross-database references are not implemented: \"{name}\"");
            Err(Error::unsupported(message)
                .with_hint(format!("the only database is \"{DATABASE}\"")))
        }
    }
}

/// A name as PostgreSQL folds it: in lower case unless it is quoted.
pub fn fold(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}
