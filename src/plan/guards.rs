//! Conditions guard what stands behind them: `d <> 0 AND n / d > 2` divides by no zero.
//!
//! The planner's AND and OR compute both sides for all rows of a batch, and its rules merge and
//! move conditions. Here a condition that may fail ([`is_fallible`]) is computed only on the rows
//! that the conditions before it leave open:
//!
//! | where | what becomes of it |
//! |---|---|
//! | `WHERE a AND f` | two filters, `f` over `a`; no rule moves `f` below a join or a filter |
//! | `ON a AND f` of an inner join | `f` is a filter over the join |
//! | `ON a AND f` of another join | `CASE WHEN a THEN f ELSE false END` |
//! | `WHERE a AND l = r` of two tables | still a key of the join: `CASE WHEN a THEN l END = r` |
//! | `a OR f`, `a AND f` elsewhere | a CASE, which computes a branch on its own rows only |
//! | `sum(f) FILTER (WHERE a)` | `sum(CASE WHEN a THEN f END) FILTER (WHERE a)` |
//!
//! Conditions that cannot fail are left to the planner as they are.
//!
//! **Law:** where the query, computed row by row from left to right, has a value, so has the plan,
//! however the rows are cut into batches.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, JoinType, TableReference};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, BinaryExpr, Case};
use datafusion::logical_expr::utils::{
    conjunction, merge_schema, split_binary_owned, split_conjunction_owned,
};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, Join, LogicalPlan, Operator, lit, not,
};
use datafusion::optimizer::AnalyzerRule;

use super::fallible::is_fallible;
use super::rewriting::with_expressions;

/// A value's AND or OR becomes a CASE that names its conditions twice; deeper within each other
/// they would be named too often, and are left as they are.
const TWICE_MAX: usize = 5;

/// Prepares a plan before other rules move its conditions.
#[derive(Debug)]
pub(super) struct Guards;

impl AnalyzerRule for Guards {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(prepared)?.data)
    }

    fn name(&self) -> &'static str {
        "guards"
    }
}

fn prepared(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Filter(filter) => {
            let schema = filter.input.schema();
            let parts = with_guarded_keys(split_conjunction_owned(filter.predicate), schema);
            let predicate = conjunction(parts).unwrap_or_else(|| lit(true));
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
        }
        LogicalPlan::Join(join) if join.filter.is_some() => prepared_join(join),
        LogicalPlan::Aggregate(_) => with_expressions(node, guarded_argument),
        other => Ok(Transformed::no(other)),
    }
}

fn prepared_join(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    let schema = join_schema(&join);
    let parts = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
    let parts = with_guarded_keys(parts, &schema);
    if join.join_type != JoinType::Inner {
        join.filter = conjunction(parts);
        return Ok(Transformed::yes(LogicalPlan::Join(join)));
    }
    let (above, on): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| is_held(part, &schema));
    join.filter = conjunction(on);
    let join = LogicalPlan::Join(join);
    Ok(Transformed::yes(match conjunction(above) {
        None => join,
        Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(join))?),
    }))
}

/// The columns that a join's condition may name.
fn join_schema(join: &Join) -> DFSchema {
    merge_schema(&[&join.left, &join.right])
}

/// True for a condition that no rule may move to where more rows are: one that may fail, unless it
/// is a key of a join, which is guarded by itself.
fn is_held(part: &Expr, schema: &DFSchema) -> bool {
    is_fallible(part, schema) && key_sides(part).is_none()
}

/// The sides of an equation between different tables.
fn key_sides(part: &Expr) -> Option<(&Expr, &Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = part else { return None };
    let (one, other) = (tables(left), tables(right));
    (!one.is_empty() && !other.is_empty() && one.is_disjoint(&other))
        .then_some((left.as_ref(), right.as_ref()))
}

fn tables(expr: &Expr) -> BTreeSet<Option<TableReference>> {
    expr.column_refs().into_iter().map(|column| column.relation.clone()).collect()
}

/// Keys of joins that may fail, each side guarded by the conditions before it on the same tables.
fn with_guarded_keys(parts: Vec<Expr>, schema: &DFSchema) -> Vec<Expr> {
    let mut before: Vec<Expr> = Vec::new();
    let mut after = Vec::with_capacity(parts.len());
    for part in parts {
        if !is_fallible(&part, schema) {
            before.push(part.clone());
            after.push(part);
            continue;
        }
        let Some((left, right)) = key_sides(&part) else {
            after.push(part);
            continue;
        };
        let guarded = |side: &Expr| {
            let own = tables(side);
            let guards = before.iter().filter(|guard| {
                let named = tables(guard);
                !named.is_empty() && named.is_subset(&own)
            });
            match conjunction(guards.cloned()).filter(|_| is_fallible(side, schema)) {
                Some(guard) => case(vec![(guard, side.clone())], None),
                None => side.clone(),
            }
        };
        after.push(guarded(left).eq(guarded(right)));
    }
    after
}

/// An aggregate's arguments are computed on the rows that its FILTER takes.
fn guarded_argument(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::AggregateFunction(AggregateFunction { func, mut params }) = expr else {
        return Ok(Transformed::no(expr));
    };
    let mut changed = false;
    if let Some(filter) = &params.filter {
        for arg in &mut params.args {
            if is_fallible(arg, schema) {
                *arg = case(vec![(filter.as_ref().clone(), std::mem::take(arg))], None);
                changed = true;
            }
        }
    }
    let call = Expr::AggregateFunction(AggregateFunction { func, params });
    Ok(Transformed::new_transformed(call, changed))
}

/// A filter's conditions: those that rules may move, and those that stay above them.
pub(super) fn split(predicate: &Expr, schema: &DFSchema) -> (Vec<Expr>, Vec<Expr>) {
    let parts = split_conjunction_owned(predicate.clone());
    parts.into_iter().partition(|part| !is_held(part, schema))
}

/// True if a join has a condition that must not move into one of its sides.
pub(super) fn holds_condition(join: &Join) -> bool {
    let Some(filter) = &join.filter else { return false };
    let (_, held) = split(filter, &join_schema(join));
    !held.is_empty()
}

/// The plan, after all rules, with every guard in force.
///
/// # Errors
/// What the planner says.
pub(super) fn lowered(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(lowered_node)?.data)
}

fn lowered_node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Filter(filter) => lowered_filter(filter),
        LogicalPlan::Join(mut join) if join.filter.is_some() => {
            let schema = join_schema(&join);
            let parts = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
            let (safe, fallible): (Vec<_>, Vec<_>) =
                parts.into_iter().partition(|part| !is_fallible(part, &schema));
            let parts = safe.into_iter().chain(fallible);
            join.filter = conjunction(parts).map(|on| truth(on, &schema)).transpose()?;
            let node = LogicalPlan::Join(join);
            Ok(Transformed::yes(node))
        }
        other if has_fallible_logic(&other)? => {
            with_expressions_once(other, |expr, schema| value(expr, schema, 0))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Conditions that may fail in a filter of their own, over the others.
fn lowered_filter(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let schema = Arc::clone(filter.input.schema());
    let parts = split_conjunction_owned(filter.predicate);
    let (safe, fallible): (Vec<_>, Vec<_>) =
        parts.into_iter().partition(|part| !is_fallible(part, &schema));
    let mut input = filter.input;
    for predicate in [conjunction(safe), conjunction(fallible)].into_iter().flatten() {
        let predicate = truth(predicate, &schema)?;
        input = Arc::new(LogicalPlan::Filter(Filter::try_new(predicate, input)?));
    }
    Ok(Transformed::yes(Arc::unwrap_or_clone(input)))
}

fn has_fallible_logic(node: &LogicalPlan) -> Result<bool> {
    let schema = merge_schema(&node.inputs());
    let mut found = false;
    node.apply_expressions(|expr| {
        found |= expr.exists(|part| Ok(is_guard(part, &schema)))?;
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// True for an AND or OR whose right side may fail.
fn is_guard(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left: _, op: Operator::And | Operator::Or, right }) => {
            is_fallible(right, schema)
        }
        _ => false,
    }
}

/// As [`with_expressions`], from the root of each expression.
fn with_expressions_once(
    node: LogicalPlan,
    rewrite: impl Fn(Expr, &DFSchema) -> Result<Expr>,
) -> Result<Transformed<LogicalPlan>> {
    use datafusion::logical_expr::expr_rewriter::NamePreserver;
    let schema = merge_schema(&node.inputs());
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(Transformed::yes(name.restore(rewrite(expr, &schema)?)))
    })
}

fn case(branches: Vec<(Expr, Expr)>, otherwise: Option<Expr>) -> Expr {
    let branches = branches.into_iter().map(|(when, then)| (Box::new(when), Box::new(then)));
    Expr::Case(Case::new(None, branches.collect(), otherwise.map(Box::new)))
}

/// The expression's value, with guards in force within it. `twice` counts the conditions around it
/// that are named twice.
fn value(expr: Expr, schema: &DFSchema, twice: usize) -> Result<Expr> {
    if !expr.exists(|part| Ok(is_guard(part, schema)))? {
        return Ok(expr);
    }
    if !is_guard(&expr, schema) && !is_logic(&expr) {
        if let Expr::Case(Case { expr: None, when_then_expr, else_expr }) = expr {
            let mut branches = Vec::with_capacity(when_then_expr.len());
            for (when, then) in when_then_expr {
                let when = condition(*when, schema, true, twice)?;
                branches.push((when, value(*then, schema, twice)?));
            }
            let otherwise = else_expr.map(|it| value(*it, schema, twice)).transpose()?;
            return Ok(case(branches, otherwise));
        }
        let mapped = expr.map_children(|child| Ok(Transformed::yes(value(child, schema, twice)?)));
        return Ok(mapped?.data);
    }
    if twice >= TWICE_MAX {
        return Ok(expr);
    }
    let is_true = condition(expr.clone(), schema, true, twice + 1)?;
    if !expr.nullable(schema)? {
        return Ok(is_true);
    }
    let is_false = condition(expr, schema, false, twice + 1)?;
    Ok(case(vec![(is_true, lit(true)), (is_false, lit(false))], None))
}

fn is_logic(expr: &Expr) -> bool {
    match expr {
        Expr::Not(_) => true,
        Expr::BinaryExpr(binary) => matches!(binary.op, Operator::And | Operator::Or),
        _ => false,
    }
}

/// As [`condition`] is true; NULL counts as false.
fn truth(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    condition(expr, schema, true, 0)
}

/// A condition that is true exactly where `expr` is `wanted`, and else false or NULL; each part of
/// it is computed on the rows that the parts before it leave open.
fn condition(expr: Expr, schema: &DFSchema, wanted: bool, twice: usize) -> Result<Expr> {
    if !expr.exists(|part| Ok(is_guard(part, schema)))? {
        return Ok(if wanted { expr } else { not(expr) });
    }
    match expr {
        Expr::Not(inner) => condition(*inner, schema, !wanted, twice),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let whole = Expr::BinaryExpr(BinaryExpr { left, op, right });
            // AND is false, and OR true, as soon as one part is.
            let decided_by = op == Operator::Or;
            let parts = grouped(split_binary_owned(whole, op), op, schema);
            let mut branches = Vec::with_capacity(parts.len());
            let mut last = None;
            for part in parts {
                if let Some(part) = last.replace(part) {
                    branches.push(decides(part, schema, decided_by, wanted, twice)?);
                }
            }
            let Some(last) = last else { return Ok(lit(wanted)) };
            let last = condition(last, schema, wanted, twice)?;
            Ok(if branches.is_empty() { last } else { case(branches, Some(last)) })
        }
        other => {
            let other = value(other, schema, twice)?;
            Ok(if wanted { other } else { not(other) })
        }
    }
}

/// A part of an AND or OR as a branch: where it decides the whole, whether that is as wanted.
fn decides(
    part: Expr,
    schema: &DFSchema,
    decided_by: bool,
    wanted: bool,
    twice: usize,
) -> Result<(Expr, Expr)> {
    if decided_by == wanted {
        return Ok((condition(part, schema, wanted, twice)?, lit(true)));
    }
    // Whatever is not as wanted, NULL too, leaves the whole other than wanted.
    let holds = condition(part, schema, wanted, twice)?;
    Ok((Expr::IsNotTrue(Box::new(holds)), lit(false)))
}

/// Parts, with those that cannot fail and stand beside each other as one.
fn grouped(parts: Vec<Expr>, op: Operator, schema: &DFSchema) -> Vec<Expr> {
    let mut groups: Vec<(bool, Expr)> = Vec::new();
    for part in parts {
        let fallible = is_fallible(&part, schema);
        match groups.last_mut() {
            Some((false, group)) if !fallible => {
                let left = Box::new(std::mem::take(group));
                *group = Expr::BinaryExpr(BinaryExpr { left, op, right: Box::new(part) });
            }
            _ => groups.push((fallible, part)),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, BooleanArray, Int32Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::col;
    use datafusion::logical_expr::execution_props::ExecutionProps;
    use datafusion::physical_expr::create_physical_expr;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    type Row = (Option<bool>, i32, i32);

    /// A random condition over `a`, `n`, `d`, and what it is of a row, from left to right.
    enum Condition {
        Known,
        NonZero,
        Quotient(i32),
        Not(Box<Self>),
        And(Box<Self>, Box<Self>),
        Or(Box<Self>, Box<Self>),
        Is(Box<Self>),
    }

    impl Condition {
        fn random(random: &mut StdRng, depth: usize) -> Self {
            let below = |random: &mut StdRng| Box::new(Self::random(random, depth - 1));
            match if depth == 0 { random.random_range(0..3) } else { random.random_range(0..10) } {
                0 => Self::Known,
                1 => Self::NonZero,
                2 => Self::Quotient(random.random_range(0..3)),
                3 => Self::Not(below(random)),
                4 => Self::Is(below(random)),
                5..=7 => Self::And(below(random), below(random)),
                _ => Self::Or(below(random), below(random)),
            }
        }

        fn expr(&self) -> Expr {
            match self {
                Self::Known => col("a"),
                Self::NonZero => col("d").not_eq(lit(0_i32)),
                Self::Quotient(least) => (col("n") / col("d")).gt(lit(*least)),
                Self::Not(inner) => not(inner.expr()),
                Self::Is(inner) => Expr::IsNotTrue(Box::new(inner.expr())),
                Self::And(left, right) => left.expr().and(right.expr()),
                Self::Or(left, right) => left.expr().or(right.expr()),
            }
        }

        /// `Err` where it divides by zero.
        fn of(&self, row: Row) -> std::result::Result<Option<bool>, ()> {
            let (known, n, d) = row;
            Ok(match self {
                Self::Known => known,
                Self::NonZero => Some(d != 0),
                Self::Quotient(least) => Some(n.checked_div(d).ok_or(())? > *least),
                Self::Not(inner) => inner.of(row)?.map(|it| !it),
                Self::Is(inner) => Some(inner.of(row)? != Some(true)),
                Self::And(left, right) => match left.of(row)? {
                    Some(false) => Some(false),
                    Some(true) => right.of(row)?,
                    None => right.of(row)?.filter(|it| !it),
                },
                Self::Or(left, right) => match left.of(row)? {
                    Some(true) => Some(true),
                    Some(false) => right.of(row)?,
                    None => right.of(row)?.filter(|it| *it),
                },
            })
        }
    }

    fn batch(rows: &[Row]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Boolean, true),
            Field::new("n", DataType::Int32, true),
            Field::new("d", DataType::Int32, true),
        ]);
        let known: BooleanArray = rows.iter().map(|row| row.0).collect();
        let n: Int32Array = rows.iter().map(|row| Some(row.1)).collect();
        let d: Int32Array = rows.iter().map(|row| Some(row.2)).collect();
        let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(known), Arc::new(n), Arc::new(d)];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    fn values(expr: &Expr, rows: &RecordBatch) -> Result<Vec<Option<bool>>> {
        let schema = DFSchema::try_from(rows.schema()).unwrap();
        let expr = create_physical_expr(expr, &schema, &ExecutionProps::new())?;
        let values = expr.evaluate(rows)?.into_array(rows.num_rows())?;
        Ok(values.as_boolean().iter().collect())
    }

    #[test]
    fn guarded_conditions_are_those_of_each_row() {
        let mut random = StdRng::seed_from_u64(7);
        let (mut compared, mut rescued) = (0, 0);
        for _ in 0..3000 {
            let condition = Condition::random(&mut random, 4);
            let rows: Vec<Row> = (0..random.random_range(1..8))
                .map(|_| {
                    let known = [None, Some(false), Some(true)][random.random_range(0..3)];
                    (known, random.random_range(0..9), random.random_range(0..3))
                })
                .collect();
            let Ok(wanted) = rows.iter().map(|row| condition.of(*row)).collect() else { continue };
            let wanted: Vec<Option<bool>> = wanted;
            let batch = batch(&rows);
            let schema = DFSchema::try_from(batch.schema()).unwrap();
            let plain = condition.expr();
            let as_value = values(&value(plain.clone(), &schema, 0).unwrap(), &batch);
            assert_eq!(as_value.unwrap(), wanted, "{plain}");
            let as_truth = values(&truth(plain.clone(), &schema).unwrap(), &batch).unwrap();
            let is_true = |values: &[Option<bool>]| -> Vec<bool> {
                values.iter().map(|it| *it == Some(true)).collect()
            };
            assert_eq!(is_true(&as_truth), is_true(&wanted), "{plain}");
            compared += 1;
            rescued += usize::from(values(&plain, &batch).is_err());
        }
        assert!(compared > 1000 && rescued > 100, "{compared} compared, {rescued} rescued");
    }

    #[test]
    fn what_cannot_fail_stays_as_it_is() {
        let schema = DFSchema::try_from(batch(&[]).schema()).unwrap();
        let plain = col("a").and(col("n").gt(col("d"))).or(col("d").eq(lit(0_i32)));
        assert_eq!(truth(plain.clone(), &schema).unwrap(), plain);
        let first = (col("n") / col("d")).gt(lit(1_i32)).and(col("a"));
        assert_eq!(value(first.clone(), &schema, 0).unwrap(), first);
    }
}
