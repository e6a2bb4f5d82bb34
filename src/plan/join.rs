//! Joins, and the subqueries that became joins.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DFSchema, JoinType, NullEquality, ScalarValue};
use datafusion::logical_expr::{Expr, Join};
use datafusion::physical_expr::expressions::{Column, IsNullExpr, Literal};
use datafusion::physical_plan::PhysicalExpr;

use super::aggregate::grouped;
use super::expression::{column_index, physical};
use super::lower::{arrow_schema, columns, filtered, projected, refuse};
use super::{IncrementalPlan, JoinKind, Node};
use crate::catalog::ChangelogMode;
use crate::error::Result;

/// Plans a join of planned inputs. RIGHT becomes LEFT with its sides exchanged; a semi join becomes
/// an inner join with the distinct keys, an anti join a left join with them that keeps rows without
/// a partner.
pub(super) fn plan_join(
    join: &Join,
    left: IncrementalPlan,
    right: IncrementalPlan,
) -> Result<IncrementalPlan> {
    if join.null_equality == NullEquality::NullEqualsNull {
        return Err(refuse("INTERSECT or EXCEPT", "write it with EXISTS or NOT EXISTS"));
    }
    if join.null_aware {
        return Err(refuse("NOT IN with a subquery", "write it with NOT EXISTS"));
    }
    match join.join_type {
        JoinType::Inner => plain(join, left, right, JoinKind::Inner),
        JoinType::Left => plain(join, left, right, JoinKind::Left),
        JoinType::Right => exchanged(join, left, right),
        JoinType::LeftSemi => semi(join, left, right),
        JoinType::LeftAnti => anti(join, left, right),
        JoinType::Full => Err(refuse(
            "FULL JOIN",
            "write a LEFT JOIN, and with UNION ALL the rows of the other side without a partner",
        )),
        JoinType::LeftMark | JoinType::RightMark => Err(refuse(
            "EXISTS or IN with a subquery inside of OR, NOT or CASE",
            "write it as a condition of its own, joined by AND, or as a join",
        )),
        JoinType::RightSemi | JoinType::RightAnti => Err(refuse("this join", "exchange its sides")),
    }
}

/// The keys of both sides; a join without them has one key that is always the same.
struct Keys {
    left: Vec<Arc<dyn PhysicalExpr>>,
    right: Vec<Arc<dyn PhysicalExpr>>,
    left_columns: Vec<Option<usize>>,
    right_columns: Vec<Option<usize>>,
}

impl Keys {
    fn new(on: &[(Expr, Expr)], left: &DFSchema, right: &DFSchema) -> Result<Self> {
        if on.is_empty() {
            let (left, right) = (vec![constant_true()], vec![constant_true()]);
            let none = vec![None];
            return Ok(Self { left, right, left_columns: none.clone(), right_columns: none });
        }
        let mut keys =
            Self { left: vec![], right: vec![], left_columns: vec![], right_columns: vec![] };
        for (one, other) in on {
            keys.left.push(physical(one, left)?);
            keys.right.push(physical(other, right)?);
            keys.left_columns.push(column_index(one, left));
            keys.right_columns.push(column_index(other, right));
        }
        Ok(keys)
    }
}

fn constant_true() -> Arc<dyn PhysicalExpr> {
    Arc::new(Literal::new(ScalarValue::Boolean(Some(true))))
}

fn plain(
    join: &Join,
    left: IncrementalPlan,
    right: IncrementalPlan,
    kind: JoinKind,
) -> Result<IncrementalPlan> {
    let keys = Keys::new(&join.on, join.left.schema(), join.right.schema())?;
    let filter = join.filter.as_ref().map(|filter| physical(filter, &join.schema)).transpose()?;
    Ok(joined(left, right, kind, keys, filter, arrow_schema(&join.schema)))
}

/// A right join: a left join with its sides exchanged.
fn exchanged(
    join: &Join,
    left: IncrementalPlan,
    right: IncrementalPlan,
) -> Result<IncrementalPlan> {
    let on: Vec<(Expr, Expr)> =
        join.on.iter().map(|(left, right)| (right.clone(), left.clone())).collect();
    let keys = Keys::new(&on, join.right.schema(), join.left.schema())?;
    let schema = join.right.schema().join(join.left.schema())?;
    let filter = join.filter.as_ref().map(|filter| physical(filter, &schema)).transpose()?;
    let (left, right) = (right, left);
    let (left_count, right_count) = (left.schema.fields().len(), right.schema.fields().len());
    let schema = arrow_schema(&join.schema);
    let order: Vec<usize> = (left_count..left_count + right_count).chain(0..left_count).collect();
    let (first, last) = schema.fields().split_at(right_count);
    let inner = Arc::new(Schema::new([last, first].concat()));
    let plan = joined(left, right, JoinKind::Left, keys, filter, inner);
    Ok(columns(plan, &order, schema))
}

fn joined(
    left: IncrementalPlan,
    right: IncrementalPlan,
    kind: JoinKind,
    keys: Keys,
    filter: Option<Arc<dyn PhysicalExpr>>,
    schema: arrow::datatypes::SchemaRef,
) -> IncrementalPlan {
    let append_only = kind == JoinKind::Inner
        && left.mode == ChangelogMode::AppendOnly
        && right.mode == ChangelogMode::AppendOnly;
    let mode = if append_only { ChangelogMode::AppendOnly } else { ChangelogMode::Retract };
    let upsert_key = join_key(&left, &right, kind, &keys);
    let node = Node::Join {
        left: Box::new(left),
        right: Box::new(right),
        kind,
        left_keys: keys.left,
        right_keys: keys.right,
        filter,
    };
    IncrementalPlan { node, schema, mode, upsert_key }
}

/// Both keys together are unique. If the join's keys hold the whole key of one side, every row of
/// the other side has at most one partner, and the other side's key suffices; but a left row
/// without a partner has no right key.
fn join_key(
    left: &IncrementalPlan,
    right: &IncrementalPlan,
    kind: JoinKind,
    keys: &Keys,
) -> Option<Vec<usize>> {
    let (left_key, right_key) = (left.upsert_key.as_ref(), right.upsert_key.as_ref());
    let shift = left.schema.fields().len();
    let shifted = |key: &Vec<usize>| -> Vec<usize> { key.iter().map(|i| i + shift).collect() };
    let covers = |key: Option<&Vec<usize>>, columns: &[Option<usize>]| {
        key.is_some_and(|key| key.iter().all(|column| columns.contains(&Some(*column))))
    };
    if covers(right_key, &keys.right_columns) && left_key.is_some() {
        return left_key.cloned();
    }
    if kind == JoinKind::Inner && covers(left_key, &keys.left_columns) && right_key.is_some() {
        return right_key.map(shifted);
    }
    let (left_key, right_key) = (left_key?, right_key?);
    Some(left_key.iter().copied().chain(shifted(right_key)).collect())
}

/// The distinct keys of the right side, and after them, if `flag`, a column that is true.
fn distinct_keys(
    join: &Join,
    right: IncrementalPlan,
    flag: bool,
) -> Result<(IncrementalPlan, Keys)> {
    if join.filter.is_some() {
        return Err(refuse(
            "a subquery that is correlated by other than equality",
            "write it as a join with the condition in ON",
        ));
    }
    let keys = Keys::new(&join.on, join.left.schema(), join.right.schema())?;
    let mut fields = Vec::new();
    for (index, key) in keys.right.iter().enumerate() {
        let data_type = key.data_type(&right.schema)?;
        fields.push(Field::new(format!("key{index}"), data_type, key.nullable(&right.schema)?));
    }
    let key_columns: Vec<Arc<dyn PhysicalExpr>> = fields
        .iter()
        .enumerate()
        .map(|(index, field)| Arc::new(Column::new(field.name(), index)) as _)
        .collect();
    let distinct =
        grouped(right, keys.right.clone(), Vec::new(), Arc::new(Schema::new(fields.clone())));
    let sources: Vec<Option<usize>> = (0..fields.len()).map(Some).collect();
    let keys = Keys { right: key_columns.clone(), right_columns: sources.clone(), ..keys };
    if !flag {
        return Ok((distinct, keys));
    }
    let mut exprs = key_columns;
    exprs.push(constant_true());
    fields.push(Field::new("found", DataType::Boolean, false));
    let flagged = projected(distinct, exprs, &sources, Arc::new(Schema::new(fields)));
    Ok((flagged, keys))
}

fn semi(join: &Join, left: IncrementalPlan, right: IncrementalPlan) -> Result<IncrementalPlan> {
    let (right, keys) = distinct_keys(join, right, false)?;
    let kept: Vec<usize> = (0..left.schema.fields().len()).collect();
    let schema = side_by_side(&left, &right, false);
    let plan = joined(left, right, JoinKind::Inner, keys, None, schema);
    Ok(columns(plan, &kept, arrow_schema(&join.schema)))
}

fn anti(join: &Join, left: IncrementalPlan, right: IncrementalPlan) -> Result<IncrementalPlan> {
    let (right, keys) = distinct_keys(join, right, true)?;
    let kept: Vec<usize> = (0..left.schema.fields().len()).collect();
    let schema = side_by_side(&left, &right, true);
    let found = schema.fields().len() - 1;
    let plan = joined(left, right, JoinKind::Left, keys, None, schema);
    let missing = Arc::new(IsNullExpr::new(Arc::new(Column::new("found", found))));
    Ok(columns(filtered(plan, missing), &kept, arrow_schema(&join.schema)))
}

/// Columns of both, those of the right side nullable if `outer`.
fn side_by_side(
    left: &IncrementalPlan,
    right: &IncrementalPlan,
    outer: bool,
) -> arrow::datatypes::SchemaRef {
    let left = left.schema.fields().iter().map(|field| field.as_ref().clone());
    let right = right.schema.fields().iter().map(|field| {
        let nullable = field.is_nullable() || outer;
        field.as_ref().clone().with_nullable(nullable)
    });
    Arc::new(Schema::new(left.chain(right).collect::<Vec<_>>()))
}
