//! CREATE TABLE, SOURCE, VIEW and CATALOG.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use frazil_connector_api::Options;
use sqlparser::ast;

use super::binder::{Binder, Bound, NewRelation, already_exists};
use super::column_list::{Columns, bind_columns};
use super::output_names::{renamed, visible_names};
use super::statement::{
    CreateCatalog, CreateRelation, CreateTableAs, CreateView, FormatClause, IncludeClause, Name,
};
use crate::catalog::ChangelogMode;
use crate::catalog::{
    CatalogDef, ColumnDef, Creation, Definition, FormatDef, LogicalViewDef, SourceDef, TableDef,
    ViewDef, columns_schema,
};
use crate::error::{Error, ErrorKind, Result};

impl Binder<'_> {
    pub(super) fn table(&self, table: &CreateRelation) -> Result<Creation> {
        let name = &table.name;
        let connected = table.options.iter().next().is_some();
        let format = table.format.as_ref().map(bind_format).transpose()?;
        let Columns { columns, primary_key } = self.columns(table, connected)?;
        if connected {
            require_connector(&table.options).map_err(|error| error.at(name.position))?;
        } else if format.is_some() {
            return Err(Error::new(ErrorKind::InvalidSql, "FORMAT needs a connector")
                .with_hint("add WITH (connector = …)")
                .at(name.position));
        }
        let debezium = format.as_ref().is_some_and(|format| format.format == "DEBEZIUM");
        if debezium && primary_key.is_empty() {
            let message = "a table of FORMAT DEBEZIUM needs a primary key";
            return Err(Error::new(ErrorKind::InvalidSql, message)
                .with_hint("add PRIMARY KEY (…): the columns by which rows are replaced")
                .at(name.position));
        }
        if table.append_only && debezium {
            let message = "FORMAT DEBEZIUM brings updates, which APPEND ONLY forbids";
            return Err(Error::new(ErrorKind::InvalidSql, message).at(name.position));
        }
        if table.append_only && !primary_key.is_empty() {
            let message = "APPEND ONLY with a primary key is not supported";
            return Err(Error::unsupported(message)
                .with_hint(
                    "leave out APPEND ONLY, so that a row replaces the one with its key, or leave \
                     out PRIMARY KEY, so that all rows are kept",
                )
                .at(name.position));
        }
        // Without a key nothing that a connector brings can be replaced.
        let append_only = table.append_only || (connected && primary_key.is_empty());
        let upsert_key = (!primary_key.is_empty()).then(|| primary_key.clone());
        let schema = columns_schema(&columns);
        let connector = connected.then(|| table.options.clone());
        let table = TableDef { columns, primary_key, append_only, connector, format };
        Ok(Creation {
            name: name.value.clone(),
            definition: Definition::Table(table),
            schema,
            upsert_key,
            mode: if append_only { ChangelogMode::AppendOnly } else { ChangelogMode::Retract },
            depends_on: Vec::new(),
        })
    }

    pub(super) fn source(&self, source: &CreateRelation) -> Result<Creation> {
        let name = &source.name;
        require_connector(&source.options).map_err(|error| error.at(name.position))?;
        let format = source.format.as_ref().map(bind_format).transpose()?;
        if format.as_ref().is_some_and(|format| format.format == "DEBEZIUM") {
            let message = "FORMAT DEBEZIUM brings updates, which a source does not keep";
            return Err(Error::unsupported(message)
                .with_hint("use CREATE TABLE, with a primary key")
                .at(name.position));
        }
        let Columns { columns, primary_key } = self.columns(source, true)?;
        if !primary_key.is_empty() {
            return Err(Error::unsupported("a source has no primary key")
                .with_hint("use CREATE TABLE to keep rows by key")
                .at(name.position));
        }
        let schema = columns_schema(&columns);
        let connector = source.options.clone();
        Ok(Creation {
            name: name.value.clone(),
            definition: Definition::Source(SourceDef { columns, connector, format }),
            schema,
            upsert_key: None,
            mode: ChangelogMode::AppendOnly,
            depends_on: Vec::new(),
        })
    }

    fn columns(&self, relation: &CreateRelation, connected: bool) -> Result<Columns> {
        let mut columns = match &relation.columns {
            Some(list) => bind_columns(list, self.places(), self.scope.forms())?,
            None => connector_columns(&relation.options)
                .map_err(|error| error.at(relation.name.position))?,
        };
        if let Some(list) = &relation.columns {
            self.bind_defaults(list, &mut columns.columns, connected)?;
        }
        if let Some(first) = relation.includes.first()
            && relation.format.is_none()
        {
            return Err(Error::new(ErrorKind::InvalidSql, "INCLUDE needs a FORMAT")
                .with_hint("add FORMAT PLAIN ENCODE JSON")
                .at(first.name.position));
        }
        for IncludeClause { include, name } in &relation.includes {
            columns.columns.push(ColumnDef {
                name: name.value.clone(),
                data_type: include.data_type(),
                precision: None,
                nullable: true,
                default: None,
                identity: None,
                include: Some(include.clone()),
            });
            let names: Vec<_> = columns.columns.iter().map(|it| it.name.clone()).collect();
            check_unique(&names).map_err(|error| error.at(name.position))?;
        }
        if columns.columns.is_empty() && connected {
            let message = format!("\"{}\" has no columns", relation.name.value);
            return Err(Error::new(ErrorKind::InvalidSql, message).at(relation.name.position));
        }
        Ok(columns)
    }

    pub(super) fn materialized_view(&self, view: &CreateView) -> Result<NewRelation> {
        let logical = self.view_query(view)?;
        NewRelation::of_query(&logical, |plan| {
            Ok(Creation {
                name: view.name.value.clone(),
                schema: view_schema(&plan.schema),
                upsert_key: plan.upsert_key.clone(),
                mode: plan.mode,
                depends_on: self.scope.named(),
                definition: Definition::View(ViewDef {
                    plan: Arc::new(logical.clone()),
                    query: view.query_text.clone(),
                }),
            })
        })
    }

    pub(super) fn logical_view(&self, view: &CreateView) -> Result<Creation> {
        let logical = self.view_query(view)?;
        Ok(Creation {
            name: view.name.value.clone(),
            schema: Arc::clone(logical.schema().inner()),
            upsert_key: None,
            mode: ChangelogMode::Retract,
            depends_on: self.scope.named(),
            definition: Definition::LogicalView(LogicalViewDef {
                plan: Arc::new(logical),
                query: view.query_text.clone(),
            }),
        })
    }

    /// The view's query, with the names of its columns.
    fn view_query(&self, view: &CreateView) -> Result<LogicalPlan> {
        if let Some((option, _)) = view.options.iter().next() {
            let message = format!("option \"{option}\" of a view is not known");
            return Err(Error::new(ErrorKind::InvalidParameter, message).at(view.name.position));
        }
        self.query_as(&view.query, &view.columns, &view.name, "CREATE VIEW")
    }

    pub(super) fn table_as(&self, table: &CreateTableAs) -> Result<Bound> {
        if self.catalog.get(&table.name.value).is_some() {
            return already_exists(&table.name, table.if_not_exists);
        }
        let (query, columns) = (&table.query, &table.columns);
        let plan = self.query_as(query, columns, &table.name, "CREATE TABLE AS")?;
        Ok(Bound::CreateTableAs(plan))
    }

    /// A query whose columns become those of the relation `of`: the first have the names that are
    /// given.
    pub(super) fn query_as(
        &self,
        query: &ast::Query,
        columns: &[Name],
        of: &Name,
        statement: &str,
    ) -> Result<LogicalPlan> {
        let logical = self.query(query)?;
        let mut names = visible_names(&logical);
        if let Some(extra) = columns.get(names.len()) {
            let message = format!("{statement} names more columns than its query has");
            return Err(Error::new(ErrorKind::InvalidSql, message).at(extra.position));
        }
        for (name, given) in names.iter_mut().zip(columns) {
            name.clone_from(&given.value);
        }
        check_unique(&names).map_err(|error| error.at(of.position))?;
        renamed(logical, &names)
    }

    pub(super) fn iceberg(&self, catalog: &CreateCatalog) -> Result<Creation> {
        let position = catalog.name.position;
        match catalog.options.get("type") {
            Some("iceberg") => {}
            Some(other) => {
                let message = format!("a catalog of type \"{other}\" is not supported");
                return Err(Error::unsupported(message).with_hint("use 'iceberg'").at(position));
            }
            None => {
                let message = "option \"type\" is missing";
                return Err(Error::new(ErrorKind::InvalidParameter, message)
                    .with_hint("add type = 'iceberg'")
                    .at(position));
            }
        }
        for required in ["catalog.uri", "warehouse.path"] {
            if catalog.options.get(required).is_none() {
                let message = format!("option \"{required}\" is missing");
                return Err(Error::new(ErrorKind::InvalidParameter, message).at(position));
            }
        }
        Ok(Creation {
            name: catalog.name.value.clone(),
            definition: Definition::Catalog(CatalogDef { options: catalog.options.clone() }),
            schema: Arc::new(Schema::empty()),
            upsert_key: None,
            mode: ChangelogMode::AppendOnly,
            depends_on: Vec::new(),
        })
    }
}

/// Columns that the connector tells, for a statement without a list of them.
fn connector_columns(options: &Options) -> Result<Columns> {
    if options.get("connector") != Some("generator") {
        return Err(Error::new(ErrorKind::InvalidSql, "the columns are missing")
            .with_hint("write them in parentheses behind the name"));
    }
    let schema = frazil_generator::generator_columns(options)?;
    let column = |field: &Arc<Field>| ColumnDef {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        precision: None,
        nullable: field.is_nullable(),
        default: None,
        identity: None,
        include: None,
    };
    let columns = schema.fields().iter().map(column).collect();
    Ok(Columns { columns, primary_key: Vec::new() })
}

/// Fields with names and types alone: what planners noted on them is not part of a relation.
fn view_schema(schema: &SchemaRef) -> SchemaRef {
    let plain = |field: &Arc<Field>| {
        Field::new(field.name(), field.data_type().clone(), field.is_nullable())
    };
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}

/// Names of a relation's columns differ.
fn check_unique(names: &[String]) -> Result<()> {
    match names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
        None => Ok(()),
        Some((_, name)) => {
            let message = format!("column \"{name}\" is specified more than once");
            Err(Error::new(ErrorKind::DuplicateColumn, message)
                .with_hint("give it another name with AS"))
        }
    }
}

fn require_connector(options: &Options) -> Result<()> {
    match options.get("connector") {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::InvalidParameter, "option \"connector\" is missing")
            .with_hint("add it to WITH, such as connector = 'kafka'")),
    }
}

/// Binds `FORMAT … ENCODE …`.
pub(super) fn bind_format(clause: &FormatClause) -> Result<FormatDef> {
    let FormatClause { format, encode, options } = clause;
    if !["PLAIN", "DEBEZIUM", "UPSERT"].contains(&format.as_str()) {
        return Err(Error::unsupported(format!("FORMAT {format} is not supported"))
            .with_hint("use PLAIN or DEBEZIUM"));
    }
    Ok(FormatDef { format: format.clone(), encode: encode.clone(), options: options.clone() })
}
