//! [`CatalogUse`]: what of the session's own catalog a query names, and [`CatalogExtras`]: that for
//! the planner of all queries.
//!
//! A query that reads only `pg_catalog`, `information_schema` or `frazil` is a client's question
//! and planned as such. Every other query is planned like a view, with the catalog's functions and
//! tables beside the engine's relations, so that an expression means the same in both.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, ScalarUDF, TableSource};
use sqlparser::ast::{self, Visit as _};

use super::context::CatalogContext;
use crate::catalog::Catalog;
use crate::error::Result;
use crate::functions::functions;
use crate::session::lake_table::LakeTables;
use crate::session::query_error;
use crate::sql::{DATABASE, ExtraTables, Statement, StatementKind, fold};

/// Schemas of the session's own catalog.
const SCHEMAS: [&str; 3] = ["pg_catalog", "information_schema", "frazil"];
/// Types that only the catalog has.
const TYPES: [&str; 12] = [
    "aclitem",
    "name",
    "oid",
    "oidvector",
    "regclass",
    "regnamespace",
    "regoper",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
    "xid",
];

/// What of the session's own catalog a query names.
#[derive(Debug, Default)]
pub(in crate::session) struct CatalogUse {
    /// Its tables, by schema and name.
    pub(in crate::session) tables: BTreeSet<(String, String)>,
    /// Whether a table function, or a type, is one that only the catalog has.
    pub(in crate::session) is_special: bool,
    /// Functions of a row that only the catalog has.
    pub(in crate::session) functions: BTreeSet<String>,
    /// Whether relations outside of the catalog are read.
    pub(in crate::session) reads_others: bool,
}

impl CatalogUse {
    /// What a query names.
    pub(in crate::session) fn of(
        statement: &Statement,
        catalog: &Catalog,
        context: &CatalogContext,
    ) -> Self {
        let StatementKind::Query(query) = &statement.kind else { return Self::default() };
        let found = Self::default();
        let mut finder = Finder { catalog, context, found, with: BTreeSet::new() };
        // The visitor never breaks off.
        let _ = query.visit(&mut finder);
        finder.found
    }

    /// Whether nothing of the catalog is named.
    pub(in crate::session) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.functions.is_empty() && !self.is_special
    }

    /// Whether the query is a question about the catalog alone.
    pub(in crate::session) fn is_question(&self) -> bool {
        !self.reads_others && (self.is_special || !self.tables.is_empty())
    }
}

struct Finder<'a> {
    catalog: &'a Catalog,
    context: &'a CatalogContext,
    found: CatalogUse,
    /// Names of WITH.
    with: BTreeSet<String>,
}

impl Finder<'_> {
    fn note_table(&mut self, schema: &str, name: &str) {
        self.found.tables.insert((schema.to_string(), name.to_string()));
    }
}

/// The function that a word without parentheses calls.
fn standing_for(name: &str) -> &str {
    match name {
        "current_user" | "current_role" | "user" => "session_user",
        "current_catalog" => "current_database",
        name => name,
    }
}

fn parts(name: &ast::ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect()
}

impl ast::Visitor for Finder<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.with.extend(tables.map(|table| fold(&table.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<()> {
        let ast::TableFactor::Table { name, args, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let parts = parts(name);
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        if args.is_some() {
            let is_known = |name: &&str| self.context.has_table_function(name);
            let is_everyones = |name: &&str| ["generate_series", "unnest"].contains(name);
            let name = parts.last().filter(|name| is_known(name) && !is_everyones(name));
            self.found.is_special |= name.is_some();
            return ControlFlow::Continue(());
        }
        match parts.as_slice() {
            [name] if self.with.contains(*name) => {}
            [name] if self.catalog.get(name).is_none() && self.context.has_table(name) => {
                self.note_table("pg_catalog", name);
            }
            [schema, name] | [DATABASE, schema, name] if SCHEMAS.contains(schema) => {
                self.note_table(schema, name);
            }
            _ => self.found.reads_others = true,
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        match expr {
            ast::Expr::Function(call) => {
                let parts = parts(&call.name);
                let Some(name) = parts.last() else { return ControlFlow::Continue(()) };
                let is_known = self.context.has_function(standing_for(name));
                if is_known && !functions().contains(name) {
                    self.found.functions.insert(name.clone());
                }
            }
            ast::Expr::Cast { data_type, .. }
            | ast::Expr::TypedString(ast::TypedString { data_type, .. }) => {
                let text = data_type.to_string().to_lowercase();
                let text = text.trim_start_matches("pg_catalog.").trim_end_matches("[]");
                self.found.is_special |= TYPES.contains(&text.trim_matches('"'));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Lake tables, and what a query names of the session's own catalog.
pub(in crate::session) struct CatalogExtras {
    lake: LakeTables,
    functions: HashMap<String, Arc<ScalarUDF>>,
    tables: HashMap<(String, String), Arc<dyn TableSource>>,
}

impl CatalogExtras {
    /// Lake tables alone.
    pub(in crate::session) fn of_lake(lake: LakeTables) -> Self {
        Self { lake, functions: HashMap::new(), tables: HashMap::new() }
    }

    /// Looks up what `named` names; `state` is that of the catalog's planner.
    ///
    /// # Errors
    /// What the catalog's tables say.
    pub(in crate::session) async fn load(
        lake: LakeTables,
        named: &CatalogUse,
        state: &SessionState,
    ) -> Result<Self> {
        let known = state.scalar_functions();
        let functions = named.functions.iter();
        let functions = functions
            .filter_map(|name| Some((name.clone(), Arc::clone(known.get(standing_for(name))?))))
            .collect();
        let mut tables = HashMap::new();
        for (schema, name) in &named.tables {
            let reference = TableReference::partial(schema.as_str(), name.as_str());
            let found = state.schema_for_ref(reference).map_err(query_error)?;
            if let Some(table) = found.table(name).await.map_err(query_error)? {
                tables.insert((schema.clone(), name.clone()), provider_as_source(table));
            }
        }
        Ok(Self { lake, functions, tables })
    }
}

impl ExtraTables for CatalogExtras {
    fn table(&self, reference: &TableReference) -> Option<Arc<dyn TableSource>> {
        let schema = reference.schema().unwrap_or("pg_catalog").to_string();
        let here = reference.catalog().is_none_or(|database| database == DATABASE);
        let own = here.then(|| self.tables.get(&(schema, reference.table().to_string())).cloned());
        own.flatten().or_else(|| self.lake.table(reference))
    }

    fn scalar_function(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.get(name).cloned()
    }

    fn table_function(
        &self,
        name: &str,
        args: &[Expr],
    ) -> Option<datafusion::error::Result<Arc<dyn TableSource>>> {
        self.lake.table_function(name, args)
    }
}
