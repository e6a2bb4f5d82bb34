//! Statements that PostgreSQL needs and this engine does not: `VACUUM`, `ANALYZE`, `CREATE INDEX`,
//! `COMMENT ON`, `LOCK TABLE`, `CHECKPOINT`.
//!
//! **Invariant:** to leave one out changes no answer. What it would have to keep, such as a unique
//! index or a lock that others wait for, is refused.

use sqlparser::ast;
use sqlparser::tokenizer::Token;

use super::{Parsed, StatementParser};
use crate::error::Error;
use crate::sql::statement::{Name, NoEffect, StatementKind};
use crate::sql::syntax;

impl StatementParser<'_> {
    /// `VACUUM [(options) | words] [tables]`, `ANALYZE …`.
    pub(super) fn vacuum(&mut self, tag: &'static str) -> Parsed<StatementKind> {
        self.inner.next_token();
        if self.inner.peek_token_ref().token == Token::LParen {
            self.skip_parentheses()?;
        }
        while ["FULL", "FREEZE", "VERBOSE", "ANALYZE"].iter().any(|word| self.take(word)) {}
        let mut relations = Vec::new();
        while self.inner.peek_token_ref().token != Token::EOF {
            if !relations.is_empty() && !self.inner.consume_token(&Token::Comma) {
                return self.expected("',' or end of statement");
            }
            relations.push(self.name()?);
            if self.inner.peek_token_ref().token == Token::LParen {
                self.skip_parentheses()?;
            }
        }
        let reason = "nothing is to be cleaned up or counted by hand";
        Ok(StatementKind::NoEffect(NoEffect { tag, relations, reason }))
    }

    pub(super) fn checkpoint(&mut self) -> Parsed<StatementKind> {
        self.expect("CHECKPOINT")?;
        let reason = "what is acknowledged is durable";
        Ok(StatementKind::NoEffect(NoEffect { tag: "CHECKPOINT", relations: Vec::new(), reason }))
    }

    /// `COMMENT ON TABLE name IS 'text'`, `COMMENT ON COLUMN name.column IS 'text'`.
    pub(super) fn comment(&mut self) -> Parsed<StatementKind> {
        let unsupported = self.unsupported_statement();
        self.expect("COMMENT")?;
        self.expect("ON")?;
        let relations = if self.take("TABLE")
            || self.take("VIEW")
            || self.take_all(&["MATERIALIZED", "VIEW"])
        {
            vec![self.name()?]
        } else if self.take("COLUMN") {
            let mut parts = self.qualified_name()?;
            if parts.pop().is_none() || parts.is_empty() {
                return self.expected("a column with its table");
            }
            super::check_place(&parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>())?;
            parts.pop().into_iter().collect()
        } else if ["DATABASE", "SCHEMA", "INDEX", "ROLE"].iter().any(|word| self.take(word)) {
            self.qualified_name()?;
            Vec::new()
        } else {
            return Err(unsupported.into());
        };
        self.expect("IS")?;
        if !self.take("NULL") {
            self.inner.parse_literal_string()?;
        }
        let reason = "comments are not kept";
        Ok(StatementKind::NoEffect(NoEffect { tag: "COMMENT", relations, reason }))
    }

    /// `LOCK TABLE names IN ACCESS SHARE MODE`: other modes keep others out.
    pub(super) fn lock(&mut self) -> Parsed<StatementKind> {
        let position = self.position();
        self.expect("LOCK")?;
        self.take("TABLE");
        self.take("ONLY");
        let mut relations = vec![self.name()?];
        while self.inner.consume_token(&Token::Comma) {
            relations.push(self.name()?);
        }
        if !self.take_all(&["IN", "ACCESS", "SHARE", "MODE"]) {
            return Err(Error::unsupported("LOCK TABLE is supported IN ACCESS SHARE MODE only")
                .with_hint("write what depends on a row in one statement")
                .at(position)
                .into());
        }
        self.take("NOWAIT");
        let reason = "a statement reads one snapshot and waits for nobody";
        Ok(StatementKind::NoEffect(NoEffect { tag: "LOCK TABLE", relations, reason }))
    }

    /// `CREATE INDEX …`, of which CREATE is taken.
    pub(in crate::sql) fn create_index(&mut self) -> Parsed<StatementKind> {
        let position = self.position();
        self.inner.prev_token();
        let ast::Statement::CreateIndex(index) = syntax::parse_statement(&mut self.inner)? else {
            return Err(self.unsupported_statement().at(position).into());
        };
        if index.unique {
            return Err(Error::unsupported("CREATE UNIQUE INDEX is not supported")
                .with_hint("a PRIMARY KEY is unique: a row replaces the one with its key")
                .at(position)
                .into());
        }
        let relations = vec![self.table_name(&index.table_name)?];
        let reason = "rows are found by the primary key, and scanned otherwise";
        Ok(StatementKind::NoEffect(NoEffect { tag: "CREATE INDEX", relations, reason }))
    }

    /// `DROP INDEX …`, of which DROP is taken.
    pub(in crate::sql) fn drop_index(&mut self) -> Parsed<StatementKind> {
        self.expect("INDEX")?;
        self.take("CONCURRENTLY");
        self.take_all(&["IF", "EXISTS"]);
        self.name()?;
        while self.inner.consume_token(&Token::Comma) {
            self.name()?;
        }
        if !self.take("CASCADE") {
            self.take("RESTRICT");
        }
        let (tag, reason) = ("DROP INDEX", "there are no indexes but primary keys");
        Ok(StatementKind::NoEffect(NoEffect { tag, relations: Vec::new(), reason }))
    }

    /// A table's name as the parser of PostgreSQL's syntax gives it.
    fn table_name(&self, name: &ast::ObjectName) -> Parsed<Name> {
        let idents: Vec<&ast::Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let parts: Vec<String> = idents.iter().map(|ident| super::fold(ident)).collect();
        super::check_place(&parts.iter().map(String::as_str).collect::<Vec<_>>())?;
        match (idents.last(), parts.last()) {
            (Some(ident), Some(value)) => {
                let position = self.places().position(ident.span.start);
                Ok(Name { value: value.clone(), position })
            }
            _ => self.expected("a name"),
        }
    }

    fn skip_parentheses(&mut self) -> Parsed<()> {
        let mut depth = 0_usize;
        loop {
            match self.inner.next_token().token {
                Token::LParen => depth += 1,
                Token::RParen if depth <= 1 => return Ok(()),
                Token::RParen => depth -= 1,
                Token::EOF => return self.expected("')'"),
                _ => {}
            }
        }
    }
}
