//! How a query that runs once is planned.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::error::Result;
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;

use super::float_extremes::FloatExtremes;
use super::guards::{Guards, lowered};
use super::postgres::AsPostgres;
use super::push_down_filter::PushDownFilter;
use super::wide_sums::WideSums;

/// DataFusion's planner, but for the rules that change an answer: made once, since the table of all
/// functions costs more than most statements.
///
/// **Law:** optimised = as written.
#[derive(Debug)]
pub struct BatchPlanner {
    base: SessionState,
}

impl BatchPlanner {
    /// A planner of queries that share `memory`.
    #[must_use]
    pub fn new(memory: Arc<RuntimeEnv>) -> Self {
        let mut config = SessionConfig::new();
        // It takes differing nullability of `x IS TRUE` for an error.
        config.options_mut().execution.skip_physical_aggregate_schema_check = true;
        let base = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_runtime_env(memory)
            .with_analyzer_rule(Arc::new(AsPostgres))
            .with_analyzer_rule(Arc::new(WideSums))
            .with_analyzer_rule(Arc::new(FloatExtremes))
            .with_analyzer_rule(Arc::new(Guards))
            .with_optimizer_rules(logical_rules())
            .with_physical_optimizer_rules(physical_rules())
            .build();
        Self { base }
    }

    /// The state to plan and run a query in; `start` is what `now()` says.
    #[must_use]
    pub fn state(&self, start: DateTime<Utc>) -> SessionState {
        let mut state = self.base.clone();
        let props = ExecutionProps::new().with_query_execution_start_time(start);
        *state.execution_props_mut() = props;
        state
    }

    /// What the queries share.
    #[must_use]
    pub fn memory(&self) -> Arc<RuntimeEnv> {
        Arc::clone(self.base.runtime_env())
    }
}

/// Optimises a query and plans how it is run. Guards come into force after all rules, since these
/// would take them apart.
///
/// # Errors
/// What the planner says.
pub async fn physical_plan(
    state: &SessionState,
    plan: &LogicalPlan,
) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = lowered(state.optimize(plan)?)?;
    state.query_planner().create_physical_plan(&plan, state).await
}

fn logical_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    // With all groups constant it forgets that there are groups: a row over no rows.
    rules.retain(|rule| rule.name() != "eliminate_group_by_constant");
    for rule in &mut rules {
        if rule.name() == PushDownFilter::NAME {
            *rule = Arc::new(PushDownFilter::default());
        }
    }
    rules
}

fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    // It takes predicates without columns below totals, and no table of ours takes a filter.
    rules.retain(|rule| !rule.name().starts_with("FilterPushdown"));
    // It computes what stands above a filter below it, on rows that the filter would remove.
    rules.retain(|rule| rule.name() != "ProjectionPushdown");
    rules
}
