//! [`Scope`]: what names mean to the planner of SQL.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};
use sqlparser::ast::DataType as SqlType;

use crate::catalog::RelationId;
use crate::catalog::{Catalog, Definition, Relation};
use crate::error::{Error, ErrorKind, nearest};
use crate::functions::functions;
use crate::plan::RelationSource;
use crate::types::{TypeForms, arrow_type};

/// The one database.
pub const DATABASE: &str = "dev";
/// The schema of the engine's relations; `pg_catalog` belongs to the session.
pub const SCHEMA: &str = "public";

/// Tables and functions beyond the catalog: a session has `pg_catalog` and Iceberg tables.
pub trait ExtraTables {
    /// A table that is not in the catalog.
    fn table(&self, reference: &TableReference) -> Option<Arc<dyn TableSource>>;

    /// A function of a row that only this client may call.
    fn scalar_function(&self, _name: &str) -> Option<Arc<ScalarUDF>> {
        None
    }

    /// A function that gives a table.
    fn table_function(
        &self,
        _name: &str,
        _args: &[Expr],
    ) -> Option<datafusion::error::Result<Arc<dyn TableSource>>> {
        None
    }
}

/// No tables beyond the catalog.
#[derive(Debug, Clone, Copy)]
pub struct NoExtraTables;

impl ExtraTables for NoExtraTables {
    fn table(&self, _reference: &TableReference) -> Option<Arc<dyn TableSource>> {
        None
    }
}

/// What names mean while one statement is bound; remembers the relations that were named.
pub(super) struct Scope<'a> {
    catalog: &'a Catalog,
    extra: &'a dyn ExtraTables,
    forms: TypeForms,
    options: ConfigOptions,
    named: RefCell<BTreeSet<RelationId>>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(catalog: &'a Catalog, extra: &'a dyn ExtraTables, forms: TypeForms) -> Self {
        let options = ConfigOptions::default();
        Self { catalog, extra, forms, options, named: RefCell::default() }
    }

    /// The forms that the statement's types have.
    pub(super) fn forms(&self) -> TypeForms {
        self.forms
    }

    /// The relations that were looked up, by id.
    pub(super) fn named(&self) -> Vec<RelationId> {
        self.named.borrow().iter().copied().collect()
    }

    /// The tables beyond the catalog.
    pub(super) fn extra(&self) -> &'a dyn ExtraTables {
        self.extra
    }

    /// Whether a function of that name can be called.
    pub(super) fn has_function(&self, name: &str) -> bool {
        functions().contains(name) || self.extra.scalar_function(name).is_some()
    }

    /// The Iceberg catalog that a reference names.
    fn lake(&self, reference: &TableReference) -> Option<&Relation> {
        let owner = self.catalog.get(reference.catalog()?)?;
        matches!(*owner.definition, Definition::Catalog(_)).then(|| owner.as_ref())
    }

    /// The name within the catalog, if the reference can be one.
    fn local_name<'b>(&self, reference: &'b TableReference) -> Option<&'b str> {
        let here = reference.catalog().is_none_or(|database| database == DATABASE)
            && self.lake(reference).is_none()
            && reference.schema().is_none_or(|schema| schema == SCHEMA);
        here.then(|| reference.table())
    }

    fn undefined(&self, reference: &TableReference) -> Error {
        let message = format!("relation \"{reference}\" does not exist");
        let error = Error::new(ErrorKind::UndefinedTable, message);
        if let Some(owner) = self.lake(reference) {
            let hint = "can be read by SELECT, but not by live views and sinks";
            return error.with_hint(format!("tables of catalog \"{}\" {hint}", owner.name));
        }
        if reference.catalog().is_some_and(|database| database != DATABASE) {
            let message = format!("cross-database references are not implemented: \"{reference}\"");
            return Error::unsupported(message)
                .with_hint(format!("the only database is \"{DATABASE}\""));
        }
        let readable = self.catalog.iter().filter(|relation| relation.definition.is_readable());
        match nearest(reference.table(), readable.map(|relation| relation.name.as_str())) {
            Some(name) => error.with_hint(format!("perhaps you meant \"{name}\"")),
            None => error,
        }
    }
}

/// The relation as the planner sees it.
pub(super) fn relation_source(relation: &Relation) -> RelationSource {
    RelationSource {
        id: relation.id,
        name: relation.name.clone(),
        schema: SchemaRef::clone(&relation.schema),
        mode: relation.mode,
        upsert_key: relation.upsert_key.clone(),
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl ContextProvider for Scope<'_> {
    fn get_table_source(
        &self,
        name: TableReference,
    ) -> datafusion::error::Result<Arc<dyn TableSource>> {
        let local = self.local_name(&name).and_then(|name| self.catalog.get(name));
        let Some(relation) = local else {
            return self.extra.table(&name).ok_or_else(|| external(self.undefined(&name)));
        };
        if let Definition::Unbound(unbound) = relation.definition.as_ref() {
            let message = format!("\"{}\" has failed", relation.name);
            return Err(external(Error::job_failed(message, &unbound.error)));
        }
        if !relation.definition.is_readable() {
            let noun = relation.definition.noun();
            let message = format!("\"{}\" is a {noun}, which cannot be read", relation.name);
            return Err(external(Error::new(ErrorKind::WrongObjectType, message)));
        }
        self.named.borrow_mut().insert(relation.id);
        Ok(match relation.definition.as_ref() {
            Definition::LogicalView(view) => Arc::new(LogicalViewSource {
                schema: SchemaRef::clone(&relation.schema),
                plan: Arc::clone(&view.plan),
            }),
            _ => Arc::new(relation_source(relation)),
        })
    }

    fn get_table_function_source(
        &self,
        name: &str,
        args: Vec<Expr>,
    ) -> datafusion::error::Result<Arc<dyn TableSource>> {
        self.extra.table_function(name, &args).unwrap_or_else(|| {
            let message = format!("table function \"{name}\" is not supported here");
            Err(external(Error::unsupported(message).with_hint(
                "generate_series can be called in a SELECT, and not in live views and sinks",
            )))
        })
    }

    fn create_cte_work_table(
        &self,
        name: &str,
        schema: SchemaRef,
    ) -> datafusion::error::Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        functions().planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types(self.forms)))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let name = name.strip_prefix("pg_catalog.").unwrap_or(name);
        self.extra.scalar_function(name).or_else(|| functions().scalar(name).cloned())
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        functions().higher_order(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        functions().aggregate(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        functions().window(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        functions().scalar_names().map(str::to_string).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        functions().aggregate_names().map(str::to_string).collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        functions().window_names().map(str::to_string).collect()
    }
}

/// A view whose query takes its place.
struct LogicalViewSource {
    schema: SchemaRef,
    plan: Arc<LogicalPlan>,
}

impl TableSource for LogicalViewSource {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn get_logical_plan(&'_ self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(self.plan.as_ref()))
    }
}

/// Types in expressions are the types of columns.
#[derive(Debug)]
struct Types(TypeForms);

impl TypePlanner for Types {
    fn plan_type_field(&self, sql: &SqlType) -> datafusion::error::Result<Option<FieldRef>> {
        // What has no column form, such as an array, the planner may know.
        Ok(arrow_type(sql, self.0).ok().map(|data_type| Arc::new(Field::new("", data_type, true))))
    }
}
