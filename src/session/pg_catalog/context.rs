//! [`CatalogContext`]: plans clients' questions about the catalog.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    SchemaProvider,
};
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use super::client_query::rewritten;
use super::functions::functions;
use super::own_tables::FrazilSchema;
use super::pg_tables::PgCatalogSchema;
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Variables, query_error};
use crate::sql;

pub(super) use crate::sql::{DATABASE, SCHEMA};

/// Plans clients' questions about the catalog; shared by all sessions.
#[derive(Debug)]
pub(in crate::session) struct CatalogContext {
    base: SessionState,
    standard: Arc<dyn SchemaProvider>,
    parser: PostgresCompatibilityParser,
    /// Names of all functions of a row.
    functions: BTreeSet<String>,
}

impl CatalogContext {
    /// Loads the tables that never change.
    ///
    /// # Errors
    /// `Internal` only.
    pub(in crate::session) fn load() -> Result<Self> {
        let config = SessionConfig::new()
            .with_default_catalog_and_schema(DATABASE, SCHEMA)
            .with_information_schema(true);
        let context = SessionContext::new_with_config(config);
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider)
            .map_err(|error| query_error(*error))?;
        let standard = context
            .catalog(DATABASE)
            .and_then(|catalog| catalog.schema("pg_catalog"))
            .ok_or_else(|| Error::internal("pg_catalog was not set up"))?;
        let parser = PostgresCompatibilityParser::new();
        let base = context.state();
        let own = functions(&Catalog::default(), &Variables::default());
        let own = own.iter().map(|function| function.name().to_string());
        let functions = base.scalar_functions().keys().cloned().chain(own).collect();
        Ok(Self { base, standard, parser, functions })
    }

    /// Whether `pg_catalog` has a table of that name.
    pub(super) fn has_table(&self, name: &str) -> bool {
        self.standard.table_exist(name)
    }

    /// Whether a question about the catalog can call a function of that name that gives a table.
    pub(super) fn has_table_function(&self, name: &str) -> bool {
        self.base.table_functions().contains_key(name)
    }

    /// Whether a question about the catalog can call a function of that name.
    pub(super) fn has_function(&self, name: &str) -> bool {
        self.functions.contains(name)
    }

    /// The state that such a question is planned and run in; `public` holds the relations, `start`
    /// is what `now()` says.
    ///
    /// # Errors
    /// `Internal` only.
    pub(in crate::session) fn state(
        &self,
        catalog: &Arc<Catalog>,
        variables: &Variables,
        public: Arc<dyn SchemaProvider>,
        start: DateTime<Utc>,
        memory: Arc<RuntimeEnv>,
    ) -> Result<SessionState> {
        let standard = Arc::clone(&self.standard);
        let pg_catalog = PgCatalogSchema::new(standard, Arc::clone(catalog), variables.clone());
        let database = MemoryCatalogProvider::new();
        let schemas: [(&str, Arc<dyn SchemaProvider>); 3] = [
            (SCHEMA, public),
            ("pg_catalog", Arc::new(pg_catalog)),
            ("frazil", Arc::new(FrazilSchema::new(Arc::clone(catalog)))),
        ];
        for (name, schema) in schemas {
            database.register_schema(name, schema).map_err(query_error)?;
        }
        let databases = MemoryCatalogProviderList::new();
        databases.register_catalog(DATABASE.to_string(), Arc::new(database));
        let mut state = SessionStateBuilder::new_from_existing(self.base.clone())
            .with_catalog_list(Arc::new(databases))
            .with_runtime_env(memory)
            .with_execution_props(ExecutionProps::new().with_query_execution_start_time(start))
            .build();
        for function in functions(catalog, variables) {
            use datafusion::execution::FunctionRegistry;
            state.register_udf(Arc::new(function)).map_err(query_error)?;
        }
        Ok(state)
    }

    /// Plans a question: in the words of our rules, or else as it was asked, since the crate knows
    /// some clients' questions by their text.
    ///
    /// # Errors
    /// That it is not about the catalog, or beyond what DataFusion can plan.
    pub(in crate::session) async fn plan(
        &self,
        state: &SessionState,
        text: &str,
    ) -> Result<LogicalPlan> {
        let Some(rewritten) = rewritten(text) else { return self.plan_text(state, text).await };
        match self.plan_text(state, &rewritten).await {
            Ok(plan) => Ok(plan),
            Err(error) => self.plan_text(state, text).await.map_err(|_| error),
        }
    }

    async fn plan_text(&self, state: &SessionState, text: &str) -> Result<LogicalPlan> {
        let mut statements = self
            .parser
            .parse(text)
            .map_err(|error| Error::new(ErrorKind::Syntax, error.to_string()))?;
        let Some(statement) = statements.pop().filter(|_| statements.is_empty()) else {
            return Err(Error::internal("a question about the catalog is not one statement"));
        };
        let mut statement = sql::mended(statement);
        sql::with_planner_syntax(&mut statement);
        let statement = DataFusionStatement::Statement(Box::new(statement));
        let plan = state.statement_to_plan(statement).await.map_err(query_error)?;
        // What cannot be run is only found here, once all types are known.
        if plan.get_parameter_names().map_err(query_error)?.is_empty() {
            state.create_physical_plan(&plan).await.map_err(query_error)?;
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::super::client_query::EMPTY_TABLES;
    use super::*;

    #[tokio::test]
    async fn tables_that_are_said_to_be_empty_are() {
        let context = CatalogContext::load().unwrap();
        for name in EMPTY_TABLES {
            let table = context.standard.table(name).await.unwrap().unwrap();
            let frame = SessionContext::new().read_table(table).unwrap();
            assert_eq!(frame.count().await.unwrap(), 0, "{name}");
        }
    }
}
