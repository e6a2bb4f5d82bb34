//! INSERT, UPDATE and DELETE.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{
    Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder, Projection, cast,
};
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast;

use super::binder::{Binder, Bound};
use super::clauses::syntax;
use super::column_list::undefined_column;
use super::parser::{check_place, fold};
use super::query_binder::with_final_types;
use super::syntax::parse_postgres;
use crate::catalog::{Definition, Relation};
use crate::error::{Error, ErrorKind, Result};

pub(super) mod loads;

impl Binder<'_> {
    pub(super) fn insert(&self, insert: &ast::Insert) -> Result<Bound> {
        let ast::Insert {
            insert_token: _,
            optimizer_hints: _,
            or,
            ignore,
            into: _,
            table,
            // The rows come from elsewhere, so nothing can name the target.
            table_alias: _,
            columns,
            overwrite,
            source,
            assignments,
            partitioned,
            after_columns,
            has_table_keyword,
            on,
            returning,
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
        let ast::TableObject::TableName(name) = table else {
            return Err(Error::unsupported("INSERT INTO a function is not supported"));
        };
        let table = self.writable(name, false)?;
        if returning.is_some() {
            return Err(self.refused("RETURNING"));
        }
        if on.is_some() {
            return Err(self.refused("ON CONFLICT").with_hint(
                "leave it out: a row whose primary key is in the table replaces the old row",
            ));
        }
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
        ])?;
        let Some(source) = source else {
            return Err(self.refused("DEFAULT VALUES"));
        };
        let plan = self.inserted(columns, source, &table)?;
        Ok(Bound::Insert { table, plan })
    }

    /// The rows that INSERT gives to a table, with all its columns in their order.
    fn inserted(
        &self,
        names: &[ast::ObjectName],
        source: &ast::Query,
        table: &Relation,
    ) -> Result<LogicalPlan> {
        let fields = table.schema.fields();
        let named = match names {
            [] => None,
            names => Some(self.named_columns(names, table)?),
        };
        let (plan, targets) = match plain_values(source) {
            Some(values) => {
                // Without names, they are those of the first columns.
                let width = values.rows.first().map_or(0, |row| row.content.len());
                let targets = named.unwrap_or_else(|| (0..fields.len().min(width)).collect());
                let of = targets.iter().map(|index| Arc::clone(&fields[*index]));
                (self.values(source, of.collect())?, targets)
            }
            None => {
                let targets = named.unwrap_or_else(|| (0..fields.len()).collect());
                let typed = |index: usize| targets.get(index).map(|target| &fields[*target]);
                (with_typed_parameters(self.query(source)?, typed)?, targets)
            }
        };
        let (given, wanted) = (plan.schema().fields().len(), targets.len());
        if given != wanted {
            return Err(self.wrong_width(given, wanted));
        }
        let exprs = fields.iter().enumerate().map(|(index, field)| {
            let expr = match targets.iter().position(|target| *target == index) {
                Some(source) => Expr::Column(Column::from(plan.schema().qualified_field(source))),
                None => Expr::Literal(ScalarValue::Null, None),
            };
            Ok(assigned(expr, field, plan.schema())?.alias(field.name()))
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
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

    /// Plans a query that is a VALUES list and no more. Its values have the types of `targets`, so
    /// that a parameter or a NULL has one; what a subquery in it reads has nothing to do with them.
    fn values(&self, source: &ast::Query, targets: Vec<FieldRef>) -> Result<LogicalPlan> {
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
            let exprs = row.iter().zip(&targets).map(|(value, target)| {
                let none = DFSchema::empty();
                let mut context = PlannerContext::new();
                let expr = self
                    .planned(|planner| planner.sql_to_expr(value.clone(), &none, &mut context))?;
                Ok(typed_parameter(expr, target))
            });
            rows.push(exprs.collect::<Result<Vec<_>>>()?);
        }
        let schema = DFSchema::from_unqualified_fields(targets.into(), HashMap::new())?;
        let plan = self.planned(|_| {
            LogicalPlanBuilder::values_with_schema(rows, &Arc::new(schema))?.build()
        })?;
        with_final_types(plan)
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
        if returning.is_some() {
            return Err(self.refused("RETURNING"));
        }
        if using.is_some() {
            return Err(self.refused("USING").with_hint("use WHERE EXISTS (SELECT …)"));
        }
        self.foreign(&[
            (!tables.is_empty() || from.len() != 1, "DELETE from several tables"),
            (output.is_some(), "OUTPUT"),
            (!order_by.is_empty(), "DELETE with ORDER BY"),
            (limit.is_some(), "DELETE with LIMIT"),
        ])?;
        let (table, qualifier) = self.target(from.first())?;
        let items = table.schema.fields().iter().map(|field| item(&qualifier, field.name()));
        let query = select(items.collect(), from.clone(), selection.clone())?;
        Ok(Bound::Delete { plan: self.query(&query)?, table })
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
        if returning.is_some() {
            return Err(self.refused("RETURNING"));
        }
        if from.is_some() {
            return Err(self
                .refused("UPDATE with FROM")
                .with_hint("use SET x = (SELECT …) WHERE EXISTS (SELECT …)"));
        }
        self.foreign(&[
            (output.is_some(), "OUTPUT"),
            (or.is_some(), "UPDATE OR"),
            (!order_by.is_empty(), "UPDATE with ORDER BY"),
            (limit.is_some(), "UPDATE with LIMIT"),
        ])?;
        let (table, qualifier) = self.target(Some(target))?;
        let fields = table.schema.fields();
        let mut assigned: Vec<Option<ast::Expr>> = vec![None; fields.len()];
        for ast::Assignment { target, value } in assignments {
            let (index, position) = self.assigned_column(target, &table)?;
            if assigned[index].replace(value.clone()).is_some() {
                return Err(set_twice(&table.schema, index).at(position));
            }
        }
        let old = fields.iter().map(|field| item(&qualifier, field.name()));
        let new = fields.iter().zip(assigned).map(|(field, value)| match value {
            Some(expr) => {
                let alias = quoted(&format!("new.{}", field.name()));
                ast::SelectItem::ExprWithAlias { expr, alias }
            }
            None => aliased(&qualifier, field.name()),
        });
        let items = old.chain(new).collect();
        let query = select(items, vec![target.clone()], selection.clone())?;
        let of_new = |index: usize| fields.get(index.checked_sub(fields.len())?);
        let plan = with_typed_parameters(self.query(&query)?, of_new)?;
        let plan = self.with_types_of(plan, &table)?;
        Ok(Bound::Update { plan, table })
    }

    /// Refuses clauses that PostgreSQL's writes do not have.
    fn foreign(&self, found: &[(bool, &str)]) -> Result<()> {
        match found.iter().find(|(is_there, _)| *is_there) {
            None => Ok(()),
            Some((_, what)) => Err(syntax(what).at(self.statement.offset + 1)),
        }
    }

    /// Casts the new row to the types of the table.
    fn with_types_of(&self, plan: LogicalPlan, table: &Relation) -> Result<LogicalPlan> {
        let fields = table.schema.fields();
        let exprs = plan
            .schema()
            .iter()
            .enumerate()
            .map(|(index, (qualifier, field))| {
                let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
                if index < fields.len() {
                    return Ok(column);
                }
                let target = &fields[index - fields.len()];
                Ok(assigned(column, target, plan.schema())?.alias(field.name()))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
    }

    fn assigned_column(
        &self,
        target: &ast::AssignmentTarget,
        table: &Relation,
    ) -> Result<(usize, usize)> {
        let ast::AssignmentTarget::ColumnName(name) = target else {
            return Err(self.refused("SET (a, b) = …"));
        };
        self.column_of(name, table)
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
        let name = super::statement::Name { value: fold(last), position };
        let Some(relation) = self.catalog.get(&name.value) else {
            return Err(self.undefined("relation", &name));
        };
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

/// A value cast to the type of its column, also if it has that type as far as is known: with the
/// values of parameters it may have another one.
fn assigned(value: Expr, column: &FieldRef, schema: &DFSchema) -> Result<Expr> {
    Ok(match value.cast_to(column.data_type(), schema)? {
        cast @ (Expr::Cast(_) | Expr::Literal(..)) => cast,
        same => cast(same, column.data_type().clone()),
    })
}

/// A parameter that is a value of a column has the column's type.
fn typed_parameter(expr: Expr, column: &FieldRef) -> Expr {
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            Expr::Placeholder(Placeholder::new_with_field(id, Some(Arc::clone(column))))
        }
        Expr::Alias(mut alias) => {
            *alias.expr = typed_parameter(*alias.expr, column);
            Expr::Alias(alias)
        }
        expr => expr,
    }
}

/// A query whose n-th item is for a column, where there is one: a parameter alone has its type.
fn with_typed_parameters<'a>(
    plan: LogicalPlan,
    column: impl Fn(usize) -> Option<&'a FieldRef>,
) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(plan) };
    let items = projection.expr.into_iter().enumerate().map(|(index, expr)| match column(index) {
        Some(column) => typed_parameter(expr, column),
        None => expr,
    });
    let typed = Projection::try_new(items.collect(), projection.input)?;
    Ok(LogicalPlan::Projection(typed))
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

fn set_twice(schema: &Schema, index: usize) -> Error {
    let message = format!("column \"{}\" is set twice", schema.field(index).name());
    Error::new(ErrorKind::DuplicateColumn, message)
}

fn quoted(name: &str) -> ast::Ident {
    ast::Ident::with_quote('"', name)
}

fn column(qualifier: &ast::Ident, name: &str) -> ast::Expr {
    ast::Expr::CompoundIdentifier(vec![qualifier.clone(), quoted(name)])
}

fn item(qualifier: &ast::Ident, name: &str) -> ast::SelectItem {
    ast::SelectItem::UnnamedExpr(column(qualifier, name))
}

fn aliased(qualifier: &ast::Ident, name: &str) -> ast::SelectItem {
    let alias = quoted(&format!("new.{name}"));
    ast::SelectItem::ExprWithAlias { expr: column(qualifier, name), alias }
}

/// `SELECT items FROM from WHERE selection`.
fn select(
    items: Vec<ast::SelectItem>,
    from: Vec<ast::TableWithJoins>,
    selection: Option<ast::Expr>,
) -> Result<ast::Query> {
    let ast::Statement::Query(mut query) = parse_postgres("SELECT 1")? else {
        return Err(Error::internal("SELECT 1 is not a query"));
    };
    let ast::SetExpr::Select(select) = query.body.as_mut() else {
        return Err(Error::internal("SELECT 1 is not a SELECT"));
    };
    select.projection = items;
    select.from = from;
    select.selection = selection;
    Ok(*query)
}
