//! Values that come beside a statement's text: arguments of EXECUTE, rows of COPY FROM.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast;

use super::assignment::assigned;
use super::{plain_values, whole_rows};
use crate::catalog::{Catalog, Relation};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::on_large_stack;
use crate::sql::binder::Binder;
use crate::sql::query_binder::with_final_types;
use crate::sql::scope::{NoExtraTables, Scope};
use crate::sql::statement::{CopyIn, Execute, Statement, StatementKind};
use crate::types::TypeForms;

/// The values of EXECUTE for the parameters of a statement: a row, cast as INSERT casts what it
/// writes, so that a quoted literal reads alike.
///
/// # Errors
/// `Syntax` for another number of values; what the values say.
pub fn bind_arguments(
    catalog: &Catalog,
    execute: &Execute,
    params: &[FieldRef],
) -> Result<Option<LogicalPlan>> {
    let list = execute.values.as_deref().and_then(|statement| match &statement.kind {
        StatementKind::Query(query) => Some((statement, query, plain_values(query)?)),
        _ => None,
    });
    let given = list.as_ref().and_then(|(.., list)| list.rows.first());
    let given = given.map_or(0, |row| row.content.len());
    let is_row = match &list {
        Some((.., list)) => list.rows.len() == 1 && given > 0,
        None => execute.values.is_none(),
    };
    if given != params.len() || !is_row {
        let name = &execute.name;
        let message = format!("wrong number of parameters for prepared statement \"{name}\"");
        let detail = format!("Expected {} parameters but got {given}.", params.len());
        return Err(Error::new(ErrorKind::Syntax, message).with_detail(detail));
    }
    let Some((statement, query, _)) = list else { return Ok(None) };
    let scope = Scope::new(catalog, &NoExtraTables, TypeForms::Own);
    on_large_stack(|| Binder { catalog, scope, statement }.row(query, params)).map(Some)
}

/// The table that COPY writes and the columns that its rows have.
///
/// # Errors
/// As those of INSERT.
pub fn bind_load(
    catalog: &Catalog,
    statement: &Statement,
    copy: &CopyIn,
) -> Result<(Arc<Relation>, Vec<usize>)> {
    let binder =
        Binder { catalog, scope: Scope::new(catalog, &NoExtraTables, TypeForms::Own), statement };
    let table = binder.writable(&copy.table, false)?;
    let targets = match copy.columns.as_slice() {
        [] => (0..table.schema.fields().len()).collect(),
        names => binder.named_columns(names, &table)?,
    };
    Ok((table, targets))
}

/// Rows with all columns of a table, of its types, from rows with the columns `targets`.
///
/// # Errors
/// `DatatypeMismatch`.
pub fn loaded_rows(rows: LogicalPlan, targets: &[usize], table: &Relation) -> Result<LogicalPlan> {
    whole_rows(rows, targets, table, None)
}

impl Binder<'_> {
    /// A list of values, cast to the types of columns.
    fn row(&self, source: &ast::Query, columns: &[FieldRef]) -> Result<LogicalPlan> {
        let source = self.checked(source)?;
        let row = plain_values(&source).and_then(|values| values.rows.first());
        let Some(row) = row else {
            return Err(Error::internal("VALUES was rewritten to another query"));
        };
        let none = DFSchema::empty();
        let exprs = row.content.iter().zip(columns).map(|(value, column)| {
            Ok(assigned(self.constant(value)?, column, &none)?.alias(column.name()))
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        with_final_types(LogicalPlanBuilder::empty(true).project(exprs)?.build()?)
    }
}
