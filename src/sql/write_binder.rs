//! INSERT, UPDATE and DELETE.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast;

use super::binder::{Binder, Bound, Write, WriteKind};
use super::clauses::syntax;
use super::column_list::undefined_column;
use super::parser::{check_place, fold};
use super::query_binder::{reference, with_types_of_text};
use super::scope::relation_source;
use super::statement::{Name, Truncate};
use crate::catalog::{COUNTERS, Definition, Relation};
use crate::error::{Error, ErrorKind, Result};
use crate::functions::literal;

mod assignment;
mod defaults;
pub(super) mod loads;
mod on_conflict;
mod returning;
mod selection;

pub use on_conflict::{CONFLICTS, conflicts_schema};

use assignment::{OLD, assigned, set_twice, typed_parameter, with_typed_parameters};
use defaults::{default_of, generated_always, is_always, is_default};
use selection::{aliased, everything, quoted, select};

impl Binder<'_> {
    pub(super) fn insert(&self, insert: &ast::Insert) -> Result<Bound> {
        let ast::TableObject::TableName(name) = &insert.table else {
            return Err(Error::unsupported("INSERT INTO a function is not supported"));
        };
        let target = match &insert.table_alias {
            Some(alias) => TableReference::bare(fold(&alias.alias)),
            None => reference_of(name),
        };
        let table = self.writable(name, false)?;
        self.check_insert(insert)?;
        let plan = self.inserted(&insert.columns, insert.source.as_deref(), &table, &target)?;
        let write = match &insert.on {
            None => {
                let kind = WriteKind::Insert;
                Write { kind, table, plan, proposal: None, is_joined: false }
            }
            Some(ast::OnInsert::OnConflict(on)) => self.merged(on, plan, table, &target)?,
            Some(_) => return Err(syntax("ON DUPLICATE KEY").at(self.statement.offset + 1)),
        };
        self.with_returning(write, insert.returning.as_ref())
    }

    /// Refuses clauses of INSERT that PostgreSQL does not have.
    fn check_insert(&self, insert: &ast::Insert) -> Result<()> {
        let ast::Insert {
            insert_token: _,
            optimizer_hints: _,
            or,
            ignore,
            into: _,
            table: _,
            table_alias: _,
            columns: _,
            overwrite,
            source: _,
            assignments,
            partitioned,
            after_columns,
            has_table_keyword,
            on: _,
            returning: _,
            output,
            replace_into,
            priority,
            insert_alias,
            settings,
            format_clause,
            multi_table_insert_type,
            multi_table_into_clauses,
            multi_table_when_clauses,
            multi_table_else_clause,
        } = insert;
        self.foreign(&[
            (or.is_some(), "INSERT OR"),
            (*ignore, "INSERT IGNORE"),
            (*overwrite, "INSERT OVERWRITE"),
            (!assignments.is_empty(), "INSERT … SET"),
            (partitioned.is_some() || !after_columns.is_empty(), "PARTITION"),
            (*has_table_keyword, "INSERT INTO TABLE"),
            (output.is_some(), "OUTPUT"),
            (*replace_into, "REPLACE"),
            (priority.is_some(), "a priority of INSERT"),
            (insert_alias.is_some(), "an alias of the new row"),
            (settings.is_some(), "SETTINGS"),
            (format_clause.is_some(), "FORMAT"),
            (
                multi_table_insert_type.is_some()
                    || !multi_table_into_clauses.is_empty()
                    || !multi_table_when_clauses.is_empty()
                    || multi_table_else_clause.is_some(),
                "INSERT ALL",
            ),
        ])
    }

    /// The rows that INSERT gives to a table, with all its columns in their order; `target` is what
    /// the statement calls the table.
    fn inserted(
        &self,
        names: &[ast::ObjectName],
        source: Option<&ast::Query>,
        table: &Relation,
        target: &TableReference,
    ) -> Result<LogicalPlan> {
        let fields = table.schema.fields();
        let named = match names {
            [] => None,
            names => Some(self.named_columns(names, table)?),
        };
        let values = source.map(|source| (source, plain_values(source)));
        // Without names, they are those of the first columns.
        let (plan, targets) = match values {
            // DEFAULT VALUES.
            None => (LogicalPlanBuilder::empty(true).build()?, Vec::new()),
            Some((source, Some(values))) => {
                let width = values.rows.first().map_or(0, |row| row.content.len());
                let targets = named.unwrap_or_else(|| (0..fields.len().min(width)).collect());
                (self.values(source, &targets, table)?, targets)
            }
            Some((source, None)) => {
                let plan = self.query(source)?;
                let width = plan.schema().fields().len();
                let targets = named.unwrap_or_else(|| (0..fields.len().min(width)).collect());
                let typed = |index: usize| targets.get(index).map(|target| &fields[*target]);
                (with_typed_parameters(plan, typed)?, targets)
            }
        };
        self.refuse_given(source.and_then(plain_values), &targets, table)?;
        let (given, wanted) = (plan.schema().fields().len(), targets.len());
        if given != wanted {
            return Err(self.wrong_width(given, wanted));
        }
        whole_rows(plan, &targets, table, Some(target))
    }

    /// The columns of a table that INSERT names.
    fn named_columns(&self, names: &[ast::ObjectName], table: &Relation) -> Result<Vec<usize>> {
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            let (index, position) = self.column_of(name, table)?;
            if columns.contains(&index) {
                return Err(set_twice(&table.schema, index).at(position));
            }
            columns.push(index);
        }
        Ok(columns)
    }

    /// Plans a query that is a VALUES list and no more. Its values have the types of the columns
    /// that they are for, so that a parameter or a NULL has one; what a subquery in it reads has
    /// nothing to do with them.
    fn values(
        &self,
        source: &ast::Query,
        targets: &[usize],
        table: &Relation,
    ) -> Result<LogicalPlan> {
        let fields = table.schema.fields();
        let source = self.checked(source)?;
        let Some(values) = plain_values(&source) else {
            return Err(Error::internal("VALUES was rewritten to another query"));
        };
        let mut rows = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            let row = &row.content;
            if row.len() != targets.len() {
                return Err(self.wrong_width(row.len(), targets.len()));
            }
            let exprs = row.iter().zip(targets).map(|(value, target)| {
                if is_default(value) {
                    let default = default_of(table, *target);
                    return assigned(default, &fields[*target], &DFSchema::empty());
                }
                let value = typed_parameter(self.constant(value)?, &fields[*target]);
                Ok(literal(value, fields[*target].data_type())?)
            });
            rows.push(exprs.collect::<Result<Vec<_>>>()?);
        }
        let targets = targets.iter().map(|target| Arc::clone(&fields[*target]));
        let schema = DFSchema::from_unqualified_fields(targets.collect(), HashMap::new())?;
        let plan = self.planned(|_| {
            LogicalPlanBuilder::values_with_schema(rows, &Arc::new(schema))?.build()
        })?;
        with_types_of_text(plan)
    }

    /// A value of a VALUES list, which reads no row.
    fn constant(&self, value: &ast::Expr) -> Result<Expr> {
        let (none, mut context) = (DFSchema::empty(), PlannerContext::new());
        self.planned(|planner| planner.sql_to_expr(value.clone(), &none, &mut context))
    }

    fn wrong_width(&self, given: usize, wanted: usize) -> Error {
        let message = match given > wanted {
            true => "INSERT has more expressions than target columns",
            false => "INSERT has more target columns than expressions",
        };
        Error::new(ErrorKind::InvalidSql, message).at(self.statement.offset + 1)
    }

    pub(super) fn delete(&self, delete: &ast::Delete) -> Result<Bound> {
        let ast::Delete {
            delete_token: _,
            optimizer_hints: _,
            tables,
            from,
            using,
            selection,
            returning,
            output,
            order_by,
            limit,
        } = delete;
        let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = from;
        self.foreign(&[
            (!tables.is_empty() || from.len() != 1, "DELETE from several tables"),
            (output.is_some(), "OUTPUT"),
            (!order_by.is_empty(), "DELETE with ORDER BY"),
            (limit.is_some(), "DELETE with LIMIT"),
        ])?;
        let (table, _) = self.target(from.first())?;
        let others = using.as_deref().unwrap_or_default();
        self.check_joined(&table, others)?;
        let from = from.iter().chain(others).cloned().collect();
        let query = select(vec![everything()], from, selection.clone())?;
        let plan = self.query(&query)?;
        let is_joined = !others.is_empty();
        let write = Write { kind: WriteKind::Delete, table, plan, proposal: None, is_joined };
        self.with_returning(write, returning.as_ref())
    }

    /// TRUNCATE: all rows go.
    pub(super) fn truncate(&self, truncate: &Truncate) -> Result<Vec<Write>> {
        let mut writes: Vec<Write> = Vec::with_capacity(truncate.names.len());
        for name in &truncate.names {
            let table = self.writable_named(name, true)?;
            if truncate.restarts && table.definition.has_identity() {
                let message = "RESTART IDENTITY of a table that counts is not supported";
                return Err(Error::unsupported(message).at(name.position));
            }
            // A table may be named twice.
            if writes.iter().any(|write| write.table.id == table.id) {
                continue;
            }
            let source = Arc::new(relation_source(&table));
            let scan = LogicalPlanBuilder::scan(reference(&table.name), source, None)?;
            let (kind, plan) = (WriteKind::Delete, scan.build()?);
            writes.push(Write { kind, table, plan, proposal: None, is_joined: false });
        }
        Ok(writes)
    }

    pub(super) fn update(&self, update: &ast::Update) -> Result<Bound> {
        let ast::Update {
            update_token: _,
            optimizer_hints: _,
            table: target,
            assignments,
            from,
            selection,
            returning,
            output,
            or,
            order_by,
            limit,
        } = update;
        let (is_before, others) = match from {
            None => (false, [].as_slice()),
            Some(ast::UpdateTableFromKind::AfterSet(others)) => (false, others.as_slice()),
            Some(ast::UpdateTableFromKind::BeforeSet(others)) => (true, others.as_slice()),
        };
        self.foreign(&[
            (is_before, "FROM before SET"),
            (output.is_some(), "OUTPUT"),
            (or.is_some(), "UPDATE OR"),
            (!order_by.is_empty(), "UPDATE with ORDER BY"),
            (limit.is_some(), "UPDATE with LIMIT"),
        ])?;
        let (table, qualifier) = self.target(Some(target))?;
        self.check_joined(&table, others)?;
        let fields = table.schema.fields();
        let mut assigned: Vec<Option<ast::Expr>> = vec![None; fields.len()];
        let mut defaults = Vec::new();
        for (index, value) in self.set_columns(assignments, &table)? {
            match is_default(value) {
                true => defaults.push(index),
                false => assigned[index] = Some(value.clone()),
            }
        }
        let new = fields.iter().zip(assigned).map(|(field, value)| match value {
            Some(expr) => {
                let alias = quoted(&format!("new.{}", field.name()));
                ast::SelectItem::ExprWithAlias { expr, alias }
            }
            None => aliased(&qualifier, field.name()),
        });
        let items = new.chain([everything()]).collect();
        let from = std::iter::once(target).chain(others).cloned().collect();
        let query = select(items, from, selection.clone())?;
        let plan = with_typed_parameters(self.query(&query)?, |index| fields.get(index))?;
        let plan = self.with_types_of(plan, &table, &defaults)?;
        let is_joined = !others.is_empty();
        let write = Write { kind: WriteKind::Update, table, plan, proposal: None, is_joined };
        self.with_returning(write, returning.as_ref())
    }

    /// Refuses clauses that PostgreSQL's writes do not have.
    fn foreign(&self, found: &[(bool, &str)]) -> Result<()> {
        match found.iter().find(|(is_there, _)| *is_there) {
            None => Ok(()),
            Some((_, what)) => Err(syntax(what).at(self.statement.offset + 1)),
        }
    }

    /// Refuses to join a table whose rows cannot be told from each other: one may be met twice.
    fn check_joined(&self, table: &Relation, others: &[ast::TableWithJoins]) -> Result<()> {
        match others.is_empty() || table.upsert_key.is_some() {
            true => Ok(()),
            false => Err(self
                .refused("FROM and USING for a table without a primary key")
                .with_hint("use SET x = (SELECT …) and WHERE EXISTS (SELECT …)")),
        }
    }

    /// Of new row, old row and columns of other tables: the old row first, then the new one, cast
    /// to the types of the table and with the names of the old one, and the others. `defaults` are
    /// columns that get their DEFAULT.
    fn with_types_of(
        &self,
        plan: LogicalPlan,
        table: &Relation,
        defaults: &[usize],
    ) -> Result<LogicalPlan> {
        let fields = table.schema.fields();
        let column =
            |index: usize| Expr::Column(Column::from(plan.schema().qualified_field(index)));
        let mut exprs = Vec::with_capacity(plan.schema().fields().len());
        for (index, field) in fields.iter().enumerate() {
            let old = column(fields.len() + index);
            exprs.push(old.alias_qualified(Some(TableReference::bare(OLD)), field.name()));
        }
        for (index, field) in fields.iter().enumerate() {
            let (qualifier, old) = plan.schema().qualified_field(fields.len() + index);
            let value = match defaults.contains(&index) {
                true => default_of(table, index),
                false => column(index),
            };
            let new = assigned(value, field, plan.schema())?;
            exprs.push(new.alias_qualified(qualifier.cloned(), old.name()));
        }
        exprs.extend((2 * fields.len()..plan.schema().fields().len()).map(column));
        Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
    }

    /// The columns that SET names, each once, and their values.
    fn set_columns<'a>(
        &self,
        assignments: &'a [ast::Assignment],
        table: &Relation,
    ) -> Result<Vec<(usize, &'a ast::Expr)>> {
        let mut found: Vec<(usize, &ast::Expr)> = Vec::with_capacity(assignments.len());
        for ast::Assignment { target, value } in assignments {
            let (names, values) = match (target, value) {
                (ast::AssignmentTarget::ColumnName(name), value) => {
                    (std::slice::from_ref(name), std::slice::from_ref(value))
                }
                (ast::AssignmentTarget::Tuple(names), ast::Expr::Tuple(values)) => {
                    (names.as_slice(), values.as_slice())
                }
                _ => {
                    let hint = "give a list of values, or set each column by itself";
                    return Err(self.refused("SET (a, b) = …").with_hint(hint));
                }
            };
            if names.len() != values.len() {
                let message = "number of columns does not match number of values";
                let error = Error::new(ErrorKind::InvalidSql, message);
                return Err(error.at(self.statement.offset + 1));
            }
            for (name, value) in names.iter().zip(values) {
                let (index, position) = self.column_of(name, table)?;
                if found.iter().any(|(other, _)| *other == index) {
                    return Err(set_twice(&table.schema, index).at(position));
                }
                if is_always(table, index) && !is_default(value) {
                    return Err(generated_always(table, index, true).at(position));
                }
                found.push((index, value));
            }
        }
        Ok(found)
    }

    /// A column of a table that is to be written, and where the text names it.
    fn column_of(&self, name: &ast::ObjectName, table: &Relation) -> Result<(usize, usize)> {
        let Some(ident) = name.0.last().and_then(|part| part.as_ident()) else {
            return Err(self.refused("writing to an expression"));
        };
        let (name, position) = (fold(ident), self.places().position(ident.span.start));
        let names = table.schema.fields().iter().map(|field| field.name().as_str());
        match table.schema.index_of(&name) {
            Ok(index) => Ok((index, position)),
            Err(_) => Err(undefined_column(&name, names).at(position)),
        }
    }

    /// The table of UPDATE or DELETE, and the name by which its columns are called.
    fn target(&self, from: Option<&ast::TableWithJoins>) -> Result<(Arc<Relation>, ast::Ident)> {
        match from {
            Some(ast::TableWithJoins {
                relation: ast::TableFactor::Table { name, alias, .. },
                joins,
            }) if joins.is_empty() => {
                let table = self.writable(name, true)?;
                let qualifier = match alias {
                    Some(alias) => alias.name.clone(),
                    None => quoted(&table.name),
                };
                Ok((table, qualifier))
            }
            _ => Err(self.refused("writing to anything but one table")),
        }
    }

    /// The table of that name, if clients may write to it.
    fn writable(&self, name: &ast::ObjectName, changes: bool) -> Result<Arc<Relation>> {
        let idents: Vec<&ast::Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let Some(last) = idents.last() else {
            return Err(self.refused("writing to an expression"));
        };
        let position = self.places().position(last.span.start);
        let parts: Vec<String> = idents.iter().map(|ident| fold(ident)).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let in_lake = |name: &&str| {
            let owner = self.catalog.get(name);
            owner.is_some_and(|owner| matches!(*owner.definition, Definition::Catalog(_)))
        };
        if parts.len() > 2 && parts.first().is_some_and(in_lake) {
            return Err(Error::unsupported(format!("writing to \"{name}\" is not supported"))
                .with_hint("use CREATE SINK or CREATE PIPELINE")
                .at(position));
        }
        // As in PostgreSQL: what does not exist is the relation, not the schema.
        check_place(&parts).map_err(|error| match error.kind {
            ErrorKind::UndefinedSchema => {
                let message = format!("relation \"{}\" does not exist", parts.join("."));
                Error::new(ErrorKind::UndefinedTable, message).at(position)
            }
            _ => error.at(position),
        })?;
        self.writable_named(&Name { value: fold(last), position }, changes)
    }

    /// The same of a name without a schema.
    fn writable_named(&self, name: &Name, changes: bool) -> Result<Arc<Relation>> {
        let Some(relation) = self.catalog.get(&name.value) else {
            return Err(self.undefined("relation", name));
        };
        let position = name.position;
        if relation.name == COUNTERS {
            let message = format!("\"{COUNTERS}\" belongs to the engine");
            return Err(Error::new(ErrorKind::WrongObjectType, message).at(position));
        }
        let wrong = |message: String| Error::new(ErrorKind::WrongObjectType, message).at(position);
        match relation.definition.as_ref() {
            Definition::Table(table) if table.connector.is_some() => {
                Err(wrong(format!("table \"{}\" is fed by its connector", relation.name))
                    .with_hint("only tables without a connector can be written"))
            }
            Definition::Table(table) if changes && table.append_only => {
                Err(wrong(format!("table \"{}\" is APPEND ONLY", relation.name)))
            }
            Definition::Table(_) => Ok(Arc::clone(relation)),
            other => {
                let noun = other.noun();
                Err(wrong(format!("\"{}\" is a {noun}, which cannot be written", relation.name)))
            }
        }
    }

    fn refused(&self, what: &str) -> Error {
        Error::unsupported(format!("{what} is not supported")).at(self.statement.offset + 1)
    }
}

/// Rows with all columns of a table, cast to its types, from rows with the columns `targets`: the
/// others have their defaults. The table's columns are qualified by `qualifier`.
fn whole_rows(
    rows: LogicalPlan,
    targets: &[usize],
    table: &Relation,
    qualifier: Option<&TableReference>,
) -> Result<LogicalPlan> {
    let exprs = table.schema.fields().iter().enumerate().map(|(index, field)| {
        let expr = match targets.iter().position(|target| *target == index) {
            Some(source) => Expr::Column(Column::from(rows.schema().qualified_field(source))),
            None => default_of(table, index),
        };
        Ok(assigned(expr, field, rows.schema())?.alias_qualified(qualifier.cloned(), field.name()))
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlanBuilder::from(rows).project(exprs)?.build()?)
}

/// The VALUES list that a query is, if it is nothing else.
fn plain_values(query: &ast::Query) -> Option<&ast::Values> {
    let ast::Query { with: None, body, order_by: None, limit_clause: None, fetch: None, .. } =
        query
    else {
        return None;
    };
    match body.as_ref() {
        ast::SetExpr::Values(values) => Some(values),
        ast::SetExpr::Query(query) => plain_values(query),
        _ => None,
    }
}

/// What a statement calls a table that it names so.
fn reference_of(name: &ast::ObjectName) -> TableReference {
    let parts = name.0.iter().filter_map(|part| part.as_ident()).map(fold);
    match parts.collect::<Vec<_>>().as_slice() {
        [schema, table] => TableReference::partial(schema.clone(), table.clone()),
        [catalog, schema, table] => {
            TableReference::full(catalog.clone(), schema.clone(), table.clone())
        }
        parts => TableReference::bare(parts.join(".")),
    }
}
