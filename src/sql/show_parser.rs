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
        let characteristics = self.word(0).is_some_and(|word| word == "TRANSACTION")
            || (self.word(0).is_some_and(|word| word == "SESSION")
                && self.word(1).is_some_and(|word| word == "CHARACTERISTICS"));
        if characteristics {
            while self.inner.next_token().token != Token::EOF {}
            return Ok(StatementKind::Transaction(Transaction::SetCharacteristics));
        }
        let local = self.take("LOCAL");
        if !local {
            self.take("SESSION");
        }
        let name = if self.take_all(&["TIME", "ZONE"]) {
            "timezone".to_string()
        } else {
            let name = self.variable()?;
            if !self.inner.consume_token(&Token::Eq) && !self.take("TO") {
                return self.expected("= or TO");
            }
            name
        };
        if self.take("DEFAULT") {
            return Ok(StatementKind::Set { name, value: Vec::new(), local });
        }
        let mut value = vec![self.variable_value()?];
        while self.inner.consume_token(&Token::Comma) {
            value.push(self.variable_value()?);
        }
        Ok(StatementKind::Set { name, value, local })
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
        let name = self.variable()?;
        Ok(StatementKind::Reset { name: Some(name) })
    }
}
