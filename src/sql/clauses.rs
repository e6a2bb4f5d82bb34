//! [`Clauses`]: clauses that the parser knows and the planner would leave out without a word.
//!
//! Every syntax node with such clauses is taken apart field by field, without `..`: a field that a
//! new version of the parser adds does not compile until it is decided here.

use std::ops::ControlFlow;

use sqlparser::ast::{self, Spanned};
use sqlparser::tokenizer::Location;

use super::parser::fold;
use super::syntax::Places;
use crate::error::{Error, ErrorKind};
use crate::functions::functions;

/// Refuses them, with the code that PostgreSQL gives.
pub(super) struct Clauses<'a> {
    pub(super) places: Places<'a>,
}

type Checked = ControlFlow<Box<Error>>;

impl Clauses<'_> {
    fn refuse(&self, error: Error, place: Location) -> Checked {
        let error = match place.line {
            0 => error,
            _ => error.at(self.places.position(place)),
        };
        ControlFlow::Break(Box::new(error))
    }

    /// What PostgreSQL has no syntax for.
    fn foreign(&self, found: &[(bool, &str)], place: Location) -> Checked {
        match found.iter().find(|(is_there, _)| *is_there) {
            None => ControlFlow::Continue(()),
            Some((_, what)) => self.refuse(syntax(what), place),
        }
    }
}

/// INTERSECT ALL or EXCEPT ALL within a query's set operations: the planner takes them for joins,
/// which do not count how often a row is there.
fn operation_with_all(body: &ast::SetExpr) -> Option<&ast::SetOperator> {
    let mut pending = vec![body];
    while let Some(body) = pending.pop() {
        let ast::SetExpr::SetOperation { left, op, set_quantifier, right } = body else { continue };
        if *set_quantifier == ast::SetQuantifier::All && *op != ast::SetOperator::Union {
            return Some(op);
        }
        pending.extend([left.as_ref(), right.as_ref()]);
    }
    None
}

/// The error for a clause that PostgreSQL has no syntax for.
pub(super) fn syntax(what: &str) -> Error {
    Error::new(ErrorKind::Syntax, format!("syntax error: {what} is not part of PostgreSQL's SQL"))
}

impl ast::Visitor for Clauses<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &ast::Query) -> Checked {
        if let Some(op) = operation_with_all(&query.body) {
            let error = Error::unsupported(format!("{op} ALL is not supported"));
            let hint = format!("use {op}, or number equal rows with row_number() on both sides");
            return self.refuse(error.with_hint(hint), query.span().start);
        }
        let ast::Query {
            with: _,
            body: _,
            order_by: _,
            limit_clause,
            fetch: _,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if let Some(lock) = locks.first() {
            let error = Error::unsupported(format!("{lock} is not supported"));
            let hint = "leave it out: queries lock nothing";
            return self.refuse(error.with_hint(hint), query.span().start);
        }
        let is_by = match limit_clause {
            Some(ast::LimitClause::LimitOffset { limit: _, offset: _, limit_by }) => {
                !limit_by.is_empty()
            }
            Some(ast::LimitClause::OffsetCommaLimit { offset: _, limit: _ }) => true,
            None => false,
        };
        let found = [
            (is_by, "LIMIT with BY or a comma"),
            (for_clause.is_some(), "FOR XML, JSON and BROWSE"),
            (settings.is_some(), "SETTINGS"),
            (format_clause.is_some(), "FORMAT"),
            (!pipe_operators.is_empty(), "|>"),
        ];
        self.foreign(&found, query.span().start)
    }

    fn pre_visit_select(&mut self, select: &ast::Select) -> Checked {
        let ast::Select {
            select_token: _,
            // Hints are comments.
            optimizer_hints: _,
            distinct: _,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection: _,
            exclude,
            into,
            from: _,
            lateral_views,
            prewhere,
            selection: _,
            connect_by,
            group_by: _,
            cluster_by,
            distribute_by,
            sort_by,
            having: _,
            named_window: _,
            qualify: _,
            window_before_qualify: _,
            value_table_mode,
            flavor: _,
        } = select;
        if into.is_some() {
            let error = Error::unsupported("SELECT INTO is not supported")
                .with_hint("use CREATE TABLE … AS SELECT, or CREATE MATERIALIZED VIEW");
            return self.refuse(error, select.span().start);
        }
        let found = [
            (select_modifiers.is_some(), "a modifier of SELECT"),
            (top.is_some(), "TOP"),
            (exclude.is_some(), "EXCLUDE"),
            (!lateral_views.is_empty(), "LATERAL VIEW"),
            (prewhere.is_some(), "PREWHERE"),
            (!connect_by.is_empty(), "CONNECT BY"),
            (!cluster_by.is_empty(), "CLUSTER BY"),
            (!distribute_by.is_empty(), "DISTRIBUTE BY"),
            (!sort_by.is_empty(), "SORT BY"),
            (value_table_mode.is_some(), "SELECT AS STRUCT"),
        ];
        self.foreign(&found, select.span().start)
    }

    fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> Checked {
        let place = factor.span().start;
        let (ordinality, sample) = match factor {
            ast::TableFactor::Table {
                name: _,
                alias: _,
                args: _,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                let found = [
                    (!with_hints.is_empty(), "WITH (hint) of a table"),
                    (!partitions.is_empty(), "PARTITION of a table"),
                    (json_path.is_some(), "a JSON path behind a table"),
                    (!index_hints.is_empty(), "an index hint"),
                ];
                if let broken @ ControlFlow::Break(_) = self.foreign(&found, place) {
                    return broken;
                }
                if version.is_some() {
                    let error = Error::unsupported("reading a table as of a time is not supported");
                    return self.refuse(error, place);
                }
                (*with_ordinality, sample.is_some())
            }
            ast::TableFactor::Derived { lateral: _, subquery: _, alias: _, sample } => {
                (false, sample.is_some())
            }
            ast::TableFactor::Function {
                lateral: _,
                name: _,
                args: _,
                with_ordinality,
                alias: _,
            } => (*with_ordinality, false),
            ast::TableFactor::UNNEST {
                alias: _,
                array_exprs: _,
                with_offset,
                with_offset_alias: _,
                with_ordinality,
            } => {
                let found = [(*with_offset, "WITH OFFSET")];
                if let broken @ ControlFlow::Break(_) = self.foreign(&found, place) {
                    return broken;
                }
                (*with_ordinality, false)
            }
            _ => (false, false),
        };
        if ordinality {
            let error = Error::unsupported("WITH ORDINALITY is not supported");
            return self.refuse(error.with_hint("use row_number() OVER ()"), place);
        }
        if sample {
            let error = Error::unsupported("TABLESAMPLE is not supported");
            return self.refuse(error.with_hint("use WHERE with a condition on the key"), place);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> Checked {
        let ast::Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        let ast::Function {
            name,
            uses_odbc_syntax,
            parameters,
            args,
            filter,
            null_treatment,
            over,
            within_group,
        } = call;
        let place = expr.span().start;
        let found = [
            (*uses_odbc_syntax, "{fn …}"),
            (!matches!(parameters, ast::FunctionArguments::None), "parameters of a function"),
        ];
        if let broken @ ControlFlow::Break(_) = self.foreign(&found, place) {
            return broken;
        }
        let Some(name) = name.0.last().and_then(|part| part.as_ident()).map(fold) else {
            return ControlFlow::Continue(());
        };
        let known = functions();
        if known.scalar(&name).is_none()
            || known.aggregate(&name).is_some()
            || known.window(&name).is_some()
        {
            return ControlFlow::Continue(());
        }
        let (distinct, ordered) = match args {
            ast::FunctionArguments::List(ast::FunctionArgumentList {
                duplicate_treatment,
                args: _,
                clauses,
            }) => (
                *duplicate_treatment == Some(ast::DuplicateTreatment::Distinct),
                clauses.iter().any(|it| matches!(it, ast::FunctionArgumentClause::OrderBy(_))),
            ),
            ast::FunctionArguments::None | ast::FunctionArguments::Subquery(_) => (false, false),
        };
        let found = [
            (distinct, "DISTINCT"),
            (ordered, "ORDER BY"),
            (filter.is_some(), "FILTER"),
            (null_treatment.is_some(), "IGNORE NULLS"),
            (over.is_some(), "OVER"),
            (!within_group.is_empty(), "WITHIN GROUP"),
        ];
        match found.iter().find(|(is_there, _)| *is_there) {
            None => ControlFlow::Continue(()),
            Some((_, what)) => {
                let message =
                    format!("{what} specified, but \"{name}\" is not an aggregate function");
                self.refuse(Error::new(ErrorKind::WrongObjectType, message), place)
            }
        }
    }
}
