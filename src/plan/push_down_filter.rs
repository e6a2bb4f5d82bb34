//! Filters go down, but never below a total.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Limit, LogicalPlan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule, push_down_filter};

/// DataFusion's `push_down_filter`, kept above aggregates without groups.
///
/// The rule takes a predicate below an aggregate if all of its columns are groups. One without
/// columns, such as NULL or `d` where `d` stands for `false`, always goes; but an aggregate
/// without groups has a row over no rows, too, so that the predicate no longer removes it.
///
/// **Law:** the plan gives the same rows before and after.
#[derive(Debug, Default)]
pub(super) struct PushDownFilter(push_down_filter::PushDownFilter);

impl PushDownFilter {
    pub(super) const NAME: &str = "push_down_filter";
}

impl OptimizerRule for PushDownFilter {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let plan = plan.transform_up_with_subqueries(|node| Ok(with_barrier(node)))?.data;
        let pushed = plan.transform_down_with_subqueries(|node| self.0.rewrite(node, config))?;
        pushed.map_data(|plan| {
            Ok(plan.transform_up_with_subqueries(|node| Ok(without_barrier(node)))?.data)
        })
    }
}

/// A limit to all rows, which no filter passes.
fn with_barrier(node: LogicalPlan) -> Transformed<LogicalPlan> {
    match &node {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            let input = Arc::new(node);
            Transformed::yes(LogicalPlan::Limit(Limit { skip: None, fetch: None, input }))
        }
        _ => Transformed::no(node),
    }
}

fn without_barrier(node: LogicalPlan) -> Transformed<LogicalPlan> {
    match node {
        LogicalPlan::Limit(Limit { skip: None, fetch: None, input }) => {
            Transformed::yes(Arc::unwrap_or_clone(input))
        }
        other => Transformed::no(other),
    }
}
