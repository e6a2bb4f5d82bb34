//! DEFAULT: values of columns that a statement leaves out.

use datafusion::common::tree_node::TreeNode as _;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;
use sqlparser::ast;

use super::super::binder::Binder;
use super::super::column_list::defaults;
use super::super::parser::fold;
use super::super::statement::ColumnList;
use super::assignment::assigned;
use crate::catalog::{ColumnDef, Definition, IdentityColumn, Relation, columns_schema};
use crate::error::{Error, ErrorKind, Result};
use crate::functions::next_numbers;

impl Binder<'_> {
    /// Binds the DEFAULT expressions of a list of columns.
    pub(in crate::sql) fn bind_defaults(
        &self,
        list: &ColumnList,
        columns: &mut [ColumnDef],
        connected: bool,
    ) -> Result<()> {
        let schema = columns_schema(columns);
        let identity = columns.iter().position(|column| column.identity.is_some());
        if let Some(index) = identity.filter(|_| connected) {
            let position = self.places().position(list.columns[index].name.span.start);
            let message = "an identity column that a connector fills is not supported";
            return Err(Error::unsupported(message).at(position));
        }
        for (index, value) in defaults(list, self.places())? {
            let position = self.places().position(list.columns[index].name.span.start);
            if connected {
                let message = "DEFAULT of a column that a connector fills is not supported";
                return Err(Error::unsupported(message).at(position));
            }
            let value = self.default_value(value).map_err(|error| match error.position {
                None => error.at(position),
                Some(_) => error,
            })?;
            let field = &schema.fields()[index];
            columns[index].default = Some(assigned(value, field, &DFSchema::empty())?);
        }
        Ok(())
    }

    /// Refuses values of INSERT for columns that take their own numbers alone. `values` is the
    /// VALUES list that all rows are from, if there is one.
    pub(super) fn refuse_given(
        &self,
        values: Option<&ast::Values>,
        targets: &[usize],
        table: &Relation,
    ) -> Result<()> {
        let is_value = |row: &ast::Parens<Vec<ast::Expr>>, at: usize| {
            row.content.get(at).is_some_and(|value| !is_default(value))
        };
        let is_given =
            |at: usize| values.is_none_or(|values| values.rows.iter().any(|row| is_value(row, at)));
        let mut targets = targets.iter().enumerate();
        match targets.find(|(at, index)| is_always(table, **index) && is_given(*at)) {
            None => Ok(()),
            Some((_, index)) => {
                let error = generated_always(table, *index, false);
                Err(error.at(self.statement.offset + 1))
            }
        }
    }

    /// An expression that needs no row and no table.
    fn default_value(&self, value: &ast::Expr) -> Result<Expr> {
        let planned = self.planned_item(value, &DFSchema::empty(), "DEFAULT expressions");
        let value = planned.map_err(|error| match error.kind {
            ErrorKind::UndefinedColumn => {
                let message = "cannot use column reference in DEFAULT expression";
                Error { message: message.to_string(), kind: ErrorKind::Unsupported, ..error }
            }
            _ => error,
        })?;
        let mut wrong = None;
        value.exists(|part| {
            wrong = match part {
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => {
                    let message = "cannot use subquery in DEFAULT expression";
                    Some(Error::unsupported(message))
                }
                Expr::Placeholder(parameter) => {
                    let message = format!("there is no parameter {}", parameter.id);
                    Some(Error::new(ErrorKind::UndefinedParameter, message))
                }
                _ => None,
            };
            Ok(wrong.is_some())
        })?;
        wrong.map_or(Ok(value), Err)
    }
}

/// What a column gets that a statement leaves out, or sets to DEFAULT.
pub(super) fn default_of(table: &Relation, index: usize) -> Expr {
    let default = match column_def(table, index) {
        Some(column) if column.identity.is_some() => Some(next_numbers(table.id.0, index)),
        column => column.and_then(|column| column.default.clone()),
    };
    default.unwrap_or(Expr::Literal(ScalarValue::Null, None))
}

fn column_def(table: &Relation, index: usize) -> Option<&ColumnDef> {
    match table.definition.as_ref() {
        Definition::Table(table) => table.columns.get(index),
        _ => None,
    }
}

/// Whether a column takes no values but its own numbers.
pub(super) fn is_always(table: &Relation, index: usize) -> bool {
    column_def(table, index).is_some_and(|it| it.identity == Some(IdentityColumn::Always))
}

/// The error for a value of a column that is `GENERATED ALWAYS`.
pub(super) fn generated_always(table: &Relation, index: usize, is_update: bool) -> Error {
    let name = table.schema.field(index).name();
    let message = match is_update {
        true => format!("column \"{name}\" can only be updated to DEFAULT"),
        false => format!("cannot insert a non-DEFAULT value into column \"{name}\""),
    };
    Error::new(ErrorKind::GeneratedAlways, message)
        .with_detail(format!("column \"{name}\" is an identity column defined as GENERATED ALWAYS"))
}

/// The keyword DEFAULT in the place of a value.
pub(super) fn is_default(value: &ast::Expr) -> bool {
    matches!(value, ast::Expr::Identifier(ident)
        if ident.quote_style.is_none() && fold(ident) == "default")
}
