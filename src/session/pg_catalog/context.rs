//! [`CatalogContext`]: plans clients' questions about the catalog.

use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    SchemaProvider,
};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use super::functions::functions;
use super::own_tables::FrazilSchema;
use super::pg_tables::PgCatalogSchema;
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::session::{Variables, query_error};

/// The one database.
pub(super) const DATABASE: &str = "dev";
/// The schema of the engine's relations.
pub(super) const SCHEMA: &str = "public";

/// What a text about the catalog mentions.
const MENTIONS: &[&str] = &["pg_", "information_schema", "frazil.", "version", "current_setting"];

/// Plans clients' questions about the catalog; shared by all sessions.
#[derive(Debug)]
pub(in crate::session) struct CatalogContext {
    base: SessionState,
    standard: Arc<dyn SchemaProvider>,
    parser: PostgresCompatibilityParser,
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
        Ok(Self { base: context.state(), standard, parser })
    }

    /// Whether a text may ask about the catalog. A false alarm costs a second planning.
    pub(in crate::session) fn concerns(text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        MENTIONS.iter().any(|mention| text.contains(mention))
    }

    /// The state that such a question is planned and run in; `public` holds the relations.
    ///
    /// # Errors
    /// `Internal` only.
    pub(in crate::session) fn state(
        &self,
        catalog: &Arc<Catalog>,
        variables: &Variables,
        public: Arc<dyn SchemaProvider>,
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
            .build();
        for function in functions(catalog, variables) {
            use datafusion::execution::FunctionRegistry;
            state.register_udf(Arc::new(function)).map_err(query_error)?;
        }
        Ok(state)
    }

    /// Plans a question.
    ///
    /// # Errors
    /// That it is not about the catalog, or beyond what DataFusion can plan.
    pub(in crate::session) async fn plan(
        &self,
        state: &SessionState,
        text: &str,
    ) -> Result<LogicalPlan> {
        let mut statements = self
            .parser
            .parse(&without_array_queries(text))
            .map_err(|error| Error::new(ErrorKind::Syntax, error.to_string()))?;
        let Some(statement) = statements.pop().filter(|_| statements.is_empty()) else {
            return Err(Error::internal("a question about the catalog is not one statement"));
        };
        let statement = DataFusionStatement::Statement(Box::new(statement));
        state.statement_to_plan(statement).await.map_err(query_error)
    }
}

/// The text with NULL for each `ARRAY(SELECT …)`, which DataFusion cannot plan: psql asks so for
/// options and memberships, of which there are none here.
fn without_array_queries(text: &str) -> String {
    const START: &str = "array(select";
    let folded = text.to_ascii_lowercase();
    let (mut kept, mut at) = (String::new(), 0);
    while let Some(found) = folded[at..].find(START) {
        let start = at + found;
        let mut depth = 0;
        let end = folded[start..].find(|letter| {
            depth += i32::from(letter == '(') - i32::from(letter == ')');
            letter == ')' && depth == 0
        });
        let Some(end) = end else { break };
        kept += &text[at..start];
        kept += "NULL";
        at = start + end + 1;
    }
    kept + &text[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_queries_are_null() {
        let text = "SELECT a, ARRAY(SELECT f(b) FROM c) AS d, array(select 1), '(' FROM e";
        assert_eq!(without_array_queries(text), "SELECT a, NULL AS d, NULL, '(' FROM e");
        assert_eq!(without_array_queries("SELECT array(select 1"), "SELECT array(select 1");
    }
}
