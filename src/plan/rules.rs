//! The rules that rewrite a logical plan before it is translated.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{
    Distinct, Expr, LogicalPlan, LogicalPlanBuilder, TableScan, Volatility, lit,
};
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::{
    Optimizer, OptimizerContext, OptimizerRule, decorrelate_predicate_subquery,
    eliminate_cross_join, eliminate_duplicated_expr, eliminate_filter, eliminate_join,
    eliminate_limit, eliminate_outer_join, extract_equijoin_predicate, optimize_projections,
    optimize_unions, propagate_empty_relation, replace_distinct_aggregate, scalar_subquery_to_join,
    simplify_expressions,
};

use super::guards::{Guards, lowered};
use super::postgres::AsPostgres;
use super::push_down_filter::PushDownFilter;
use crate::error::{Error, Result};

/// Rules whose output has an operator, in the order in which they run.
fn chosen() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(optimize_unions::OptimizeUnions::new()),
        Arc::new(simplify_expressions::SimplifyExpressions::new()),
        Arc::new(replace_distinct_aggregate::ReplaceDistinctWithAggregate::new()),
        Arc::new(eliminate_join::EliminateJoin::new()),
        Arc::new(decorrelate_predicate_subquery::DecorrelatePredicateSubquery::new()),
        Arc::new(scalar_subquery_to_join::ScalarSubqueryToJoin::new()),
        Arc::new(extract_equijoin_predicate::ExtractEquijoinPredicate::new()),
        Arc::new(eliminate_duplicated_expr::EliminateDuplicatedExpr::new()),
        Arc::new(eliminate_filter::EliminateFilter::new()),
        Arc::new(eliminate_cross_join::EliminateCrossJoin::new()),
        Arc::new(eliminate_limit::EliminateLimit::new()),
        Arc::new(propagate_empty_relation::PropagateEmptyRelation::new()),
        Arc::new(eliminate_outer_join::EliminateOuterJoin::new()),
        Arc::new(PushDownFilter::default()),
        Arc::new(optimize_projections::OptimizeProjections::new()),
    ]
}

/// Checks types, adds casts, and rewrites the plan for incremental operators.
///
/// # Errors
/// `Unsupported` for functions whose value changes with time or chance; what the planner says.
pub(super) fn rewrite(plan: &LogicalPlan) -> Result<LogicalPlan> {
    refuse_distinct_on(plan)?;
    refuse_changing_functions(plan)?;
    let mut options = ConfigOptions::default();
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    options.optimizer.skip_failed_rules = false;
    let mut analyzer = Analyzer::new();
    analyzer.rules.push(Arc::new(AsPostgres));
    analyzer.rules.push(Arc::new(Guards));
    let plan = analyzer.execute_and_check(plan.clone(), &options, |_, _| {})?;
    refuse_wide_scalar_subqueries(&plan)?;
    let context = OptimizerContext::new_with_config_options(Arc::new(options))
        .without_query_execution_start_time();
    let plan = Optimizer::with_rules(chosen()).optimize(plan, &context, |_, _| {})?;
    with_columns(lowered(plan)?)
}

/// Lets every input have a column, since rows without columns, as `count(*)` reads them, have no
/// form of a key: what gives none gives a column that is true, which the next join drops.
fn with_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut count = 0;
    let mut with_column = |input: LogicalPlan| {
        count += 1;
        let row = lit(true).alias(format!("row{count}"));
        LogicalPlanBuilder::from(input).project([row])?.build()
    };
    let widened = plan.transform_up(|node| match node {
        LogicalPlan::TableScan(scan) if scan.projection.as_ref().is_some_and(Vec::is_empty) => {
            let TableScan { table_name, source, filters, fetch, .. } = scan;
            let scan = TableScan::try_new(table_name, source, Some(vec![0]), filters, fetch)?;
            Ok(Transformed::yes(with_column(LogicalPlan::TableScan(scan))?))
        }
        LogicalPlan::Projection(projection) if projection.expr.is_empty() => {
            Ok(Transformed::yes(with_column(Arc::unwrap_or_clone(projection.input))?))
        }
        LogicalPlan::Join(join) => {
            let before = Arc::clone(&join.schema);
            let join = LogicalPlan::Join(join).recompute_schema()?;
            if join.schema().fields().len() == before.fields().len() {
                return Ok(Transformed::no(join));
            }
            if before.fields().is_empty() {
                return Ok(Transformed::yes(with_column(join)?));
            }
            let kept = before.iter().map(|field| Expr::Column(Column::from(field)));
            let kept: Vec<Expr> = kept.collect();
            Ok(Transformed::yes(LogicalPlanBuilder::from(join).project(kept)?.build()?))
        }
        other => Ok(Transformed::no(other.recompute_schema()?)),
    })?;
    Ok(widened.data)
}

/// The rules take DISTINCT ON apart, and fail if it has no order.
fn refuse_distinct_on(plan: &LogicalPlan) -> Result<()> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Distinct(Distinct::On(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !found {
        return Ok(());
    }
    Err(Error::unsupported("DISTINCT ON is not supported in a live view")
        .with_hint("take max or min of the columns with GROUP BY"))
}

/// A view is a function of its inputs: `now()` and `random()` are not.
fn refuse_changing_functions(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    found = Some(call.func.name().to_string());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    match found {
        None => Ok(()),
        Some(name) => {
            let message = format!("function \"{name}\" is not supported in a live view");
            Err(Error::unsupported(message)
                .with_hint("its value changes though no input does; use a column of the input"))
        }
    }
}

/// A scalar subquery of more than one row is an error, which a join would not notice.
fn refuse_wide_scalar_subqueries(plan: &LogicalPlan) -> Result<()> {
    let mut wide = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarSubquery(subquery) = expr
                    && subquery.outer_ref_columns.is_empty()
                    && subquery.subquery.max_rows() != Some(1)
                {
                    wide = true;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    if !wide {
        return Ok(());
    }
    Err(Error::unsupported("a scalar subquery that may give several rows is not supported")
        .with_hint("aggregate it without GROUP BY, such as (SELECT max(x) FROM t)"))
}
