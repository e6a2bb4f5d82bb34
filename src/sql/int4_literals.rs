//! [`int4_literals`]: an integer of the text is an `integer` if it fits one.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Values};
use datafusion::scalar::ScalarValue;

use crate::plan::with_expressions;

/// The plan with integers of the text as `integer`, where the planner has them as `bigint`. What
/// counts rows keeps its own: LIMIT, `count(1)`, offsets of window functions.
///
/// Law: before parameters have values, and before the plan is optimised, a `Literal(Int64)` is an
/// integer of the text, or a quoted literal beside a `bigint`, with which it becomes one again.
///
/// # Errors
/// What the planner says of the types.
pub(super) fn int4_literals(plan: LogicalPlan) -> Result<LogicalPlan> {
    // Both parts of a recursive query have the types that the first had when it was planned.
    if plan.exists(|node| Ok(matches!(node, LogicalPlan::RecursiveQuery(_))))? {
        return Ok(plan);
    }
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Limit(_) => node.recompute_schema().map(Transformed::yes),
        LogicalPlan::Values(values) => narrow_values(values),
        node => with_expressions(node, |expr, _| Ok(narrowed(expr))),
    })?;
    Ok(plan.data)
}

fn narrowed(expr: Expr) -> Transformed<Expr> {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => match i32::try_from(value) {
            Ok(value) => Transformed::yes(Expr::Literal(ScalarValue::from(value), metadata)),
            Err(_) => Transformed::no(Expr::Literal(ScalarValue::Int64(Some(value)), metadata)),
        },
        Expr::AggregateFunction(mut call) if call.func.name() == "count" => {
            call.params.args.iter_mut().for_each(widen);
            Transformed::yes(Expr::AggregateFunction(call))
        }
        Expr::WindowFunction(mut call) => {
            call.params.args.iter_mut().for_each(widen);
            Transformed::yes(Expr::WindowFunction(call))
        }
        other => Transformed::no(other),
    }
}

fn widen(expr: &mut Expr) {
    if let Expr::Literal(ScalarValue::Int32(Some(value)), _) = expr {
        *expr = Expr::Literal(ScalarValue::from(i64::from(*value)), None);
    }
}

/// VALUES of a query have the types that their rows had when they were planned, so that they are
/// made again. Those of an INSERT have the types of its table.
fn narrow_values(values: Values) -> Result<Transformed<LogicalPlan>> {
    let fields = values.schema.fields().iter().enumerate();
    let is_of_query =
        fields.into_iter().all(|(at, field)| *field.name() == format!("column{}", at + 1));
    let is_placeholder = |expr: &Expr| Ok(matches!(expr, Expr::Placeholder(_)));
    let mut exprs = values.values.iter().flatten();
    let has_parameters = exprs.any(|expr| expr.exists(is_placeholder).unwrap_or(true));
    if !is_of_query || has_parameters {
        return Ok(Transformed::no(LogicalPlan::Values(values)));
    }
    let rows = values.values.into_iter().map(|row| {
        let row = row.into_iter().map(|value| value.transform_up(|it| Ok(narrowed(it))));
        row.map(|value| value.map(|value| value.data)).collect::<Result<Vec<_>>>()
    });
    let made = LogicalPlanBuilder::values(rows.collect::<Result<_>>()?)?.build()?;
    Ok(Transformed::yes(made))
}
