//! [`FloatExtremes`]: the greatest float is NaN, as in a view.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast,
};
use datafusion::optimizer::AnalyzerRule;

use crate::functions::{float_of_rank, float_rank};

/// Takes min and max of floats by their ranks, since the planner's compare each value with NaN in
/// the order in which they come.
#[derive(Debug)]
pub(super) struct FloatExtremes;

impl AnalyzerRule for FloatExtremes {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Aggregate(aggregate) => ranked(aggregate),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &'static str {
        "float_extremes"
    }
}

fn ranked(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let input = aggregate.input.schema();
    let is_extreme: Vec<bool> =
        aggregate.aggr_expr.iter().map(|expr| is_extreme(unaliased(expr), input)).collect();
    if !is_extreme.contains(&true) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let schema = Arc::clone(&aggregate.schema);
    let groups = schema.fields().len() - is_extreme.len();
    let calls = aggregate.aggr_expr.into_iter().enumerate().map(|(index, expr)| {
        let Expr::AggregateFunction(mut call) = unaliased(&expr).clone() else { return expr };
        if !is_extreme[index] {
            return expr;
        }
        for arg in &mut call.params.args {
            *arg = float_rank(std::mem::take(arg));
        }
        let (qualifier, field) = schema.qualified_field(groups + index);
        Expr::AggregateFunction(call).alias_qualified(qualifier.cloned(), field.name())
    });
    let calls = calls.collect();
    let ranked = Aggregate::try_new(aggregate.input, aggregate.group_expr, calls)?;
    let columns = schema.iter().enumerate().map(|(at, (qualifier, field))| {
        let column = Expr::Column(Column::from((qualifier, field)));
        match at >= groups && is_extreme[at - groups] {
            true => cast(float_of_rank(column), field.data_type().clone())
                .alias_qualified(qualifier.cloned(), field.name()),
            false => column,
        }
    });
    let columns: Vec<Expr> = columns.collect();
    let plan = LogicalPlanBuilder::from(LogicalPlan::Aggregate(ranked)).project(columns)?;
    Ok(Transformed::yes(plan.build()?))
}

fn is_extreme(expr: &Expr, input: &DFSchema) -> bool {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expr else { return false };
    let of_floats = |arg: &Expr| arg.get_type(input).is_ok_and(|it| it.is_floating());
    ["min", "max"].contains(&func.name()) && params.args.iter().all(of_floats)
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}
