//! How a query that runs once is planned.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::optimizer::{Optimizer, OptimizerContext, OptimizerRule};
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
/// A *short* plan reads one table or constants, without joins, groups and subqueries: only the
/// rules that have something to do in it are run, once. If it also reads a few rows only, such as
/// those of a key, it is run as it was planned, by one thread: most of what SELECT, UPDATE and
/// DELETE by key cost is planning.
///
/// **Law:** optimised = as written.
#[derive(Debug)]
pub struct BatchPlanner {
    base: SessionState,
    short_rules: Optimizer,
    folding: Optimizer,
    short_options: Arc<ConfigOptions>,
    few_rows: SessionState,
    task: Arc<TaskContext>,
}

impl BatchPlanner {
    /// A planner of queries that share `memory`.
    #[must_use]
    pub fn new(memory: Arc<RuntimeEnv>) -> Self {
        let mut config = SessionConfig::new();
        // It takes differing nullability of `x IS TRUE` for an error.
        config.options_mut().execution.skip_physical_aggregate_schema_check = true;
        let base = state(config.clone(), memory);
        let mut short_options = ConfigOptions::clone(base.config_options());
        short_options.optimizer.max_passes = 1;
        let mut short_rules = base.optimizer().clone();
        short_rules.rules.retain(|rule| SHORT_RULES.contains(&rule.name()));
        let mut folding = short_rules.clone();
        folding.rules.retain(|rule| rule.name() == FOLDING);
        let few_rows = SessionStateBuilder::new_from_existing(base.clone())
            .with_config(config.with_target_partitions(1))
            .with_physical_optimizer_rules(Vec::new())
            .build();
        let task = base.task_ctx();
        Self { base, short_rules, folding, short_options: Arc::new(short_options), few_rows, task }
    }

    /// What the queries share.
    #[must_use]
    pub fn memory(&self) -> Arc<RuntimeEnv> {
        Arc::clone(self.base.runtime_env())
    }

    /// What its plans are run with.
    #[must_use]
    pub fn task(&self) -> Arc<TaskContext> {
        Arc::clone(&self.task)
    }

    /// What plans of all rules are made with; `start` is what `now()` says.
    fn state_at(&self, start: DateTime<Utc>) -> SessionState {
        let mut state = self.base.clone();
        *state.execution_props_mut() = ExecutionProps::new().with_query_execution_start_time(start);
        state
    }

    /// Optimises a query and plans how it is run; `start` is what `now()` says, and `gives_few`
    /// whether a scan gives a few rows only.
    ///
    /// # Errors
    /// What the planner says.
    pub async fn physical_plan(
        &self,
        plan: &LogicalPlan,
        start: DateTime<Utc>,
        gives_few: impl Fn(&TableScan) -> bool,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match self.short_plan(plan, start)? {
            Some(plan) => self.physical_plan_of_short(plan, gives_few).await,
            None => physical_plan(&self.state_at(start), plan).await,
        }
    }

    /// Optimises a short plan, which may have parameters; `None` if the plan is not short.
    ///
    /// # Errors
    /// What the planner says.
    pub fn short_plan(
        &self,
        plan: &LogicalPlan,
        start: DateTime<Utc>,
    ) -> Result<Option<LogicalPlan>> {
        if !is_short(plan)? {
            return Ok(None);
        }
        let options = &self.short_options;
        let plan = self.base.analyzer().execute_and_check(plan.clone(), options, |_, _| {})?;
        let context = OptimizerContext::new_with_config_options(Arc::clone(options))
            .with_query_execution_start_time(start);
        self.short_rules.optimize(plan, &context, |_, _| {}).map(Some)
    }

    /// A [`BatchPlanner::short_plan`] whose parameters have got values, with these folded.
    ///
    /// # Errors
    /// What the planner says.
    pub fn folded(&self, short_plan: LogicalPlan) -> Result<LogicalPlan> {
        let context = OptimizerContext::new_with_config_options(Arc::clone(&self.short_options));
        self.folding.optimize(short_plan, &context, |_, _| {})
    }

    /// Plans how a [`BatchPlanner::short_plan`] is run.
    ///
    /// # Errors
    /// What the planner says.
    pub async fn physical_plan_of_short(
        &self,
        short_plan: LogicalPlan,
        gives_few: impl Fn(&TableScan) -> bool,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = lowered(short_plan)?;
        let mut is_few = true;
        plan.apply(|node| {
            is_few &= !matches!(node, LogicalPlan::TableScan(scan) if !gives_few(scan));
            Ok(TreeNodeRecursion::Continue)
        })?;
        let state = if is_few { &self.few_rows } else { &self.base };
        state.query_planner().create_physical_plan(&plan, state).await
    }
}

/// The rule that folds constants.
const FOLDING: &str = "simplify_expressions";

/// The rules that have something to do in a short plan.
const SHORT_RULES: [&str; 9] = [
    FOLDING,
    "eliminate_duplicated_expr",
    "eliminate_filter",
    "eliminate_limit",
    "propagate_empty_relation",
    "push_down_limit",
    PushDownFilter::NAME,
    "common_sub_expression_eliminate",
    "optimize_projections",
];

/// True for a plan of one chain of nodes over a table or constants, without subqueries.
fn is_short(plan: &LogicalPlan) -> Result<bool> {
    let mut is_short = true;
    plan.apply(|node| {
        is_short &= matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::Sort(_)
                | LogicalPlan::Limit(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::TableScan(_)
                | LogicalPlan::Values(_)
                | LogicalPlan::EmptyRelation(_)
        );
        if !is_short {
            return Ok(TreeNodeRecursion::Stop);
        }
        node.apply_expressions(|expr| {
            is_short &= !expr.exists(|part| Ok(is_subquery(part)))?;
            Ok(if is_short { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        })
    })?;
    Ok(is_short)
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::SetComparison(_)
            | Expr::Unnest(_)
            | Expr::OuterReferenceColumn(..)
    )
}

fn state(config: SessionConfig, memory: Arc<RuntimeEnv>) -> SessionState {
    SessionStateBuilder::new_with_default_features()
        .with_config(config)
        .with_runtime_env(memory)
        .with_analyzer_rule(Arc::new(AsPostgres))
        .with_analyzer_rule(Arc::new(WideSums))
        .with_analyzer_rule(Arc::new(FloatExtremes))
        .with_analyzer_rule(Arc::new(Guards))
        .with_optimizer_rules(logical_rules())
        .with_physical_optimizer_rules(physical_rules())
        .build()
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

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn planned(sql: &str, is_few: bool) -> (LogicalPlan, String, String) {
        let planner = BatchPlanner::new(Arc::new(RuntimeEnv::default()));
        let schema = Arc::new(Schema::new(vec![
            Field::new("k", DataType::Int64, false),
            Field::new("v", DataType::Int64, true),
        ]));
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(0..100)),
            Arc::new(Int64Array::from_iter((0..100).map(|v| (v % 7 != 0).then_some(v)))),
        ];
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let context = SessionContext::new_with_state(planner.base.clone());
        let table = MemTable::try_new(schema, vec![vec![rows]]).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        let plan = context.state().create_logical_plan(sql).await.unwrap();
        let start = DateTime::from_timestamp(0, 0).unwrap();
        let physical = planner.physical_plan(&plan, start, |_| is_few).await.unwrap();
        let text = displayable(physical.as_ref()).indent(false).to_string();
        let rows = collect(physical, planner.task()).await.unwrap();
        (plan, text, pretty_format_batches(&rows).unwrap().to_string())
    }

    #[tokio::test]
    async fn short_plans_give_what_all_rules_give() {
        for sql in [
            "SELECT k, v + 1 AS w FROM t WHERE k = 5",
            "SELECT v FROM t WHERE k IN (1, 7, 9) AND v IS NOT NULL ORDER BY v DESC",
            "SELECT x.k * 2 FROM (SELECT k, v FROM t WHERE v > 3) AS x ORDER BY 1 LIMIT 3 OFFSET 2",
            "SELECT k FROM t WHERE k = 1 AND 1 = 2",
            "SELECT * FROM (VALUES (1, 'a'), (2, NULL)) AS v (n, s) WHERE s IS NULL",
            "SELECT now() AS t, CASE WHEN v = 0 THEN NULL ELSE k / v END FROM t WHERE k = 8",
        ] {
            let (plan, text, few) = planned(sql, true).await;
            assert!(is_short(&plan).unwrap(), "{sql}");
            assert!(!text.contains("Repartition"), "{sql}\n{text}");
            assert_eq!(few, planned(sql, false).await.2, "{sql}");
            let planner = BatchPlanner::new(Arc::new(RuntimeEnv::default()));
            let start = DateTime::from_timestamp(0, 0).unwrap();
            let all = physical_plan(&planner.state_at(start), &plan).await.unwrap();
            let all = collect(all, planner.task()).await.unwrap();
            assert_eq!(few, pretty_format_batches(&all).unwrap().to_string(), "{sql}");
        }
    }

    #[tokio::test]
    async fn joins_groups_and_subqueries_get_all_rules() {
        for sql in [
            "SELECT count(*) FROM t",
            "SELECT DISTINCT v FROM t",
            "SELECT k FROM t WHERE v = (SELECT max(v) FROM t)",
            "SELECT k FROM t WHERE k IN (SELECT v FROM t)",
            "SELECT a.k FROM t AS a JOIN t AS b ON a.k = b.v",
            "SELECT k FROM t UNION ALL SELECT v FROM t",
            "SELECT row_number() OVER (ORDER BY k) FROM t",
        ] {
            let (plan, ..) = planned(sql, true).await;
            assert!(!is_short(&plan).unwrap(), "{sql}");
        }
    }
}
