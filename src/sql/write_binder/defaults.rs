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
use crate::catalog::{ColumnDef, Definition, Relation, columns_schema};
use crate::error::{Error, ErrorKind, Result};

impl Binder<'_> {
    /// Binds the DEFAULT expressions of a list of columns.
    pub(in crate::sql) fn bind_defaults(
        &self,
        list: &ColumnList,
        columns: &mut [ColumnDef],
        connected: bool,
    ) -> Result<()> {
        let schema = columns_schema(columns);
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
    let default = match table.definition.as_ref() {
        Definition::Table(table) => table.columns.get(index).and_then(|it| it.default.clone()),
        _ => None,
    };
    default.unwrap_or(Expr::Literal(ScalarValue::Null, None))
}

/// The keyword DEFAULT in the place of a value.
pub(super) fn is_default(value: &ast::Expr) -> bool {
    matches!(value, ast::Expr::Identifier(ident)
        if ident.quote_style.is_none() && fold(ident) == "default")
}
