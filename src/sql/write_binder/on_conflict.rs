//! ON CONFLICT: rows that INSERT proposes, and what becomes of those whose keys are in the table.
//!
//! ```text
//! proposed rows ─► beside the current row of the key ($again, excluded, t) ─► old row, new row
//! ```
//!
//! The session puts the two rows beside each other, since it finds current rows by key; what is
//! made of them is a plan over [`CONFLICTS`].

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::logical_expr::logical_plan::builder::LogicalTableSource;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, when};
use sqlparser::ast::{self, ConflictTarget, OnConflictAction};

use super::super::binder::{Binder, Proposal, Write, WriteKind};
use super::super::column_list::undefined_column;
use super::super::parser::fold;
use super::super::query_binder::with_types_of_text;
use super::assignment::{OLD, assigned, columns_from, typed_parameter};
use super::defaults::{default_of, is_default};
use crate::catalog::{Definition, Relation};
use crate::error::{Error, ErrorKind, Result};

/// The name of the relation of proposed rows beside current ones; no name of SQL.
pub const CONFLICTS: &str = "\0conflicts";

/// What the proposed row is called.
const EXCLUDED: &str = "excluded";

/// Columns of [`CONFLICTS`]: whether the same key is proposed again behind the row, the proposed
/// row, and the table's row of its key, which is NULL in all columns if there is none.
#[must_use]
pub fn conflicts_schema(table: &Relation) -> SchemaRef {
    let fields = table.schema.fields();
    let of = |row: &'static str, nullable: bool| {
        fields.iter().enumerate().map(move |(index, field)| {
            let nullable = nullable || field.is_nullable();
            Field::new(format!("{row}.{index}"), field.data_type().clone(), nullable)
        })
    };
    let again = std::iter::once(Field::new("again", DataType::Boolean, false));
    Arc::new(Schema::new(
        again.chain(of(EXCLUDED, false)).chain(of("current", true)).collect::<Vec<_>>(),
    ))
}

impl Binder<'_> {
    /// INSERT … ON CONFLICT of the rows that `proposed` gives.
    pub(super) fn merged(
        &self,
        on: &ast::OnConflict,
        proposed: LogicalPlan,
        table: Arc<Relation>,
        target: &TableReference,
    ) -> Result<Write> {
        let key = self.conflict_key(on, &table)?;
        let Some(key) = key.first() else {
            // Without a key nothing conflicts.
            let (kind, plan) = (WriteKind::Insert, proposed);
            return Ok(Write { kind, table, plan, proposal: None, is_joined: false });
        };
        if target.table() == EXCLUDED {
            let message = format!("table name \"{EXCLUDED}\" specified more than once");
            let hint = "give the table another name with AS";
            let error = Error::new(ErrorKind::DuplicateAlias, message).with_hint(hint);
            return Err(error.at(self.statement.offset + 1));
        }
        let updates = matches!(on.action, OnConflictAction::DoUpdate(_));
        let plan = self.conflicting(on, &table, target, *key)?;
        let proposal = Some(Proposal { plan: proposed, updates });
        Ok(Write { kind: WriteKind::Merge, table, plan, proposal, is_joined: false })
    }

    /// What becomes of proposed rows, as a plan over [`CONFLICTS`]: the old row, NULL for a row
    /// that is inserted, the new row, and whether the key is proposed again. `key` is a column that
    /// is NULL where there is no old row.
    fn conflicting(
        &self,
        on: &ast::OnConflict,
        table: &Relation,
        target: &TableReference,
        key: usize,
    ) -> Result<LogicalPlan> {
        let plan = self.conflicts(table, target)?;
        let plan = match &on.action {
            OnConflictAction::DoUpdate(ast::DoUpdate { selection: Some(condition), .. }) => {
                self.updating(plan, condition, current(target, table, key))?
            }
            _ => plan,
        };
        self.resolved(plan, &on.action, table, target, key)
    }

    /// The columns whose conflicts are meant: the primary key, or none if there is no key.
    fn conflict_key(&self, on: &ast::OnConflict, table: &Relation) -> Result<Vec<usize>> {
        let at = self.statement.offset + 1;
        let key = match table.definition.as_ref() {
            Definition::Table(table) => table.primary_key.clone(),
            _ => Vec::new(),
        };
        match &on.conflict_target {
            None if matches!(on.action, OnConflictAction::DoUpdate(_)) => {
                let message =
                    "ON CONFLICT DO UPDATE requires inference specification or constraint name";
                let hint = "for example, ON CONFLICT (column_name)";
                return Err(Error::new(ErrorKind::Syntax, message).with_hint(hint).at(at));
            }
            None => {}
            Some(ConflictTarget::OnConstraint(name)) => {
                let name = name.0.last().and_then(|part| part.as_ident()).map(fold);
                let name = name.unwrap_or_default();
                if key.is_empty() || name != format!("{}_pkey", table.name) {
                    let table = &table.name;
                    let message =
                        format!("constraint \"{name}\" for table \"{table}\" does not exist");
                    return Err(Error::new(ErrorKind::UndefinedObject, message).at(at));
                }
            }
            Some(ConflictTarget::Columns(columns)) => {
                let mut named = BTreeSet::new();
                for column in columns {
                    let name = fold(column);
                    let names = table.schema.fields().iter().map(|field| field.name().as_str());
                    let place = self.places().position(column.span.start);
                    let index = table.schema.index_of(&name);
                    named.insert(index.map_err(|_| undefined_column(&name, names).at(place))?);
                }
                if named != key.iter().copied().collect() || key.is_empty() {
                    let message = "there is no unique or exclusion constraint matching the ON \
                                   CONFLICT specification";
                    let hint = "name the columns of the primary key";
                    let error = Error::new(ErrorKind::InvalidColumnReference, message);
                    return Err(error.with_hint(hint).at(at));
                }
            }
        }
        Ok(key)
    }

    /// [`CONFLICTS`] with the names by which a statement calls its columns.
    fn conflicts(&self, table: &Relation, target: &TableReference) -> Result<LogicalPlan> {
        let source = Arc::new(LogicalTableSource::new(conflicts_schema(table)));
        let scan = LogicalPlanBuilder::scan(TableReference::bare(CONFLICTS), source, None)?;
        let excluded = TableReference::bare(EXCLUDED);
        let names = table.schema.fields().iter().map(|field| field.name());
        let names = names.clone().map(|it| (&excluded, it)).chain(names.map(|it| (target, it)));
        let columns = scan.schema().iter().map(|it| Expr::Column(Column::from(it)));
        let columns: Vec<Expr> = columns.collect();
        let again =
            columns[0].clone().alias_qualified(Some(TableReference::bare(CONFLICTS)), "again");
        let named = columns.into_iter().skip(1).zip(names);
        let named =
            named.map(|(column, (of, name))| column.alias_qualified(Some(of.clone()), name));
        let exprs: Vec<Expr> = std::iter::once(again).chain(named).collect();
        self.planned(|_| scan.project(exprs)?.build())
    }

    /// The rows that DO UPDATE inserts, which have no `old` row, and those that it updates.
    fn updating(&self, plan: LogicalPlan, condition: &ast::Expr, old: Expr) -> Result<LogicalPlan> {
        let row = columns_from(plan.schema(), 1..plan.schema().fields().len())?;
        let condition = self.planned_item(condition, &row, "WHERE")?;
        let plan = LogicalPlanBuilder::from(plan);
        self.planned(|_| plan.filter(old.is_null().or(condition))?.build())
    }

    /// Old row, new row and `again` of each row of [`CONFLICTS`].
    fn resolved(
        &self,
        plan: LogicalPlan,
        action: &OnConflictAction,
        table: &Relation,
        target: &TableReference,
        key: usize,
    ) -> Result<LogicalPlan> {
        let fields = table.schema.fields();
        let row = columns_from(plan.schema(), 1..plan.schema().fields().len())?;
        let assigned_to = match action {
            OnConflictAction::DoNothing => Vec::new(),
            OnConflictAction::DoUpdate(update) => {
                self.assignments(&update.assignments, table, &row)?
            }
        };
        let mut updated: Vec<Expr> =
            (0..fields.len()).map(|at| current(target, table, at)).collect();
        for (index, value) in assigned_to {
            updated[index] = value;
        }
        let excluded = TableReference::bare(EXCLUDED);
        let mut exprs = Vec::with_capacity(2 * fields.len() + 1);
        for (index, field) in fields.iter().enumerate() {
            let old = current(target, table, index);
            exprs.push(old.alias_qualified(Some(TableReference::bare(OLD)), field.name()));
        }
        for (index, (field, updated)) in fields.iter().zip(updated).enumerate() {
            let is_new = current(target, table, key).is_null();
            let new = when(is_new, current(&excluded, table, index)).otherwise(updated)?;
            exprs.push(new.alias_qualified(Some(target.clone()), field.name()));
        }
        exprs.push(Expr::Column(Column::from(plan.schema().qualified_field(0))));
        let plan = self.planned(|_| LogicalPlanBuilder::from(plan).project(exprs)?.build())?;
        with_types_of_text(plan)
    }

    /// The columns that SET names, and their values in the columns' types.
    fn assignments(
        &self,
        assignments: &[ast::Assignment],
        table: &Relation,
        row: &DFSchema,
    ) -> Result<Vec<(usize, Expr)>> {
        let set = self.set_columns(assignments, table)?;
        let values = set.into_iter().map(|(index, value)| {
            let value = match is_default(value) {
                true => default_of(table, index),
                false => self.planned_item(value, row, "UPDATE")?,
            };
            let field = &table.schema.fields()[index];
            Ok((index, assigned(typed_parameter(value, field), field, row)?))
        });
        values.collect()
    }
}

/// A column of the row that is called so.
fn current(of: &TableReference, table: &Relation, index: usize) -> Expr {
    Expr::Column(Column::new(Some(of.clone()), table.schema.field(index).name()))
}
