//! [`Shared`]: what the sessions of an engine share.

use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use tokio::sync::OnceCell;

use super::cached_plans::{CachedPlan, CachedPlans};
use super::pg_catalog::CatalogContext;
use super::query_runtime::QueryRuntime;
use super::relation_schema::RelationSchema;
use super::table_locks::TableLocks;
use crate::catalog::Catalog;
use crate::error::Result;
use crate::job::Engine;
use crate::sql::{Bound, Statement};

mod counters;

use counters::Counters;

/// What the sessions of an engine share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The engine.
    pub(super) engine: Engine,
    /// Locks of statements that read what they change.
    pub(super) locks: TableLocks,
    /// Plans of statements with parameters.
    pub(super) plans: CachedPlans,
    /// Numbers of identity columns.
    pub(super) counters: Counters,
    catalog_context: OnceCell<CatalogContext>,
    queries: OnceCell<QueryRuntime>,
}

impl Shared {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine,
            locks: TableLocks::default(),
            plans: CachedPlans::default(),
            counters: Counters::default(),
            catalog_context: OnceCell::new(),
            queries: OnceCell::new(),
        }
    }

    /// The threads of queries, started for the first.
    pub(super) async fn queries(&self) -> Result<&QueryRuntime> {
        let start = || async { QueryRuntime::start(self.engine.config(), self.engine.memory()) };
        self.queries.get_or_try_init(start).await
    }

    /// Keeps the plan of a bound statement, if it has parameters and is one that can be kept. What
    /// it reads besides relations of the engine would be another table the next time.
    pub(super) async fn keep_plan(
        &self,
        catalog: &Arc<Catalog>,
        tables: &RelationSchema,
        statement: &Statement,
        bound: &Bound,
        params: &[ScalarValue],
    ) -> Result<()> {
        let (text, planner) = (&statement.text, self.queries().await?.planner());
        let start = self.engine.env().now();
        let plan = || CachedPlan::of(bound, params, planner, tables, start);
        self.plans.keep(catalog, text, params, plan);
        Ok(())
    }

    /// The planner of questions about the catalog, loaded when the first is asked.
    pub(super) async fn catalog_context(&self) -> Result<&CatalogContext> {
        self.catalog_context.get_or_try_init(|| async { CatalogContext::load() }).await
    }
}
