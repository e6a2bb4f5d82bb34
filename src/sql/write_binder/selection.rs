//! Syntax trees of SELECTs that a write is planned as.

use sqlparser::ast;

use super::super::syntax::parse_postgres;
use crate::error::{Error, Result};

pub(super) fn quoted(name: &str) -> ast::Ident {
    ast::Ident::with_quote('"', name)
}

/// `*`.
pub(super) fn everything() -> ast::SelectItem {
    ast::SelectItem::Wildcard(ast::WildcardAdditionalOptions::default())
}

pub(super) fn aliased(qualifier: &ast::Ident, name: &str) -> ast::SelectItem {
    let alias = quoted(&format!("new.{name}"));
    let expr = ast::Expr::CompoundIdentifier(vec![qualifier.clone(), quoted(name)]);
    ast::SelectItem::ExprWithAlias { expr, alias }
}

/// `SELECT items FROM from WHERE selection`.
pub(super) fn select(
    items: Vec<ast::SelectItem>,
    from: Vec<ast::TableWithJoins>,
    selection: Option<ast::Expr>,
) -> Result<ast::Query> {
    let ast::Statement::Query(mut query) = parse_postgres("SELECT 1")? else {
        return Err(Error::internal("SELECT 1 is not a query"));
    };
    let mut select = plain_select(*query.clone())?;
    select.projection = items;
    select.from = from;
    select.selection = selection;
    *query.body = ast::SetExpr::Select(Box::new(select));
    Ok(*query)
}

/// The SELECT that a query of [`select`] is.
pub(super) fn plain_select(query: ast::Query) -> Result<ast::Select> {
    match *query.body {
        ast::SetExpr::Select(select) => Ok(*select),
        _ => Err(Error::internal("a SELECT was rewritten to another query")),
    }
}
