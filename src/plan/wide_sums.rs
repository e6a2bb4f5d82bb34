//! [`WideSums`]: a sum that does not fit its type is an error, as in a view.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, cast};
use datafusion::optimizer::AnalyzerRule;

use super::rewriting::with_types;

/// Digits of a 64-bit integer.
const DIGITS: u8 = 20;

/// Sums integers in 128 bits and casts the result back, where the planner's sums wrap around.
#[derive(Debug)]
pub(super) struct WideSums;

impl AnalyzerRule for WideSums {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Aggregate(aggregate) => widened(aggregate),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &'static str {
        "wide_sums"
    }
}

fn widened(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let input = aggregate.input.schema();
    let is_sum = |expr: &Expr| matches!(expr, Expr::AggregateFunction(call) if is_sum(call, input));
    let narrow: Vec<bool> =
        aggregate.aggr_expr.iter().map(|expr| is_sum(unaliased(expr))).collect();
    if !narrow.contains(&true) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let schema = Arc::clone(&aggregate.schema);
    let groups = schema.fields().len() - narrow.len();
    let calls = aggregate.aggr_expr.into_iter().enumerate().map(|(index, expr)| {
        if !narrow[index] {
            return expr;
        }
        let (qualifier, field) = schema.qualified_field(groups + index);
        let Expr::AggregateFunction(mut call) = unaliased(&expr).clone() else { return expr };
        for arg in &mut call.params.args {
            *arg = cast(std::mem::take(arg), DataType::Decimal128(DIGITS, 0));
        }
        Expr::AggregateFunction(call).alias_qualified(qualifier.cloned(), field.name())
    });
    let calls = calls.collect();
    let wide = Aggregate::try_new(aggregate.input, aggregate.group_expr, calls)?;
    let narrowed = |at: usize| {
        let is_narrow = at >= groups && narrow[at - groups];
        is_narrow.then(|| schema.field(at).data_type().clone())
    };
    Ok(Transformed::yes(with_types(LogicalPlan::Aggregate(wide), narrowed)?))
}

fn is_sum(call: &AggregateFunction, input: &DFSchema) -> bool {
    let of_integers = |arg: &Expr| arg.get_type(input).is_ok_and(|it| it.is_integer());
    call.func.name() == "sum" && call.params.args.iter().all(of_integers)
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}
