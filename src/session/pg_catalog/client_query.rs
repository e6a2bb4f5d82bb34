//! [`rewritten`]: a client's question about the catalog in words that DataFusion can plan.
//!
//! The rules look at syntax only and keep the meaning. They hold for any query, with what is known
//! of this catalog: some tables never have rows, some columns never a value.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{self, Expr, JoinOperator, SetExpr, TableFactor, Visit, VisitMut};

use crate::functions::functions;
use crate::sql::{fold, parse_expression, parse_postgres};

/// Tables of PostgreSQL for what is not here, such as policies and enums.
pub(super) const EMPTY_TABLES: &[&str] = &[
    "pg_attrdef",
    "pg_default_acl",
    "pg_enum",
    "pg_event_trigger",
    "pg_foreign_table",
    "pg_inherits",
    "pg_partitioned_table",
    "pg_policy",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_sequence",
    "pg_statistic_ext",
    "pg_subscription",
    "pg_trigger",
    "pg_user_mapping",
];

/// Columns of arrays that are NULL in every row.
const NULL_ARRAYS: &[&str] = &["evttags", "reloptions"];

/// Columns of `pg_type` that hold names of functions, where PostgreSQL has their ids.
const FUNCTION_NAMES: &[&str] = &["typinput", "typoutput", "typreceive", "typsend"];

/// An array without elements, of texts.
const NO_TEXTS: &str = "CAST(ARRAY[] AS TEXT[])";

/// The query in other words, or nothing if it can stay as it is.
pub(super) fn rewritten(text: &str) -> Option<String> {
    let mut statement = parse_postgres(text).ok()?;
    if !matches!(statement, ast::Statement::Query(_)) {
        return None;
    }
    let before = statement.clone();
    // The visitor never breaks off.
    let _ = VisitMut::visit(&mut statement, &mut Rewriter);
    (statement != before).then(|| statement.to_string())
}

struct Rewriter;

impl ast::VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        // EXISTS has no value in a projection, only in a filter.
        select.projection.iter_mut().try_for_each(|item| {
            ast::visit_expressions_mut(item, |expr| {
                if let Expr::Exists { subquery, negated } = expr
                    && let Some(counted) = counted(subquery, *negated)
                {
                    *expr = counted;
                }
                ControlFlow::Continue(())
            })
        })
    }

    fn post_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        // In parentheses: the next rules make NULL of a bare one.
        for item in &mut select.projection {
            let (ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }) =
                item
            else {
                continue;
            };
            if matches!(expr, Expr::Subquery(_)) {
                *expr = Expr::Nested(Box::new(expr.clone()));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        // Before what is within: of a query without rows nothing has to be planned.
        let nothing = match expr {
            Expr::Function(call) if last(&call.name).is_some_and(|name| name == "array") => {
                match &call.args {
                    ast::FunctionArguments::Subquery(query) if is_rowless(query) => NO_TEXTS,
                    _ => return ControlFlow::Continue(()),
                }
            }
            Expr::Subquery(query) if is_rowless(query) => "NULL",
            _ => return ControlFlow::Continue(()),
        };
        if let Some(nothing) = parsed(nothing) {
            *expr = nothing;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let new = match expr {
            Expr::Function(call) => function(call),
            Expr::Subquery(query) => scalar(query),
            Expr::CompoundIdentifier(parts) => table_id(parts),
            Expr::CompoundFieldAccess { root, access_chain } => field(root, access_chain),
            Expr::BinaryOp { left, op: ast::BinaryOperator::Eq, right } => {
                function_name(left, right).map(|name| equal(left, &name))
            }
            Expr::Like { pattern, escape_char, .. } => {
                escaped(pattern, escape_char);
                None
            }
            _ => None,
        };
        if let Some(new) = new {
            *expr = new;
        }
        ControlFlow::Continue(())
    }
}

fn parsed(text: &str) -> Option<Expr> {
    parse_expression(text)
}

fn last(name: &ast::ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(fold)
}

/// `ARRAY(query)`, and functions that give rows.
fn function(call: &ast::Function) -> Option<Expr> {
    let name = last(&call.name)?;
    match (name.as_str(), &call.args) {
        ("array", ast::FunctionArguments::Subquery(query)) => array(query),
        ("generate_subscripts", ast::FunctionArguments::List(list)) => {
            let array = list.args.first()?;
            let length = format!("CAST(array_length({array}) AS BIGINT)");
            parsed(&format!("unnest(generate_series(CAST(1 AS BIGINT), {length}))"))
        }
        ("_pg_expandarray", ast::FunctionArguments::List(list)) if call.name.0.len() > 1 => {
            let array = list.args.first()?;
            parsed(&format!("unnest(_pg_expandarray({array}))"))
        }
        _ => None,
    }
}

/// `ARRAY(query)` as an aggregate over the query.
fn array(query: &ast::Query) -> Option<Expr> {
    let aggregate = match aggregated(query, "array_agg") {
        Some(aggregate) => aggregate,
        None => format!("(SELECT array_agg(item) FROM ({query}) AS items(item))"),
    };
    parsed(&format!("coalesce({aggregate}, ARRAY[])"))
}

/// A subquery in the place of a value. One that looks at the row around it becomes an aggregate,
/// which DataFusion can take out of the row; the first of its rows counts.
fn scalar(query: &ast::Query) -> Option<Expr> {
    if !looks_around(query) {
        return None;
    }
    // In parentheses: the next rules drop a bare one.
    parsed(&format!("({})", aggregated(query, "first_value")?))
}

/// `EXISTS (query)` as a count.
fn counted(query: &ast::Query, negated: bool) -> Option<Expr> {
    let mut query = query.clone();
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let compare = if negated { "=" } else { ">" };
    select.projection = vec![ast::SelectItem::UnnamedExpr(parsed("count(*)")?)];
    parsed(&format!("(coalesce(({query}), 0) {compare} 0)"))
}

/// A query of one column with its values in one row: `SELECT aggregate(value ORDER BY …) FROM …`.
fn aggregated(query: &ast::Query, aggregate: &str) -> Option<String> {
    let one = match &query.limit_clause {
        None => true,
        Some(limit) => aggregate == "first_value" && limit.to_string().trim() == "LIMIT 1",
    };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let grouped =
        !matches!(&select.group_by, ast::GroupByExpr::Expressions(by, _) if by.is_empty());
    let plain = one && query.with.is_none() && query.fetch.is_none() && !grouped;
    if !plain || select.distinct.is_some() || select.having.is_some() || has_aggregate(select) {
        return None;
    }
    let [ast::SelectItem::UnnamedExpr(value) | ast::SelectItem::ExprWithAlias { expr: value, .. }] =
        select.projection.as_slice()
    else {
        return None;
    };
    let order = match &query.order_by {
        // A number stands for the one column.
        Some(order) if order.to_string() == "ORDER BY 1" => format!(" ORDER BY {value}"),
        Some(order) => format!(" {order}"),
        None => String::new(),
    };
    let mut query = query.clone();
    (query.order_by, query.limit_clause) = (None, None);
    let value = parsed(&format!("{aggregate}({value}{order})"))?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = vec![ast::SelectItem::UnnamedExpr(value)];
    }
    Some(format!("({query})"))
}

fn has_aggregate(select: &ast::Select) -> bool {
    let found = select.projection.iter().try_for_each(|item| {
        ast::visit_expressions(item, |expr| match expr {
            Expr::Function(call)
                if last(&call.name).is_some_and(|name| functions().aggregate(&name).is_some()) =>
            {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        })
    });
    found.is_break()
}

/// Whether a query gives no rows, because it joins with what never has rows.
fn is_rowless(query: &ast::Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let inner = |operator: &JoinOperator| {
        matches!(
            operator,
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_)
        )
    };
    let left = |operator: &JoinOperator| {
        inner(operator) || matches!(operator, JoinOperator::Left(_) | JoinOperator::LeftOuter(_))
    };
    let rowless = select.from.iter().any(|from| {
        from.joins.iter().all(|join| left(&join.join_operator))
            && (is_empty(&from.relation)
                || from
                    .joins
                    .iter()
                    .any(|join| inner(&join.join_operator) && is_empty(&join.relation)))
    });
    rowless && !has_aggregate(select)
}

fn is_empty(table: &TableFactor) -> bool {
    let is_null =
        |text: String| NULL_ARRAYS.iter().any(|column| text.rsplit('.').next() == Some(column));
    match table {
        TableFactor::Table { name, args: None, .. } => {
            last(name).is_some_and(|name| EMPTY_TABLES.contains(&name.as_str()))
        }
        TableFactor::Table { name, args: Some(args), .. } => {
            last(name).is_some_and(|name| name == "unnest")
                && args.args.first().is_some_and(|argument| is_null(argument.to_string()))
        }
        TableFactor::UNNEST { array_exprs, .. } => {
            array_exprs.first().is_some_and(|array| is_null(array.to_string()))
        }
        _ => false,
    }
}

/// Whether a query names a table that is not its own.
fn looks_around(query: &ast::Query) -> bool {
    let mut names = Names::default();
    // The visitor never breaks off.
    let _ = query.visit(&mut names);
    names.used.iter().any(|name| !names.own.contains(name))
}

/// The tables of a query, and those that its columns name.
#[derive(Default)]
struct Names {
    own: BTreeSet<String>,
    used: BTreeSet<String>,
}

impl ast::Visitor for Names {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        let name = match table {
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. }
            | TableFactor::Function { alias: Some(alias), .. } => Some(fold(&alias.name)),
            TableFactor::Table { name, .. } => last(name),
            _ => None,
        };
        self.own.extend(name);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let [.., table, _] = parts.as_slice()
        {
            self.used.insert(fold(table));
        }
        ControlFlow::Continue(())
    }
}

/// `table.tableoid` of a table of the catalog, which has no id here.
fn table_id(parts: &[ast::Ident]) -> Option<Expr> {
    let [.., _, column] = parts else { return None };
    (fold(column) == "tableoid").then(|| parsed("CAST(NULL AS INT)")).flatten()
}

/// `(record).field`.
fn field(root: &Expr, chain: &[ast::AccessExpr]) -> Option<Expr> {
    let Expr::Nested(record) = root else { return None };
    let [ast::AccessExpr::Dot(Expr::Identifier(field))] = chain else { return None };
    parsed(&format!("get_field({record}, '{}')", fold(field)))
}

/// The name in `column = 'name'::regproc` for a column of names.
fn function_name(left: &Expr, right: &Expr) -> Option<String> {
    let (Expr::Cast { expr, data_type, .. }, column) = (right, left.to_string()) else {
        return None;
    };
    let column = column.rsplit('.').next().unwrap_or_default();
    let to = data_type.to_string().to_lowercase();
    if !to.ends_with("regproc") || !FUNCTION_NAMES.contains(&column) {
        return None;
    }
    let Expr::Value(value) = expr.as_ref() else { return None };
    let name = value.value.clone().into_string()?;
    name.rsplit('.').next().map(str::to_string)
}

fn equal(left: &Expr, name: &str) -> Expr {
    let name = ast::Value::SingleQuotedString(name.to_string());
    Expr::BinaryOp {
        left: Box::new(left.clone()),
        op: ast::BinaryOperator::Eq,
        right: Box::new(Expr::Value(name.with_empty_span())),
    }
}

/// `LIKE pattern ESCAPE '/'` with the pattern escaped by backslashes.
fn escaped(pattern: &mut Expr, escape: &mut Option<ast::ValueWithSpan>) {
    let Some(value) = escape else { return };
    if value.value.clone().into_string().is_some_and(|escape| escape == "\\") {
        return;
    }
    if let Some(new) = parsed(&format!("like_escape({pattern}, {value})")) {
        *pattern = new;
        *escape = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str) -> String {
        rewritten(text).unwrap_or_else(|| "as it is".to_string())
    }

    #[test]
    fn arrays_of_queries_are_aggregates() {
        assert_eq!(
            changed("SELECT ARRAY(SELECT b.x FROM b WHERE b.y = c.y ORDER BY 1) FROM c"),
            "SELECT coalesce((SELECT array_agg(b.x ORDER BY b.x) FROM b WHERE b.y = c.y), ARRAY[]) \
             FROM c"
        );
        assert_eq!(
            changed("SELECT ARRAY(SELECT DISTINCT x FROM b)"),
            "SELECT coalesce((SELECT array_agg(item) FROM (SELECT DISTINCT x FROM b) AS \
             items (item)), ARRAY[])"
        );
        assert_eq!(
            changed("SELECT ARRAY(SELECT e.enumlabel FROM pg_catalog.pg_enum e) FROM c"),
            "SELECT CAST(ARRAY[] AS TEXT[]) FROM c"
        );
    }

    #[test]
    fn a_subquery_that_looks_around_is_an_aggregate() {
        assert_eq!(
            changed("SELECT 1 FROM t WHERE (SELECT c.k = 'c' FROM c WHERE c.oid = t.oid)"),
            "SELECT 1 FROM t WHERE ((SELECT first_value(c.k = 'c') FROM c WHERE c.oid = t.oid))"
        );
        assert_eq!(changed("SELECT 1 FROM t WHERE (SELECT c.k FROM c) > 0"), "as it is");
        assert_eq!(
            changed("SELECT 1 FROM t WHERE (SELECT count(*) FROM c WHERE c.oid = t.oid) > 0"),
            "as it is"
        );
        assert_eq!(
            changed("SELECT (SELECT d.x FROM pg_attrdef d WHERE d.y = a.y) FROM a"),
            "SELECT NULL FROM a"
        );
    }

    #[test]
    fn exists_counts_in_a_projection_only() {
        assert_eq!(
            changed("SELECT NOT a AND EXISTS (SELECT 1 FROM b WHERE b.x = a.x) AS c FROM a"),
            "SELECT NOT a AND (coalesce((SELECT count(*) FROM b WHERE b.x = a.x), 0) > 0) AS c \
             FROM a"
        );
        assert_eq!(changed("SELECT 1 FROM a WHERE EXISTS (SELECT 1 FROM b)"), "as it is");
    }

    #[test]
    fn patterns_and_records_are_functions() {
        assert_eq!(
            changed("SELECT 1 FROM a WHERE b NOT LIKE 'pg/_' || '%' ESCAPE '/'"),
            "SELECT 1 FROM a WHERE b NOT LIKE like_escape('pg/_' || '%', '/')"
        );
        assert_eq!(
            changed("SELECT (information_schema._pg_expandarray(k)).n FROM a"),
            "SELECT get_field(unnest(_pg_expandarray(k)), 'n') FROM a"
        );
        assert_eq!(
            changed("SELECT typinput = 'pg_catalog.array_in'::regproc FROM pg_type"),
            "SELECT typinput = 'array_in' FROM pg_type"
        );
    }
}
