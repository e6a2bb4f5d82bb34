//! Queries: syntax to logical plans.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::{Column, DataFusionError, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use sqlparser::ast::{self, Visit as _};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Token, Tokenizer};

use super::binder::Binder;
use super::parser::fold;
use super::scope::Scope;
use crate::error::{Error, ErrorKind, Result, nearest};
use crate::functions::functions;

/// Calls that the planner knows by syntax and not by name.
const SYNTAX_FUNCTIONS: [&str; 5] = ["array", "map", "row", "struct", "unnest"];

/// Functions that cut a stream into windows.
const WINDOW_TABLES: [&str; 4] = ["tumble", "hop", "session", "cumulate"];

/// The types of `$1`, `$2`, …, as far as the plan tells them.
///
/// # Errors
/// `InvalidSql` if a parameter is used with two types.
pub fn parameter_types(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>> {
    let mut types = BTreeMap::new();
    for (name, data_type) in plan.get_parameter_types()? {
        let number = name.trim_start_matches('$').parse::<usize>().ok().filter(|n| *n > 0);
        let Some(number) = number else {
            let message = format!("parameter \"{name}\" is not $1, $2 and so on");
            return Err(Error::new(ErrorKind::Syntax, message));
        };
        types.insert(number, data_type);
    }
    let count = types.keys().next_back().copied().unwrap_or(0);
    Ok((1..=count).map(|number| types.get(&number).cloned().flatten()).collect())
}

impl Binder<'_> {
    /// Plans a query.
    pub(super) fn query(&self, query: &ast::Query) -> Result<LogicalPlan> {
        let statement = ast::Statement::Query(Box::new(query.clone()));
        self.check_calls(&statement)?;
        let plan = self.planned(|planner| planner.sql_statement_to_plan(statement))?;
        match plan {
            LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) => {
                Err(Error::unsupported("a query that writes is not supported")
                    .at(self.statement.offset + 1))
            }
            plan => Ok(plan),
        }
    }

    /// Runs the planner and tells where its error is.
    pub(super) fn planned<T>(
        &self,
        run: impl FnOnce(&SqlToRel<'_, Scope<'_>>) -> datafusion::error::Result<T>,
    ) -> Result<T> {
        let options = ParserOptions::new()
            .with_parse_float_as_decimal(true)
            .with_map_string_types_to_utf8view(false)
            .with_collect_spans(true);
        let planner = SqlToRel::new_with_options(&self.scope, options);
        run(&planner).map_err(|error| self.located(error))
    }

    /// The planner's error with its place in the text.
    fn located(&self, error: DataFusionError) -> Error {
        let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
        let error = Error::from(error);
        if error.position.is_some() {
            return error;
        }
        let location = match span {
            Some(span) => Some(Location::new(span.start.line, span.start.column)),
            None => self.place_of_name(&error),
        };
        match location {
            Some(location) => error.at(self.places().position(location)),
            None => error,
        }
    }

    /// The place of the first name in the text that the message quotes. A table is looked for behind
    /// FROM, JOIN and the like first.
    fn place_of_name(&self, error: &Error) -> Option<Location> {
        let quoted = error.message.split('"').nth(1)?;
        let name = quoted.rsplit('.').next()?;
        let tokens =
            Tokenizer::new(&PostgreSqlDialect {}, &self.statement.text).tokenize_with_location();
        let tokens = tokens.ok()?;
        let solid: Vec<_> =
            tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
        let mut places = (0..solid.len()).filter(|index| match &solid[*index].token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_lowercase() == name,
            Token::Word(word) => word.value == name,
            _ => false,
        });
        let behind_from = |index: &usize| {
            let before = index.checked_sub(1).map(|before| solid[before].token.to_string());
            before.is_some_and(|before| {
                ["FROM", "JOIN", "INTO", "UPDATE", ","].contains(&before.to_uppercase().as_str())
            })
        };
        let index = match error.kind {
            ErrorKind::UndefinedTable | ErrorKind::WrongObjectType => {
                let places: Vec<usize> = places.collect();
                places.iter().copied().find(behind_from).or(places.first().copied())
            }
            ErrorKind::UndefinedColumn | ErrorKind::AmbiguousColumn => places.next(),
            _ => None,
        };
        index.map(|index| solid[index].span.start)
    }

    /// Every function that is called must exist.
    pub(super) fn check_calls(&self, statement: &ast::Statement) -> Result<()> {
        let mut calls = Calls { binder: self };
        match statement.visit(&mut calls) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }
}

/// Looks for calls of functions that do not exist.
struct Calls<'a> {
    binder: &'a Binder<'a>,
}

impl ast::Visitor for Calls<'_> {
    type Break = Box<Error>;

    fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<Self::Break> {
        let name = match factor {
            ast::TableFactor::Table { name, args: Some(_), .. }
            | ast::TableFactor::Function { name, .. } => name,
            _ => return ControlFlow::Continue(()),
        };
        let Some(ident) = name.0.last().and_then(|part| part.as_ident()) else {
            return ControlFlow::Continue(());
        };
        let name = fold(ident);
        if !WINDOW_TABLES.contains(&name.as_str()) {
            return ControlFlow::Continue(());
        }
        let error = Error::unsupported(format!("table function \"{name}\" is not supported"));
        ControlFlow::Break(Box::new(
            error
                .with_hint("group by date_bin(INTERVAL '10 seconds', at) instead")
                .at(self.binder.places().position(ident.span.start)),
        ))
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Self::Break> {
        let ast::Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        let Some(ident) = call.name.0.last().and_then(|part| part.as_ident()) else {
            return ControlFlow::Continue(());
        };
        let name = fold(ident);
        if SYNTAX_FUNCTIONS.contains(&name.as_str()) || self.binder.scope.has_function(&name) {
            return ControlFlow::Continue(());
        }
        let message = format!("function \"{name}\" does not exist");
        let error = Error::new(ErrorKind::UndefinedFunction, message)
            .at(self.binder.places().position(ident.span.start));
        let hint = nearest(&name, functions().names());
        ControlFlow::Break(Box::new(match hint {
            Some(near) => error.with_hint(format!("perhaps you meant \"{near}\"")),
            None => error,
        }))
    }
}

/// Gives the columns of a plan new names.
pub(super) fn renamed(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    if plan.schema().iter().zip(names).all(|((_, field), name)| field.name() == name) {
        return Ok(plan);
    }
    let exprs: Vec<Expr> = plan
        .schema()
        .iter()
        .zip(names)
        .map(|((qualifier, field), name)| {
            Expr::Column(Column::new(qualifier.cloned(), field.name())).alias(name)
        })
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

/// The names that PostgreSQL gives to the columns of a query: a column's or function's own name, or
/// `?column?`, unless AS says another.
pub(super) fn output_names(query: &ast::Query, plan: &LogicalPlan) -> Vec<String> {
    let planned: Vec<String> =
        plan.schema().fields().iter().map(|field| field.name().clone()).collect();
    let Some(items) = first_select(&query.body) else { return planned };
    let wild = |item: &ast::SelectItem| {
        matches!(item, ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..))
    };
    let wild_count = items.iter().filter(|item| wild(item)).count();
    let Some(expanded) = planned.len().checked_sub(items.len() - wild_count) else {
        return planned;
    };
    if wild_count > 1 || (wild_count == 0 && expanded > 0) {
        return planned;
    }
    let mut names = Vec::with_capacity(planned.len());
    for item in items {
        match item {
            item if wild(item) => {
                names.extend_from_slice(&planned[names.len()..names.len() + expanded]);
            }
            ast::SelectItem::UnnamedExpr(expr) => {
                names.push(expression_name(expr).unwrap_or_else(|| "?column?".to_string()));
            }
            _ => names.push(planned[names.len()].clone()),
        }
    }
    names
}

fn first_select(body: &ast::SetExpr) -> Option<&[ast::SelectItem]> {
    match body {
        ast::SetExpr::Select(select) => Some(&select.projection),
        ast::SetExpr::Query(query) => first_select(&query.body),
        ast::SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

fn expression_name(expr: &ast::Expr) -> Option<String> {
    match expr {
        ast::Expr::Identifier(ident) => Some(fold(ident)),
        ast::Expr::CompoundIdentifier(parts) => parts.last().map(fold),
        ast::Expr::Function(call) => call.name.0.last().and_then(|part| part.as_ident()).map(fold),
        ast::Expr::Cast { expr, data_type, .. } => {
            Some(expression_name(expr).unwrap_or_else(|| data_type.to_string().to_lowercase()))
        }
        ast::Expr::Nested(inner) => expression_name(inner),
        ast::Expr::Case { .. } => Some("case".to_string()),
        ast::Expr::Exists { .. } => Some("exists".to_string()),
        ast::Expr::Extract { .. } => Some("extract".to_string()),
        ast::Expr::Substring { .. } => Some("substring".to_string()),
        ast::Expr::Trim { .. } => Some("btrim".to_string()),
        ast::Expr::Position { .. } => Some("position".to_string()),
        ast::Expr::Floor { .. } => Some("floor".to_string()),
        ast::Expr::Ceil { .. } => Some("ceil".to_string()),
        ast::Expr::Subquery(query) => match first_select(&query.body)? {
            [ast::SelectItem::UnnamedExpr(expr)] => expression_name(expr),
            [ast::SelectItem::ExprWithAlias { alias, .. }] => Some(fold(alias)),
            _ => None,
        },
        _ => None,
    }
}

/// The name of a table as the planner wants it.
pub(super) fn reference(name: &str) -> TableReference {
    TableReference::bare(name.to_string())
}
