//! Names of the columns of a query.
//!
//! ```text
//! SELECT sum(a), sum(b), a::text ─name_outputs─► sum AS sum, sum AS sum‹2›, a::text AS a ─► plan
//!                                                              visible_names ─► sum, sum, a
//! ```
//!
//! PostgreSQL names a column after the expression: a column's or function's own name, the type of
//! a cast, or `?column?`. The names are given to every SELECT before it is planned, so that ORDER
//! BY and outer queries find them.
//!
//! **Invariant:** the columns of one SELECT have names of their own in the plan: of those that
//! PostgreSQL calls the same, all but the first have a hidden number at the end, which no client
//! and no catalog entry sees.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{self, SelectItem, VisitMut, VisitorMut};

use super::parser::fold;
use crate::error::Result;

/// Stands before the hidden number. PostgreSQL's names and texts cannot have it.
const HIDDEN: char = '\0';

/// PostgreSQL's name of a column that has no better one.
const NAMELESS: &str = "?column?";

/// Gives the columns of all SELECTs of a statement PostgreSQL's names.
pub(super) fn name_outputs(statement: &mut impl VisitMut) {
    // The visitor never breaks off.
    let _ = statement.visit(&mut NameOutputs);
}

struct NameOutputs;

impl VisitorMut for NameOutputs {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        let items = &mut select.projection;
        // The columns behind an asterisk are not known yet, but a column of the input is one.
        let has_wildcard = items.iter().any(is_wildcard);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for item in items {
            let (expr, name, is_planned) = match item {
                SelectItem::UnnamedExpr(expr) => (&*expr, name_of(expr), is_column(expr)),
                SelectItem::ExprWithAlias { expr, alias } => (&*expr, fold(alias), true),
                _ => continue,
            };
            let is_behind_wildcard = has_wildcard && is_column(expr);
            let count = counts.entry(name.clone()).or_insert(usize::from(is_behind_wildcard));
            *count += 1;
            let name = match *count {
                1 if is_planned => continue,
                1 => name,
                number => format!("{name}{HIDDEN}{number}"),
            };
            let (expr, alias) = (expr.clone(), ast::Ident::with_quote('"', name));
            *item = SelectItem::ExprWithAlias { expr, alias };
        }
        ControlFlow::Continue(())
    }

    /// The planner orders the rows of a SELECT DISTINCT by its columns alone.
    fn post_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        let ast::SetExpr::Select(select) = query.body.as_ref() else {
            return ControlFlow::Continue(());
        };
        let order = query.order_by.as_mut().filter(|_| select.distinct.is_some());
        if let Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(order), .. }) = order {
            for by in order {
                let column = select.projection.iter().find_map(|item| match item {
                    SelectItem::ExprWithAlias { expr, alias } if *expr == by.expr => Some(alias),
                    _ => None,
                });
                if let Some(column) = column {
                    by.expr = ast::Expr::Identifier(column.clone());
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn is_wildcard(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

/// The planner names a column as PostgreSQL does.
fn is_column(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_))
}

/// A column's name in a plan as PostgreSQL says it.
fn visible_name(name: &str) -> &str {
    name.split(HIDDEN).next().unwrap_or(name)
}

/// The columns of a query as clients see them; some may have the same name.
pub fn visible_columns(plan: &LogicalPlan) -> SchemaRef {
    let schema = plan.schema().inner();
    if schema.fields().iter().all(|field| !field.name().contains(HIDDEN)) {
        return Arc::clone(schema);
    }
    let visible = |field: &FieldRef| {
        let name = visible_name(field.name());
        Field::clone(field).with_name(name)
    };
    let fields: Vec<Field> = schema.fields().iter().map(visible).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// A text about a plan with names as clients see them.
pub fn visible_text(text: &str) -> String {
    let mut parts = text.split(HIDDEN);
    let first = parts.next().unwrap_or_default().to_string();
    let is_digit = |letter: char| letter.is_ascii_digit();
    parts.fold(first, |text, part| text + part.trim_start_matches(is_digit))
}

/// The names of a plan's columns as PostgreSQL says them; some may be the same.
pub(super) fn visible_names(plan: &LogicalPlan) -> Vec<String> {
    let fields = plan.schema().fields().iter();
    fields.map(|field| visible_name(field.name()).to_string()).collect()
}

/// The expressions of a SELECT's items that have names already, each under a name that no other
/// column has: with a hidden number.
pub(super) fn numbered(items: Vec<SelectItem>) -> Vec<(ast::Expr, String)> {
    let named = items.into_iter().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) => Some((name_of(&expr), expr)),
        SelectItem::ExprWithAlias { expr, alias } => Some((fold(&alias), expr)),
        _ => None,
    });
    let numbered = named.enumerate().map(|(at, (name, expr))| {
        let name = visible_name(&name);
        (expr, format!("{name}{HIDDEN}{}", at + 1))
    });
    numbered.collect()
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

/// PostgreSQL's name of a column of a SELECT.
fn name_of(expr: &ast::Expr) -> String {
    own_name(expr).map_or_else(|| NAMELESS.to_string(), |(name, _)| name)
}

/// How good a name is: what is around the expression may have a better one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strength {
    /// A type, or `case`.
    Weak,
    /// A column or function.
    Strong,
}

use Strength::{Strong, Weak};

/// The name that an expression gives its column, after PostgreSQL's `FigureColname`.
fn own_name(expr: &ast::Expr) -> Option<(String, Strength)> {
    use ast::Expr as Of;
    let strong = |name: &str| Some((name.to_string(), Strong));
    match expr {
        Of::Identifier(ident) => Some((fold(ident), Strong)),
        Of::CompoundIdentifier(parts) => Some((parts.last().map(fold)?, Strong)),
        Of::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                ast::AccessExpr::Dot(Of::Identifier(field)) => Some((fold(field), Strong)),
                _ => None,
            });
            field.or_else(|| own_name(root))
        }
        Of::Nested(inner) | Of::Collate { expr: inner, .. } => own_name(inner),
        Of::Function(call) => {
            Some((call.name.0.last().and_then(|part| part.as_ident()).map(fold)?, Strong))
        }
        Of::Extract { .. } => strong("extract"),
        Of::Substring { .. } => strong("substring"),
        Of::Overlay { .. } => strong("overlay"),
        Of::Position { .. } => strong("position"),
        Of::Floor { .. } => strong("floor"),
        Of::Ceil { .. } => strong("ceil"),
        Of::Trim { trim_where, .. } => strong(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        Of::AtTimeZone { .. } => strong("timezone"),
        Of::Array(_) => strong("array"),
        Of::Tuple(_) => strong("row"),
        Of::Exists { .. } => strong("exists"),
        Of::Subquery(query) => match first_select(&query.body)? {
            [SelectItem::UnnamedExpr(expr)] => own_name(expr),
            [SelectItem::ExprWithAlias { alias, .. }] => {
                Some((visible_name(&fold(alias)).to_string(), Strong))
            }
            _ => None,
        },
        Of::Case { else_result, .. } => {
            let last = else_result.as_ref().and_then(|last| own_name(last));
            Some(last.filter(is_strong).unwrap_or_else(|| ("case".to_string(), Weak)))
        }
        Of::Cast { expr, data_type, .. } => {
            let inner = own_name(expr).filter(is_strong);
            inner.or_else(|| Some((type_name(data_type)?, Weak)))
        }
        Of::TypedString(typed) => Some((type_name(&typed.data_type)?, Weak)),
        Of::Interval(_) => Some(("interval".to_string(), Weak)),
        Of::Value(value) if matches!(value.value, ast::Value::Boolean(_)) => {
            Some(("bool".to_string(), Weak))
        }
        _ => None,
    }
}

fn is_strong((_, strength): &(String, Strength)) -> bool {
    *strength == Strong
}

fn first_select(body: &ast::SetExpr) -> Option<&[SelectItem]> {
    match body {
        ast::SetExpr::Select(select) => Some(&select.projection),
        ast::SetExpr::Query(query) => first_select(&query.body),
        ast::SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

/// PostgreSQL's own name of a type.
fn type_name(data_type: &ast::DataType) -> Option<String> {
    use ast::DataType as Of;
    let name = match data_type {
        Of::SmallInt(_) | Of::Int2(_) => "int2",
        Of::Int(_) | Of::Integer(_) | Of::Int4(_) => "int4",
        Of::BigInt(_) | Of::Int8(_) => "int8",
        Of::Real | Of::Float4 | Of::Float(ast::ExactNumberInfo::Precision(0..=24)) => "float4",
        Of::Double(_) | Of::DoublePrecision | Of::Float8 | Of::Float(_) => "float8",
        Of::Numeric(_) | Of::Decimal(_) | Of::Dec(_) => "numeric",
        Of::Boolean | Of::Bool => "bool",
        Of::Text => "text",
        Of::Varchar(_) | Of::CharacterVarying(_) | Of::CharVarying(_) => "varchar",
        Of::Char(_) | Of::Character(_) => "bpchar",
        Of::Bytea => "bytea",
        Of::Date => "date",
        Of::Time(_, zone) if has_zone(zone) => "timetz",
        Of::Time(..) => "time",
        Of::Timestamp(_, zone) if has_zone(zone) => "timestamptz",
        Of::Timestamp(..) => "timestamp",
        Of::Interval { .. } => "interval",
        Of::Uuid => "uuid",
        Of::JSON => "json",
        Of::JSONB => "jsonb",
        Of::Array(
            ast::ArrayElemTypeDef::SquareBracket(inner, _)
            | ast::ArrayElemTypeDef::AngleBracket(inner)
            | ast::ArrayElemTypeDef::Parenthesis(inner),
        ) => return type_name(inner),
        Of::Custom(name, _) => return name.0.last().and_then(|part| part.as_ident()).map(fold),
        other => return Some(other.to_string().to_lowercase()),
    };
    Some(name.to_string())
}

fn has_zone(zone: &ast::TimezoneInfo) -> bool {
    matches!(zone, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::syntax::parse_expression;

    #[test]
    fn hidden_numbers_are_left_out_of_texts() {
        let text = format!("sum(a) AS sum{HIDDEN}12, sum(1)");
        assert_eq!(visible_text(&text), "sum(a) AS sum, sum(1)");
    }

    #[test]
    fn columns_are_named_as_in_postgresql() {
        for (text, name) in [
            ("a", "a"),
            ("T.\"B c\"", "B c"),
            ("-a", "?column?"),
            ("'x'", "?column?"),
            ("SUM(a)", "sum"),
            ("count(*)", "count"),
            ("a::text", "a"),
            ("1::bigint", "int8"),
            ("CAST('1' AS numeric(10, 2))", "numeric"),
            ("upper(a)::varchar(3)", "upper"),
            ("DATE '2026-01-01'", "date"),
            ("'2026-01-01'::timestamp with time zone", "timestamptz"),
            ("INTERVAL '1 day'", "interval"),
            ("true", "bool"),
            ("CASE WHEN a THEN 1 END", "case"),
            ("CASE WHEN a THEN 1 ELSE b END", "b"),
            ("(CASE WHEN a THEN 1 END)::int", "int4"),
            ("ARRAY[1]", "array"),
            ("a AT TIME ZONE 'UTC'", "timezone"),
            ("EXTRACT(year FROM a)", "extract"),
            ("trim(leading 'x' from a)", "ltrim"),
            ("trim(a)", "btrim"),
            ("EXISTS (SELECT 1)", "exists"),
            ("(SELECT max(a) FROM t)", "max"),
            ("(SELECT 1 AS one)", "one"),
            ("current_date", "current_date"),
            ("a IS NULL", "?column?"),
        ] {
            assert_eq!(name_of(&parse_expression(text).unwrap()), name, "{text}");
        }
    }
}
