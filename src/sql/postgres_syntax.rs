//! [`with_planner_syntax`]: PostgreSQL's syntax that the planner takes for something else.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalUnit};
use sqlparser::ast::{self, CharacterLength, JoinOperator, TableFactor, VisitMut};

use super::parser::fold;
use crate::functions::read_texts;

const SERIES: &str = "generate_series";

/// Rewrites what the planner takes for something else:
///
/// | text | what the planner reads |
/// |---|---|
/// | `generate_series(…)` in a FROM | the same with the table's name for its column |
/// | `at AT TIME ZONE 'Europe/Berlin'` | `timezone('Europe/Berlin', at)` |
/// | `x::varchar(5)`, `x::char(5)` | `left(x::varchar, 5)` |
/// | `WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL …)` | the same with `SELECT 1 AS n` |
/// | `1.5e3`, `1e200` | `1500::numeric(4,0)`, `'1e200'::double precision` |
/// | `INTERVAL '1 month - 1 day'`, `INTERVAL '1' DAY` | `'1 month - 1 day'::interval`, … |
/// | `OFFSET 2 ROWS FETCH NEXT 3 ROWS ONLY` | `LIMIT 3 OFFSET 2` |
/// | `a JOIN b USING (id) WHERE id = 1` | `a JOIN b USING (id) WHERE b.id = 1` |
pub fn with_planner_syntax(statement: &mut impl VisitMut) {
    // The visitor never breaks off.
    let _ = statement.visit(&mut Rewriter);
}

struct Rewriter;

impl ast::VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        if let Some(with) = query.with.as_mut().filter(|with| with.recursive) {
            with.cte_tables.iter_mut().for_each(name_recursive);
        }
        limit_fetched(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, alias, args: Some(_), .. } = table else {
            return ControlFlow::Continue(());
        };
        let function = name.0.last().and_then(|part| part.as_ident()).map(fold);
        if function.is_some_and(|function| function == SERIES) {
            let alias = alias.get_or_insert_with(|| ast::TableAlias {
                explicit: true,
                name: ast::Ident::new(SERIES),
                columns: Vec::new(),
                at: None,
            });
            if alias.columns.is_empty() {
                let column = alias.name.clone();
                alias.columns.push(ast::TableAliasColumnDef { name: column, data_type: None });
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        let columns = select.from.iter().flat_map(shared_columns).collect();
        match &mut select.selection {
            Some(condition) => condition.visit(&mut Qualifier { columns, depth: 0 }),
            None => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        match expr {
            ast::Expr::AtTimeZone { timestamp, time_zone } => {
                let args = [time_zone.as_ref().clone(), timestamp.as_ref().clone()];
                *expr = call("timezone", args);
            }
            ast::Expr::Cast { data_type, .. } => {
                if let Some(length) = length(data_type) {
                    *data_type = ast::DataType::Varchar(None);
                    *expr = call("left", [expr.clone(), number(length.to_string())]);
                }
            }
            ast::Expr::Interval(interval) => {
                if let Some(text) = interval_text(interval).filter(|text| !is_planners(text)) {
                    let fields = ast::DataType::Interval { fields: None, precision: None };
                    *expr = cast_text(text, fields);
                }
            }
            ast::Expr::Value(value) => {
                if let ast::Value::Number(text, _) = &value.value
                    && let Some((digits, power)) = text.split_once(['e', 'E'])
                {
                    *expr = scientific(text, digits, power);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`.
fn limit_fetched(query: &mut ast::Query) {
    let plain = |fetch: &mut ast::Fetch| !fetch.with_ties && !fetch.percent;
    let Some(fetch) = query.fetch.take_if(plain) else { return };
    let rows = fetch.quantity.unwrap_or_else(|| number("1".to_string()));
    let none = ast::LimitClause::LimitOffset { limit: None, offset: None, limit_by: Vec::new() };
    if let ast::LimitClause::LimitOffset { limit, .. } = query.limit_clause.get_or_insert(none) {
        limit.get_or_insert(rows);
    }
}

/// Names the columns of a recursive query in its first part, where the others look for them.
fn name_recursive(table: &mut ast::Cte) {
    let mut body = table.query.body.as_mut();
    while let ast::SetExpr::SetOperation { left, .. } = body {
        body = left;
    }
    let ast::SetExpr::Select(first) = body else { return };
    for (item, column) in first.projection.iter_mut().zip(&table.alias.columns) {
        let alias = column.name.clone();
        *item = match item.clone() {
            ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } => {
                ast::SelectItem::ExprWithAlias { expr, alias }
            }
            other => other,
        };
    }
}

/// `digits` times ten to the `power`: a numeric if it fits one, else a float. It is no integer, so
/// that `1e3 / 7` is no division of integers.
fn scientific(text: &str, digits: &str, power: &str) -> ast::Expr {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let place = power.parse::<i64>().ok().and_then(|power| power.checked_add(whole.len() as i64));
    let plain = match place {
        Some(place @ -38..=0) => Some(format!("0.{}{all}", "0".repeat(-place as usize))),
        Some(place @ 1..=38) => {
            let place = place as usize;
            let padded = format!("{all:0<place$}");
            let (whole, fraction) = padded.split_at(place);
            Some(if fraction.is_empty() { padded } else { format!("{whole}.{fraction}") })
        }
        _ => None,
    };
    let (value, data_type) = match plain.filter(|plain| plain.len() <= 39) {
        Some(plain) if plain.contains('.') => return number(plain),
        Some(plain) => {
            let digits = u64::try_from(plain.len()).unwrap_or(u64::MAX);
            let exact = ast::ExactNumberInfo::PrecisionAndScale(digits, 0);
            (ast::Value::Number(plain, false), ast::DataType::Numeric(exact))
        }
        None => (ast::Value::SingleQuotedString(text.to_string()), ast::DataType::DoublePrecision),
    };
    ast::Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(ast::Expr::Value(value.into())),
        data_type,
        array: false,
        format: None,
    }
}

/// The whole text of an interval that is a constant of one unit or of those in its text.
fn interval_text(interval: &ast::Interval) -> Option<String> {
    use ast::DateTimeField as Unit;
    let ast::Interval {
        value,
        leading_field,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    } = interval
    else {
        return None;
    };
    let ast::Expr::Value(value) = value.as_ref() else { return None };
    let ast::Value::SingleQuotedString(text) = &value.value else { return None };
    match leading_field {
        None => Some(text.clone()),
        Some(
            unit
            @ (Unit::Year | Unit::Month | Unit::Day | Unit::Hour | Unit::Minute | Unit::Second),
        ) if text.trim().parse::<f64>().is_ok() => Some(format!("{text} {unit}")),
        Some(_) => None,
    }
}

/// Whether the planner reads an interval as we do; then it is a constant of the plan by that name.
fn is_planners(text: &str) -> bool {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    let (ours, theirs) = (read_texts(&texts, &interval), cast(&texts, &interval));
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => theirs.null_count() == 0 && *ours == *theirs,
        _ => false,
    }
}

fn cast_text(text: String, data_type: ast::DataType) -> ast::Expr {
    ast::Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(ast::Expr::Value(ast::Value::SingleQuotedString(text).into())),
        data_type,
        array: false,
        format: None,
    }
}

/// The columns that joins share by USING, and the table that has each of their values.
fn shared_columns(from: &ast::TableWithJoins) -> Vec<(String, ast::Ident)> {
    let mut shared = Vec::new();
    for join in &from.joins {
        let (constraint, table) = match &join.join_operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint) => (constraint, &join.relation),
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                (constraint, &from.relation)
            }
            _ => continue,
        };
        if let (ast::JoinConstraint::Using(names), Some(table)) = (constraint, name_of(table)) {
            let columns = names.iter().filter_map(|name| name.0.last()?.as_ident());
            shared.extend(columns.map(|column| (fold(column), table.clone())));
        }
    }
    shared
}

/// The name by which a query calls a table.
fn name_of(table: &TableFactor) -> Option<ast::Ident> {
    match table {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. } => Some(alias.name.clone()),
        TableFactor::Table { name, .. } => name.0.last()?.as_ident().cloned(),
        _ => None,
    }
}

/// Puts the table's name before shared columns, but for those of subqueries.
struct Qualifier {
    columns: BTreeMap<String, ast::Ident>,
    depth: usize,
}

impl ast::VisitorMut for Qualifier {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::Identifier(column) = expr
            && self.depth == 0
            && let Some(table) = self.columns.get(&fold(column))
        {
            *expr = ast::Expr::CompoundIdentifier(vec![table.clone(), column.clone()]);
        }
        ControlFlow::Continue(())
    }
}

/// The most letters that a type holds, if it says so.
pub(super) fn length(data_type: &ast::DataType) -> Option<u64> {
    use ast::DataType as Type;
    let length = match data_type {
        Type::Char(None) | Type::Character(None) => return Some(1),
        Type::Varchar(length)
        | Type::CharacterVarying(length)
        | Type::CharVarying(length)
        | Type::Char(length)
        | Type::Character(length) => length,
        _ => return None,
    };
    match length {
        Some(CharacterLength::IntegerLength { length, .. }) => Some(*length),
        _ => None,
    }
}

fn number(digits: String) -> ast::Expr {
    ast::Expr::Value(ast::Value::Number(digits, false).into())
}

fn call(name: &str, args: [ast::Expr; 2]) -> ast::Expr {
    let args = args.map(|arg| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(arg)));
    let args = ast::FunctionArgumentList {
        duplicate_treatment: None,
        args: args.to_vec(),
        clauses: Vec::new(),
    };
    ast::Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(args),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_an_exponent_are_written_out() {
        let read = |text: &str| {
            let (digits, power) = text.split_once('e').unwrap();
            scientific(text, digits, power).to_string()
        };
        assert_eq!(read("1e10"), "CAST(10000000000 AS NUMERIC(11,0))");
        assert_eq!(read("1.5e3"), "CAST(1500 AS NUMERIC(4,0))");
        assert_eq!(read("1.25e1"), "12.5");
        assert_eq!(read("12.5e-3"), "0.0125");
        assert_eq!(read(".5e-1"), "0.05");
        assert_eq!(read("1e+2"), "CAST(100 AS NUMERIC(3,0))");
        assert_eq!(read("1e200"), "CAST('1e200' AS DOUBLE PRECISION)");
        assert_eq!(read("1e-200"), "CAST('1e-200' AS DOUBLE PRECISION)");
    }
}
