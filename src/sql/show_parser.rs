//! `SHOW …`, `DESCRIBE …`, `SET …`, `RESET …`.

use sqlparser::tokenizer::Token;

use super::parser::{Parsed, StatementParser};
use super::statement::{Show, StatementKind, Transaction};

impl StatementParser<'_> {
    pub(super) fn show(&mut self) -> Parsed<StatementKind> {
        if !self.take("SHOW") {
            self.inner.next_token();
            return Ok(StatementKind::Show(Show::Columns { name: self.name()? }));
        }
        let word = self.word(0).unwrap_or_default();
        let plain = match word.as_str() {
            "JOBS" => Some(Show::Jobs),
            "MEMORY" => Some(Show::Memory),
            "WORKERS" => Some(Show::Workers),
            "TABLES" => Some(Show::Tables),
            "SOURCES" => Some(Show::Sources),
            "SINKS" => Some(Show::Sinks),
            "VIEWS" => Some(Show::Views),
            "PIPELINES" => Some(Show::Pipelines),
            "CATALOGS" => Some(Show::Catalogs),
            "ALL" => Some(Show::All),
            _ => None,
        };
        let show = if let Some(show) = plain {
            self.inner.next_token();
            show
        } else if self.take_all(&["MATERIALIZED", "VIEWS"]) {
            Show::MaterializedViews
        } else if self.take_all(&["PIPELINE", "RUNS"]) {
            Show::PipelineRuns
        } else if self.take("COLUMNS") {
            self.expect("FROM")?;
            Show::Columns { name: self.name()? }
        } else if self.take("CREATE") {
            self.show_create()?
        } else if self.take_all(&["TIME", "ZONE"]) {
            Show::Variable("timezone".to_string())
        } else if self.take_all(&["TRANSACTION", "ISOLATION", "LEVEL"]) {
            Show::Variable("transaction_isolation".to_string())
        } else {
            Show::Variable(self.variable()?)
        };
        Ok(StatementKind::Show(show))
    }

    fn show_create(&mut self) -> Parsed<Show> {
        let kinds = ["TABLE", "SOURCE", "VIEW", "SINK", "PIPELINE", "CATALOG"];
        let known =
            self.take_all(&["MATERIALIZED", "VIEW"]) || kinds.iter().any(|kind| self.take(kind));
        if !known {
            return self.expected("TABLE, SOURCE, MATERIALIZED VIEW, VIEW, SINK or PIPELINE");
        }
        Ok(Show::Create { name: self.name()? })
    }

    fn variable(&mut self) -> Parsed<String> {
        let parts = self.qualified_name()?;
        Ok(parts.iter().map(|part| part.value.to_lowercase()).collect::<Vec<_>>().join("."))
    }

    pub(super) fn set(&mut self) -> Parsed<StatementKind> {
        self.expect("SET")?;
        let characteristics = ["TRANSACTION", "CONSTRAINTS"]
            .iter()
            .any(|word| self.word(0).is_some_and(|next| next == *word))
            || self.take_all(&["SESSION", "CHARACTERISTICS"]);
        if characteristics {
            let is_constraints = self.word(0).is_some_and(|word| word == "CONSTRAINTS");
            while self.inner.next_token().token != Token::EOF {}
            return Ok(StatementKind::Transaction(match is_constraints {
                true => Transaction::SetConstraints,
                false => Transaction::SetCharacteristics,
            }));
        }
        let local = self.take("LOCAL");
        if !local && self.word(1).is_none_or(|word| word != "AUTHORIZATION") {
            self.take("SESSION");
        }
        let (name, is_special) = match self.special_variable() {
            Some(name) => (name.to_string(), true),
            None => (self.variable()?, false),
        };
        if !self.inner.consume_token(&Token::Eq) && !self.take("TO") && !is_special {
            return self.expected("= or TO");
        }
        let is_default = self.take("DEFAULT")
            || (name == "timezone" && self.take("LOCAL"))
            // SET NAMES alone.
            || (is_special && self.inner.peek_token_ref().token == Token::EOF);
        if is_default {
            return Ok(StatementKind::Set { name, value: Vec::new(), local });
        }
        if name == "timezone" && self.take("INTERVAL") {
            let value = self.variable_value()?;
            // HOUR TO MINUTE and the like.
            while let Token::Word(_) = self.inner.peek_token_ref().token {
                self.inner.next_token();
            }
            return Ok(StatementKind::Set { name, value: vec![value], local });
        }
        let mut value = vec![self.variable_value()?];
        while self.inner.consume_token(&Token::Comma) {
            value.push(self.variable_value()?);
        }
        Ok(StatementKind::Set { name, value, local })
    }

    /// Takes a variable that has words of its own.
    fn special_variable(&mut self) -> Option<&'static str> {
        let special: [(&[&str], &str); 5] = [
            (&["TIME", "ZONE"], "timezone"),
            (&["NAMES"], "client_encoding"),
            (&["ROLE"], "role"),
            (&["SESSION", "AUTHORIZATION"], "session_authorization"),
            (&["SCHEMA"], "search_path"),
        ];
        special.into_iter().find_map(|(words, name)| self.take_all(words).then_some(name))
    }

    fn variable_value(&mut self) -> Parsed<String> {
        let minus = self.inner.consume_token(&Token::Minus);
        let text = match &self.inner.peek_token_ref().token {
            Token::Number(text, _) if minus => format!("-{text}"),
            Token::Number(text, _) => text.clone(),
            Token::Word(word) if !minus => word.value.clone(),
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) if !minus => {
                text.clone()
            }
            _ => return self.expected("a value"),
        };
        self.inner.next_token();
        Ok(text)
    }

    pub(super) fn reset(&mut self) -> Parsed<StatementKind> {
        self.expect("RESET")?;
        if self.take("ALL") {
            return Ok(StatementKind::Reset { name: None });
        }
        let name = match self.special_variable() {
            Some(name) => name.to_string(),
            None => self.variable()?,
        };
        Ok(StatementKind::Reset { name: Some(name) })
    }
}
