//! RETURNING: columns behind those that a write needs.
//!
//! ```text
//! UPDATE t SET a = a + 1 RETURNING id, a * 2  ─►  old row, new row, id, a * 2
//! ```

use arrow::datatypes::FieldRef;
use datafusion::common::tree_node::TreeNode as _;
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::logical_expr::expr_rewriter::normalize_col_with_schemas_and_ambiguity_check;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast::{self, SelectItem};

use super::super::binder::{Binder, Bound, Write, WriteKind};
use super::super::clauses::syntax;
use super::super::output_names::numbered;
use super::super::parser::fold;
use super::super::query_binder::with_types_of_text;
use super::assignment::columns_from;
use super::selection::{plain_select, quoted, select};
use crate::error::{Error, ErrorKind, Result};

impl Binder<'_> {
    /// Puts the columns of RETURNING behind those of a write, in the place of those of other
    /// tables. Its expressions see these and the new row, or the old one of DELETE.
    pub(super) fn with_returning(
        &self,
        write: Write,
        items: Option<&Vec<SelectItem>>,
    ) -> Result<Bound> {
        let all = write.plan.schema().fields().len();
        let used = write.kind.width(&write.table);
        if items.is_none() && all == used {
            return Ok(Bound::Write(Box::new(write)));
        }
        let width = write.table.schema.fields().len();
        let start = match write.kind {
            WriteKind::Insert | WriteKind::Delete => 0,
            WriteKind::Update | WriteKind::Merge => width,
        };
        let row = columns_from(write.plan.schema(), (start..start + width).chain(used..all))?;
        let mut expanded = Vec::new();
        for item in items.into_iter().flatten() {
            expanded.extend(self.expanded(item, &row)?);
        }
        let items = self.planned_items(expanded, &row, "RETURNING")?;
        let own = write.plan.schema().iter().take(used);
        let own = own.map(|it| Expr::Column(Column::from(it)));
        let items = items.into_iter().map(|(expr, name)| expr.alias(name));
        let exprs: Vec<Expr> = own.chain(items).collect();
        let plan = LogicalPlanBuilder::from(write.plan).project(exprs)?.build()?;
        let plan = with_types_of_text(plan)?;
        Ok(Bound::Write(Box::new(Write { plan, ..write })))
    }

    /// An item with the columns of the row in the place of an asterisk.
    fn expanded(&self, item: &SelectItem, row: &DFSchema) -> Result<Vec<SelectItem>> {
        let plain = ast::WildcardAdditionalOptions::default();
        match item {
            SelectItem::Wildcard(options) if *options == plain => {}
            SelectItem::QualifiedWildcard(
                ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) if *options == plain => {
                let last = name.0.last().and_then(|part| part.as_ident()).map(fold);
                let of = |(table, _): &(Option<&TableReference>, _)| {
                    last.is_some() && table.map(TableReference::table) == last.as_deref()
                };
                let columns = row.iter().filter(of).map(qualified).collect::<Vec<_>>();
                if columns.is_empty() {
                    let message = format!("missing FROM-clause entry for table \"{name}\"");
                    return Err(Error::new(ErrorKind::UndefinedTable, message)
                        .at(self.statement.offset + 1));
                }
                return Ok(columns);
            }
            SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } => {
                return Ok(vec![item.clone()]);
            }
            _ => return Err(syntax("an asterisk with options").at(self.statement.offset + 1)),
        }
        Ok(row.iter().map(qualified).collect())
    }

    /// Expressions over the columns of one row, and a name of its own for each. `clause` is what
    /// has them, for errors.
    fn planned_items(
        &self,
        items: Vec<SelectItem>,
        row: &DFSchema,
        clause: &str,
    ) -> Result<Vec<(Expr, String)>> {
        let query = self.checked(&select(items, Vec::new(), None)?)?;
        let items = numbered(plain_select(query)?.projection);
        let planned = items.into_iter().map(|(expr, name)| {
            let expr = self.planned(|planner| {
                let expr = planner.sql_to_expr(expr, row, &mut PlannerContext::new())?;
                normalize_col_with_schemas_and_ambiguity_check(expr, &[&[row]], &[])
            })?;
            self.check_of_one_row(&expr, clause)?;
            Ok((expr, name))
        });
        planned.collect()
    }

    /// An expression over the columns of one row.
    pub(super) fn planned_item(
        &self,
        item: &ast::Expr,
        row: &DFSchema,
        clause: &str,
    ) -> Result<Expr> {
        let item = SelectItem::UnnamedExpr(item.clone());
        let planned = self.planned_items(vec![item], row, clause)?;
        let lost = || Error::internal("an expression was planned to nothing");
        planned.into_iter().next().map(|(expr, _)| expr).ok_or_else(lost)
    }

    /// Refuses what needs several rows, or makes several of one.
    fn check_of_one_row(&self, expr: &Expr, clause: &str) -> Result<()> {
        let mut found = None;
        expr.exists(|part| {
            found = match part {
                Expr::AggregateFunction(_) => Some((ErrorKind::Grouping, "aggregate")),
                Expr::WindowFunction(_) => Some((ErrorKind::Windowing, "window")),
                Expr::Unnest(_) => Some((ErrorKind::Unsupported, "set-returning")),
                _ => None,
            };
            Ok(found.is_some())
        })?;
        match found {
            None => Ok(()),
            Some((kind, what)) => {
                let message = format!("{what} functions are not allowed in {clause}");
                Err(Error::new(kind, message).at(self.statement.offset + 1))
            }
        }
    }
}

/// A column as an item of SELECT, by its whole name.
fn qualified((table, field): (Option<&TableReference>, &FieldRef)) -> SelectItem {
    let parts = table.map(TableReference::to_vec).unwrap_or_default();
    let parts: Vec<_> = parts.iter().chain([field.name()]).map(|part| quoted(part)).collect();
    SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(parts))
}
