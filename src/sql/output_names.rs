//! Names of the columns of a query.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{self, VisitMut, VisitorMut};

use super::parser::fold;
use crate::error::Result;

/// Gives columns of a SELECT that would have one name, such as in `SELECT count(*), count(*)`,
/// names that differ, since the planner wants them so; in all SELECTs of a statement.
pub(super) fn tell_apart(statement: &mut impl VisitMut) {
    // The visitor never breaks off.
    let _ = statement.visit(&mut TellApart);
}

struct TellApart;

impl VisitorMut for TellApart {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        tell_apart_in(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn tell_apart_in(body: &mut ast::SetExpr) {
    let select = match body {
        ast::SetExpr::Select(select) => select,
        ast::SetExpr::SetOperation { left, right, .. } => {
            tell_apart_in(left);
            return tell_apart_in(right);
        }
        _ => return,
    };
    let mut seen = BTreeSet::new();
    for item in &mut select.projection {
        let (expr, name) = match item {
            ast::SelectItem::UnnamedExpr(expr) => (expr.clone(), planned_name(expr)),
            ast::SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), fold(alias)),
            _ => continue,
        };
        if seen.insert(name.clone()) {
            continue;
        }
        let mut other = (1..).map(|number| format!("{name}_{number}"));
        if let Some(name) = other.find(|name| seen.insert(name.clone())) {
            let alias = ast::Ident::with_quote('"', name);
            *item = ast::SelectItem::ExprWithAlias { expr, alias };
        }
    }
}

/// The name that the planner gives to an expression: a subquery's column keeps its name there.
fn planned_name(expr: &ast::Expr) -> String {
    match uncast(expr) {
        ast::Expr::Subquery(query) => match first_select(&query.body) {
            Some([ast::SelectItem::UnnamedExpr(expr)]) => planned_name(expr),
            Some([ast::SelectItem::ExprWithAlias { alias, .. }]) => fold(alias),
            _ => expr.to_string(),
        },
        expr => expr.to_string(),
    }
}

/// The expression that a cast takes its name from.
fn uncast(expr: &ast::Expr) -> &ast::Expr {
    match expr {
        ast::Expr::Cast { expr, .. } => uncast(expr),
        ast::Expr::Nested(inner) => uncast(inner),
        expr => expr,
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
            let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
            if field.name() == name { column } else { column.alias(name) }
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
            ast::SelectItem::ExprWithAlias { alias, .. } => names.push(fold(alias)),
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
