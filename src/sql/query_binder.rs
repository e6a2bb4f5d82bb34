//! Queries: syntax to logical plans.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlan};
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use sqlparser::ast;
use sqlparser::tokenizer::{Location, Token};

use super::binder::Binder;
use super::clauses::Clauses;
use super::int4_literals::int4_literals;
use super::output_names::{name_outputs, visible_text};
use super::parser::fold;
use super::postgres_syntax::with_planner_syntax;
use super::scope::Scope;
use super::shared_types::{CHOOSING, with_shared_types};
use super::syntax::tokenize;
use crate::error::{Error, ErrorKind, Result, nearest};
use crate::functions::functions;
use crate::plan::coerced;

/// Calls that the planner knows by syntax and not by name.
const SYNTAX_FUNCTIONS: [&str; 5] = ["array", "map", "row", "struct", "unnest"];

/// Functions that cut a stream into windows.
const WINDOW_TABLES: [&str; 4] = ["tumble", "hop", "session", "cumulate"];

/// The types of `$1`, `$2`, …, as far as the plan tells them; `$1::int`, `LIMIT $1`,
/// `x = ANY($1)` and `coalesce(x, $1)` do.
///
/// # Errors
/// `InvalidSql` if a parameter is used with two types.
pub fn parameter_types(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>> {
    let mut types = BTreeMap::new();
    let told = told_types(plan)?;
    for (name, data_type) in plan.get_parameter_types()? {
        let data_type = told.get(&name).cloned().or(data_type);
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

/// Types of parameters by what stands around them.
fn told_types(plan: &LogicalPlan) -> Result<BTreeMap<String, DataType>> {
    let mut types = BTreeMap::new();
    let mut note = |expr: &Expr, data_type: &DataType| {
        if let Expr::Placeholder(placeholder) = expr {
            types.insert(placeholder.id.clone(), data_type.clone());
        }
    };
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for count in limit.skip.iter().chain(&limit.fetch) {
                note(count, &DataType::Int64);
            }
        }
        let schema = merge_schema(&node.inputs());
        let type_of = |expr: &Expr| expr.get_type(&schema).ok().filter(|it| !it.is_null());
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::Cast(cast) => note(&cast.expr, cast.field.data_type()),
                    // `x = ANY($1)`.
                    Expr::ScalarFunction(call) if call.func.name() == "array_has" => {
                        if let [list, item] = call.args.as_slice()
                            && let Some(item) = type_of(item)
                        {
                            note(list, &DataType::new_list(item, true));
                        }
                    }
                    Expr::ScalarFunction(call) if CHOOSING.contains(&call.func.name()) => {
                        if let Some(chosen) = call.args.iter().find_map(type_of) {
                            call.args.iter().for_each(|arg| note(arg, &chosen));
                        }
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(types)
}

/// The plan with the types that it has when it runs, so that what is described, stored and cast is
/// what is computed. With parameters, that is known when these have values.
///
/// # Errors
/// What the planner says of the types.
pub fn with_final_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = with_shared_types(plan)?;
    match plan.get_parameter_names()?.is_empty() {
        true => Ok(coerced(plan)?),
        false => Ok(plan),
    }
}

/// The plan of a text with the types that it has as far as they are known without the values of
/// parameters. Once these have their places, an integer may be one of them: then it keeps its type.
///
/// # Errors
/// What the planner says of the types.
pub(super) fn with_types_of_text(plan: LogicalPlan) -> Result<LogicalPlan> {
    with_final_types(int4_literals(plan)?)
}

impl Binder<'_> {
    /// Plans a query.
    pub(super) fn query(&self, query: &ast::Query) -> Result<LogicalPlan> {
        let statement = ast::Statement::Query(Box::new(self.checked(query)?));
        let plan = self.planned(|planner| planner.sql_statement_to_plan(statement))?;
        match plan {
            LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) => {
                Err(Error::unsupported("a query that writes is not supported")
                    .at(self.statement.offset + 1))
            }
            plan => with_types_of_text(plan),
        }
    }

    /// A query as the planner reads it, with calls and clauses that there are.
    pub(super) fn checked(&self, query: &ast::Query) -> Result<ast::Query> {
        let mut query = query.clone();
        name_outputs(&mut query);
        with_planner_syntax(&mut query);
        self.check_calls(&query)?;
        Ok(query)
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
        let error = Error { message: visible_text(&error.message), ..error };
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

    /// The place of the first name in the text that the message quotes. A table is looked for
    /// behind FROM, JOIN and the like first.
    fn place_of_name(&self, error: &Error) -> Option<Location> {
        let quoted = error.message.split('"').nth(1)?;
        let name = quoted.rsplit('.').next()?;
        let tokens = tokenize(&self.statement.text, 0).ok()?;
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

    /// Every function that is called must exist, and every clause must have a meaning.
    pub(super) fn check_calls(&self, statement: &impl ast::Visit) -> Result<()> {
        let checked = match statement.visit(&mut Calls { binder: self }) {
            ControlFlow::Continue(()) => statement.visit(&mut Clauses { places: self.places() }),
            broken @ ControlFlow::Break(_) => broken,
        };
        match checked {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }
}

/// Looks for calls of functions that do not exist.
struct Calls<'a> {
    binder: &'a Binder<'a>,
}

impl Calls<'_> {
    fn refuse(&self, what: &str, place: &impl ast::Spanned, hint: &str) -> ControlFlow<Box<Error>> {
        let error = Error::unsupported(format!("{what} is not supported"))
            .with_hint(hint)
            .at(self.binder.places().position(place.span().start));
        ControlFlow::Break(Box::new(error))
    }
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
        if let Some(compared) = compared_with_all(expr) {
            let hint = "use IN or NOT IN, or compare with (SELECT max(…) …) or min";
            return self.refuse(&format!("{compared} with a subquery"), expr, hint);
        }
        if let ast::Expr::Cast { data_type, .. } = expr
            && let ast::DataType::Timestamp(Some(0..6), _) = data_type
        {
            let hint = "use date_trunc('milliseconds', …) or date_trunc('second', …)";
            return self.refuse(&format!("a cast to {data_type}"), expr, hint);
        }
        if let ast::Expr::SimilarTo { .. } = expr {
            return self.refuse("SIMILAR TO", expr, "use LIKE, or ~ with a regular expression");
        }
        let ast::Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        let Some(ident) = call.name.0.last().and_then(|part| part.as_ident()) else {
            return ControlFlow::Continue(());
        };
        let name = fold(ident);
        if name == "generate_series" {
            return self.refuse("generate_series in an expression", expr, "put it into FROM");
        }
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

/// What a comparison with all or some rows of a subquery is called, unless it is `= ANY`: the
/// planner takes the others for something else.
fn compared_with_all(expr: &ast::Expr) -> Option<String> {
    let (op, word, right) = match expr {
        ast::Expr::AnyOp { compare_op, right, .. } => (compare_op, "ANY", right),
        ast::Expr::AllOp { compare_op, right, .. } => (compare_op, "ALL", right),
        _ => return None,
    };
    let mut right = right.as_ref();
    while let ast::Expr::Nested(inner) = right {
        right = inner;
    }
    let is_in = word == "ANY" && *op == ast::BinaryOperator::Eq;
    (matches!(right, ast::Expr::Subquery(_)) && !is_in).then(|| format!("{op} {word}"))
}

/// The name of a table as the planner wants it.
pub(super) fn reference(name: &str) -> TableReference {
    TableReference::bare(name.to_string())
}
