//! Filters go down, but never to where they would mean another thing.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Filter, Join, Limit, LogicalPlan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule, push_down_filter};

use super::guards::{holds_condition, split};

/// DataFusion's `push_down_filter`, kept from what would change a query's rows or its errors:
///
/// - It takes a predicate without columns, such as NULL, below a total, which has a row over no
///   rows. Here it stays above.
/// - It takes a predicate that may fail below a join, or into another filter. Here it stays above,
///   as `guards` says.
/// - Of `id > 1 AND id NOT IN (SELECT k …)` it infers `k > 1` for the subquery's side, which drops
///   its NULL, so that rows come back. Here the predicate goes to the left side alone.
///
/// **Law:** the plan gives the same rows before and after.
#[derive(Debug, Default)]
pub(super) struct PushDownFilter(push_down_filter::PushDownFilter);

impl PushDownFilter {
    pub(super) const NAME: &str = "push_down_filter";

    fn pushed(
        &self,
        node: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match node {
            LogicalPlan::Filter(Filter { predicate, input, .. }) => {
                match Arc::unwrap_or_clone(input) {
                    // Its columns are those of the left side.
                    LogicalPlan::Join(join) if join.null_aware => {
                        let left = Filter::try_new(predicate, Arc::clone(&join.left))?;
                        let left = Arc::new(LogicalPlan::Filter(left));
                        Ok(Transformed::yes(LogicalPlan::Join(Join { left, ..join })))
                    }
                    LogicalPlan::Join(join) if holds_condition(&join) => {
                        let bare = LogicalPlan::Join(Join { filter: None, ..join.clone() });
                        let filter = Filter::try_new(predicate, Arc::new(bare))?;
                        let pushed = self.0.rewrite(LogicalPlan::Filter(filter), config)?;
                        pushed.map_data(|plan| with_condition(plan, join))
                    }
                    input => {
                        let filter = Filter::try_new(predicate, Arc::new(input))?;
                        self.0.rewrite(LogicalPlan::Filter(filter), config)
                    }
                }
            }
            LogicalPlan::Join(join) if join.null_aware || holds_condition(&join) => {
                Ok(Transformed::no(LogicalPlan::Join(join)))
            }
            node => self.0.rewrite(node, config),
        }
    }
}

/// A join, or a filter over it, with the condition that it had.
fn with_condition(plan: LogicalPlan, before: Join) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Join(join) => Ok(LogicalPlan::Join(Join { filter: before.filter, ..join })),
        LogicalPlan::Filter(Filter { predicate, input, .. }) => {
            let input = Arc::new(with_condition(Arc::unwrap_or_clone(input), before)?);
            Ok(LogicalPlan::Filter(Filter::try_new(predicate, input)?))
        }
        _ => datafusion::common::internal_err!("a filter over a join became something else"),
    }
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
        let plan = plan.transform_up_with_subqueries(with_barrier)?.data;
        let pushed = plan.transform_down_with_subqueries(|node| self.pushed(node, config))?;
        pushed.map_data(|plan| {
            Ok(plan.transform_up_with_subqueries(|node| Ok(without_barrier(node)))?.data)
        })
    }
}

/// Limits to all rows, which no filter passes: above totals, and below conditions that may fail.
fn with_barrier(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let barrier = |input| LogicalPlan::Limit(Limit { skip: None, fetch: None, input });
    match node {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            Ok(Transformed::yes(barrier(Arc::new(LogicalPlan::Aggregate(aggregate)))))
        }
        LogicalPlan::Filter(filter) => {
            let (moved, held) = split(&filter.predicate, filter.input.schema());
            let Some(held) = conjunction(held) else {
                return Ok(Transformed::no(LogicalPlan::Filter(filter)));
            };
            let input = match conjunction(moved) {
                None => filter.input,
                Some(moved) => Arc::new(LogicalPlan::Filter(Filter::try_new(moved, filter.input)?)),
            };
            let held = Filter::try_new(held, Arc::new(barrier(input)))?;
            Ok(Transformed::yes(LogicalPlan::Filter(held)))
        }
        node => Ok(Transformed::no(node)),
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
