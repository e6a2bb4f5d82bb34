//! `CREATE …` and `DROP …`.

use std::collections::BTreeSet;

use frazil_connector_api::{Include, Options};
use sqlparser::ast;
use sqlparser::tokenizer::Token;

use super::parser::{Parsed, StatementParser};
use super::statement::{
    ColumnList, CreateCatalog, CreatePipeline, CreateRelation, CreateSink, CreateTableAs,
    CreateView, Drop, FormatClause, IncludeClause, Name, ObjectKind, Resume, SinkSource,
    StatementKind,
};
use crate::error::{Error, ErrorKind};

/// PostgreSQL's storage parameters of tables; those of autovacuum begin alike.
const STORAGE: [&str; 4] =
    ["fillfactor", "parallel_workers", "toast_tuple_target", "user_catalog_table"];
const AUTOVACUUM: [&str; 2] = ["autovacuum_", "toast."];

/// Takes PostgreSQL's storage parameters out of the options.
fn without_storage(mut options: Options) -> (Options, Vec<String>) {
    let is_storage = |name: &str| {
        STORAGE.contains(&name) || AUTOVACUUM.iter().any(|start| name.starts_with(start))
    };
    let names = options.iter().map(|(name, _)| name.to_string());
    let storage: Vec<String> = names.filter(|name| is_storage(name)).collect();
    for name in &storage {
        options.take(name);
    }
    (options, storage)
}

impl StatementParser<'_> {
    pub(super) fn create(&mut self) -> Parsed<StatementKind> {
        self.expect("CREATE")?;
        let position = self.position();
        let word = self.word(0).unwrap_or_default();
        match word.as_str() {
            "TABLE" => self.create_table(),
            "SOURCE" => {
                self.inner.next_token();
                let (if_not_exists, name) = (self.if_not_exists(), self.name()?);
                let source = self.create_relation(name, if_not_exists)?;
                Ok(StatementKind::CreateSource(Box::new(source)))
            }
            "SINK" => self.create_sink(),
            "PIPELINE" => self.create_pipeline(),
            "CATALOG" => self.create_catalog(),
            "VIEW" => {
                self.inner.next_token();
                Ok(StatementKind::CreateView(Box::new(self.create_view()?)))
            }
            "MATERIALIZED" => {
                self.inner.next_token();
                self.expect("VIEW")?;
                Ok(StatementKind::CreateMaterializedView(Box::new(self.create_view()?)))
            }
            "OR" => Err(Error::unsupported("CREATE OR REPLACE is not supported")
                .with_hint("DROP first, then CREATE")
                .at(position)
                .into()),
            "INDEX" | "UNIQUE" => self.create_index(),
            "TEMP" | "TEMPORARY" | "UNLOGGED" | "SCHEMA" | "DATABASE" | "FUNCTION" | "SECRET"
            | "CONNECTION" | "USER" | "ROLE" | "EXTENSION" | "TYPE" | "SEQUENCE"
            | "SUBSCRIPTION" => Err(self.unsupported_statement().at(position).into()),
            _ => self.expected(
                "TABLE, SOURCE, MATERIALIZED VIEW, VIEW, SINK, PIPELINE or CATALOG after CREATE",
            ),
        }
    }

    fn create_table(&mut self) -> Parsed<StatementKind> {
        self.inner.next_token();
        let (if_not_exists, name) = (self.if_not_exists(), self.name()?);
        // A column of a list has a type behind its name.
        let has_names = self.inner.peek_token_ref().token == Token::LParen
            && matches!(self.inner.peek_nth_token_ref(2).token, Token::Comma | Token::RParen);
        let columns = if has_names { self.name_list()? } else { Vec::new() };
        if !has_names && self.word(0).is_none_or(|word| word != "AS") {
            let table = self.create_relation(name, if_not_exists)?;
            return Ok(StatementKind::CreateTable(Box::new(table)));
        }
        self.expect("AS")?;
        let query = self.query_before_with(|parser| {
            let data = 1 + usize::from(parser.word(1).is_some_and(|word| word == "NO"));
            parser.word(data).is_some_and(|word| word == "DATA")
                && parser.inner.peek_nth_token_ref(data + 1).token == Token::EOF
        })?;
        let with_data = !self.take_all(&["WITH", "NO", "DATA"]);
        if with_data {
            self.take_all(&["WITH", "DATA"]);
        }
        let table = CreateTableAs { name, if_not_exists, columns, query, with_data };
        Ok(StatementKind::CreateTableAs(Box::new(table)))
    }

    fn create_relation(&mut self, name: Name, if_not_exists: bool) -> Parsed<CreateRelation> {
        let columns = match self.inner.peek_token_ref().token {
            Token::LParen => Some(self.column_list()?),
            _ => None,
        };
        let includes = self.includes()?;
        let append_only = self.take_all(&["APPEND", "ONLY"]);
        self.refuse("AS")?;
        let mut options = self.with_options()?;
        let format = self.format_clause()?;
        self.refuse("INCLUDE")?;
        if format.is_some() && options.iter().next().is_none() {
            options = self.with_options()?;
        }
        let (options, storage) = without_storage(options);
        Ok(CreateRelation {
            name,
            if_not_exists,
            columns,
            includes,
            append_only,
            options,
            format,
            storage,
        })
    }

    /// `INCLUDE timestamp AS sent INCLUDE header 'trace' AS trace …`.
    fn includes(&mut self) -> Parsed<Vec<IncludeClause>> {
        let mut includes = Vec::new();
        while self.take("INCLUDE") {
            let position = self.position();
            let word = self.name_part()?.value.to_lowercase();
            let include = match word.as_str() {
                "timestamp" => Include::Timestamp,
                "partition" => Include::Partition,
                "offset" => Include::Offset,
                "file" => Include::File,
                "key" => Include::Key,
                "header" => Include::Header(self.inner.parse_literal_string()?),
                other => {
                    return Err(Error::unsupported(format!("INCLUDE {other} is not supported"))
                        .with_hint("use timestamp, partition, offset, file, key or header 'name'")
                        .at(position)
                        .into());
                }
            };
            self.expect("AS")?;
            includes.push(IncludeClause { include, name: self.name_part()? });
        }
        Ok(includes)
    }

    /// Refuses a clause that RisingWave has and this engine has not.
    fn refuse(&self, word: &str) -> Parsed<()> {
        if self.word(0).is_none_or(|next| next != word) {
            return Ok(());
        }
        Err(Error::unsupported(format!("{word} in CREATE is not supported"))
            .at(self.position())
            .into())
    }

    fn column_list(&mut self) -> Parsed<ColumnList> {
        let mut list = ColumnList::default();
        self.inner.expect_token(&Token::LParen)?;
        loop {
            if self.word(0).is_some_and(|word| word == "WATERMARK")
                && self.word(1).is_some_and(|word| word == "FOR")
            {
                return Err(Error::unsupported("WATERMARK FOR is not supported")
                    .with_hint("leave it out; views over the stream stay exact without it")
                    .at(self.position())
                    .into());
            }
            match self.inner.parse_optional_table_constraint()? {
                Some(constraint) => list.constraints.push(constraint),
                None => list.columns.push(self.inner.parse_column_def()?),
            }
            if self.inner.consume_token(&Token::RParen) {
                return Ok(list);
            }
            if !self.inner.consume_token(&Token::Comma) {
                return self.expected("',' or ')' after column definition");
            }
        }
    }

    /// `WITH (name.part = value, …)`; empty if there is none.
    pub(super) fn with_options(&mut self) -> Parsed<Options> {
        if self.take("WITH") { self.option_list() } else { Ok(Options::default()) }
    }

    fn option_list(&mut self) -> Parsed<Options> {
        self.inner.expect_token(&Token::LParen)?;
        let mut pairs = Vec::new();
        let mut seen = BTreeSet::new();
        while !self.inner.consume_token(&Token::RParen) {
            let position = self.position();
            let name = self.option_name()?;
            self.inner.expect_token(&Token::Eq)?;
            let value = self.option_value()?;
            if !seen.insert(name.clone()) {
                let message = format!("option \"{name}\" is given twice");
                return Err(Error::new(ErrorKind::InvalidParameter, message).at(position).into());
            }
            pairs.push((name, value));
            if !self.inner.consume_token(&Token::Comma)
                && self.inner.peek_token_ref().token != Token::RParen
            {
                return self.expected("',' or ')' after option");
            }
        }
        Ok(Options::new(pairs))
    }

    fn option_name(&mut self) -> Parsed<String> {
        if let Token::SingleQuotedString(name) = &self.inner.peek_token_ref().token {
            let name = name.to_lowercase();
            self.inner.next_token();
            return Ok(name);
        }
        let parts = self.qualified_name()?;
        let mut name = parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
        while self.inner.consume_token(&Token::Minus) {
            name = format!("{name}-{}", self.option_name()?);
        }
        Ok(name.to_lowercase())
    }

    fn option_value(&mut self) -> Parsed<String> {
        let minus = self.inner.consume_token(&Token::Minus);
        let text = match &self.inner.peek_token_ref().token {
            Token::Number(text, _) if minus => format!("-{text}"),
            Token::Number(text, _) => text.clone(),
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) if !minus => {
                text.clone()
            }
            Token::DollarQuotedString(text) if !minus => text.value.clone(),
            Token::Word(word) if !minus => match word.quote_style {
                None => word.value.to_lowercase(),
                Some(_) => return self.expected("a value in single quotes"),
            },
            _ => return self.expected("a value of the option"),
        };
        self.inner.next_token();
        Ok(text)
    }

    fn format_clause(&mut self) -> Parsed<Option<FormatClause>> {
        if !self.take("FORMAT") {
            return Ok(None);
        }
        let format = self.name_part()?.value.to_uppercase();
        self.expect("ENCODE")?;
        let encode = self.name_part()?.value.to_uppercase();
        let options = match self.inner.peek_token_ref().token {
            Token::LParen => self.option_list()?,
            _ => Options::default(),
        };
        Ok(Some(FormatClause { format, encode, options }))
    }

    fn create_view(&mut self) -> Parsed<CreateView> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let columns = match self.inner.peek_token_ref().token {
            Token::LParen => self.name_list()?,
            _ => Vec::new(),
        };
        let options = self.with_options()?;
        self.expect("AS")?;
        let start = self.rest();
        let query = self.query()?;
        if self.word(0).is_some_and(|word| word == "EMIT") {
            return Err(Error::unsupported("EMIT ON WINDOW CLOSE is not supported")
                .with_hint("leave it out; the view then shows windows while they fill")
                .at(self.position())
                .into());
        }
        let query_text = self.text_from(start);
        Ok(CreateView { name, if_not_exists, columns, options, query, query_text })
    }

    /// `(name, …)`.
    fn name_list(&mut self) -> Parsed<Vec<Name>> {
        self.inner.expect_token(&Token::LParen)?;
        let mut names = vec![self.name_part()?];
        while self.inner.consume_token(&Token::Comma) {
            names.push(self.name_part()?);
        }
        self.inner.expect_token(&Token::RParen)?;
        Ok(names)
    }

    fn create_sink(&mut self) -> Parsed<StatementKind> {
        self.inner.next_token();
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let source = if self.take("FROM") {
            SinkSource::Relation(self.name()?)
        } else if self.take("AS") {
            SinkSource::Query(self.query_before_with(|parser| {
                parser.inner.peek_nth_token_ref(1).token == Token::LParen
            })?)
        } else {
            return self.expected("FROM or AS");
        };
        if self.word(0).is_none_or(|word| word != "WITH") {
            return self.expected("WITH");
        }
        let options = self.with_options()?;
        let format = self.format_clause()?;
        let sink = CreateSink { name, if_not_exists, source, options, format };
        Ok(StatementKind::CreateSink(Box::new(sink)))
    }

    /// A query with `WITH (options)` or the like behind it, which the parser of queries would take
    /// for hints of the last table: it is parsed from the tokens before a WITH at which `is_end`.
    fn query_before_with(&mut self, is_end: impl Fn(&Self) -> bool) -> Parsed<Box<ast::Query>> {
        let start = self.inner.index();
        let mut depth = 0_usize;
        let mut end = None;
        loop {
            match &self.inner.peek_token_ref().token {
                Token::EOF => break,
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Word(word)
                    if depth == 0
                        && word.quote_style.is_none()
                        && word.value.eq_ignore_ascii_case("WITH")
                        && is_end(self) =>
                {
                    self.inner.next_token();
                    end = Some(self.inner.index() - 1);
                    continue;
                }
                _ => {}
            }
            self.inner.next_token();
        }
        self.query_between(start, end)
    }

    fn create_pipeline(&mut self) -> Parsed<StatementKind> {
        self.inner.next_token();
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        self.expect("SCHEDULE")?;
        let schedule_position = self.position();
        let schedule = self.inner.parse_literal_string()?;
        let options = self.with_options()?;
        self.expect("AS")?;
        self.expect("INSERT")?;
        self.expect("INTO")?;
        let target = self.qualified_name()?;
        let query = self.query()?;
        Ok(StatementKind::CreatePipeline(Box::new(CreatePipeline {
            name,
            if_not_exists,
            schedule,
            schedule_position,
            target,
            options,
            query,
        })))
    }

    fn create_catalog(&mut self) -> Parsed<StatementKind> {
        self.inner.next_token();
        let if_not_exists = self.if_not_exists();
        let name = self.name_part()?;
        if self.word(0).is_none_or(|word| word != "WITH") {
            return self.expected("WITH");
        }
        let options = self.with_options()?;
        Ok(StatementKind::CreateCatalog(CreateCatalog { name, if_not_exists, options }))
    }

    pub(super) fn drop(&mut self) -> Parsed<StatementKind> {
        self.expect("DROP")?;
        let Some(kind) = self.object_kind() else {
            let word = self.word(0).unwrap_or_default();
            return match word.as_str() {
                "INDEX" => self.drop_index(),
                "SCHEMA" | "DATABASE" | "FUNCTION" | "SECRET" | "CONNECTION" | "USER" | "ROLE"
                | "SUBSCRIPTION" => Err(self.unsupported_statement().into()),
                "MATERIALIZED" => {
                    self.inner.next_token();
                    self.expected("VIEW")
                }
                _ => self.expected(
                    "TABLE, SOURCE, MATERIALIZED VIEW, VIEW, SINK, PIPELINE or CATALOG after DROP",
                ),
            };
        };
        let if_exists = self.take_all(&["IF", "EXISTS"]);
        let mut names = vec![self.name()?];
        while self.inner.consume_token(&Token::Comma) {
            names.push(self.name()?);
        }
        let cascade = self.take("CASCADE");
        if !cascade {
            self.take("RESTRICT");
        }
        Ok(StatementKind::Drop(Drop { kind, if_exists, names, cascade }))
    }

    /// `ALTER … name RESUME`, the only ALTER there is.
    pub(super) fn alter(&mut self) -> Parsed<StatementKind> {
        let unsupported = self.unsupported_statement();
        self.expect("ALTER")?;
        let Some(kind) = self.object_kind() else { return Err(unsupported.into()) };
        let name = self.name()?;
        if !self.take("RESUME") {
            let hint =
                "the only ALTER is ALTER … name RESUME; drop the relation and create it again";
            return Err(unsupported.with_hint(hint).into());
        }
        Ok(StatementKind::Resume(Resume { kind, name }))
    }

    /// Takes the words that say what kind of relation a name is of.
    fn object_kind(&mut self) -> Option<ObjectKind> {
        let kinds: [(&[&str], ObjectKind); 7] = [
            (&["TABLE"], ObjectKind::Table),
            (&["SOURCE"], ObjectKind::Source),
            (&["MATERIALIZED", "VIEW"], ObjectKind::MaterializedView),
            (&["VIEW"], ObjectKind::View),
            (&["SINK"], ObjectKind::Sink),
            (&["PIPELINE"], ObjectKind::Pipeline),
            (&["CATALOG"], ObjectKind::Catalog),
        ];
        kinds.into_iter().find_map(|(words, kind)| self.take_all(words).then_some(kind))
    }
}
