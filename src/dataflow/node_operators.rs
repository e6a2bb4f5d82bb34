//! Plan nodes to operators that are in no dataflow yet.
//!
//! **Invariant:** whether an operator can be made depends on the plan alone. So [`CheckedRelation`]
//! makes those of a statement once before any worker begins with it, and no dataflow is left half
//! built.

use std::sync::Arc;

use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};

use super::operators::{
    Aggregate, AggregateFunction, AggregateSpec, HashAggregate, HashJoin, InputKind, JoinInput,
    JoinSpec, Materialize, TopN, TopNSpec, UpsertTable,
};
use crate::catalog::{ChangelogMode, Definition, Relation};
use crate::error::{ErrorKind, Result, caught};
use crate::plan::{
    AggregateCall, FragmentPlan, IncrementalPlan, JoinKind, Node, PlannedRelation, SortKey,
    on_large_stack,
};

/// A relation whose operators can be made: what workers build from.
#[derive(Debug, Clone)]
pub struct CheckedRelation {
    planned: PlannedRelation,
}

impl CheckedRelation {
    /// Makes every operator of a relation, and drops them.
    ///
    /// # Errors
    /// `Unsupported` if an operator cannot hold a type.
    pub fn try_new(planned: PlannedRelation) -> Result<Self> {
        let checked = on_large_stack(|| caught("the plan", || check(&planned)));
        match checked {
            Ok(()) => Ok(Self { planned }),
            Err(error) if error.kind == ErrorKind::Unsupported && error.hint.is_none() => {
                Err(error.with_hint("cast the column to TEXT, or leave it out"))
            }
            Err(error) => Err(error),
        }
    }

    /// The relation.
    pub fn relation(&self) -> &Arc<Relation> {
        &self.planned.relation
    }

    /// Its fragment, if it has one.
    pub fn fragment(&self) -> Option<&FragmentPlan> {
        self.planned.fragment.as_ref()
    }
}

fn check(planned: &PlannedRelation) -> Result<()> {
    let Some(fragment) = &planned.fragment else { return Ok(()) };
    if let Some(plan) = &fragment.plan {
        check_plan(plan)?;
    }
    let Relation { definition, schema, upsert_key, mode, .. } = &*planned.relation;
    match &**definition {
        Definition::Table(table) if !table.primary_key.is_empty() => {
            UpsertTable::try_new(Arc::clone(schema), table.primary_key.clone()).map(|_| ())
        }
        Definition::Sink(_) | Definition::Pipeline(_) => Ok(()),
        _ => {
            let (schema, key) = (Arc::clone(schema), upsert_key.clone());
            Materialize::try_new(schema, is_append_only(*mode), key, 0).map(|_| ())
        }
    }
}

fn check_plan(plan: &IncrementalPlan) -> Result<()> {
    match &plan.node {
        Node::Scan { .. } | Node::Values { .. } => Ok(()),
        Node::Filter { input, .. } | Node::Project { input, .. } => check_plan(input),
        Node::Union { inputs } => inputs.iter().try_for_each(check_plan),
        Node::Aggregate { input, group, aggregates } => {
            check_plan(input)?;
            hash_aggregate(plan, input, group, aggregates, 0).map(|_| ())
        }
        Node::Join { left, right, kind, left_keys, right_keys, filter } => {
            check_plan(left)?;
            check_plan(right)?;
            let sides = [(left.as_ref(), left_keys.as_slice()), (right.as_ref(), right_keys)];
            hash_join(plan, sides, *kind, filter.clone(), 0).map(|_| ())
        }
        Node::TopN { input, order, offset, limit } => {
            check_plan(input)?;
            top_n(plan, input, order, (*offset, *limit)).map(|_| ())
        }
    }
}

pub(super) fn hash_aggregate(
    plan: &IncrementalPlan,
    input: &IncrementalPlan,
    group: &[Arc<dyn PhysicalExpr>],
    aggregates: &[AggregateCall],
    worker: usize,
) -> Result<HashAggregate> {
    HashAggregate::try_new(AggregateSpec {
        input_schema: Arc::clone(&input.schema),
        is_append_only: is_append_only(input.mode),
        group: group.to_vec(),
        aggregates: aggregates.iter().map(aggregate).collect::<Result<_>>()?,
        schema: Arc::clone(&plan.schema),
        // A group-less aggregate has its one row on worker 0 alone.
        emits_empty: worker == 0,
    })
}

pub(super) fn hash_join(
    plan: &IncrementalPlan,
    [left, right]: [(&IncrementalPlan, &[Arc<dyn PhysicalExpr>]); 2],
    kind: JoinKind,
    filter: Option<Arc<dyn PhysicalExpr>>,
    writer: u64,
) -> Result<HashJoin> {
    HashJoin::try_new(JoinSpec {
        left: join_input(left.0, left.1),
        right: join_input(right.0, right.1),
        is_left: kind == JoinKind::Left,
        filter,
        schema: Arc::clone(&plan.schema),
        writer,
    })
}

pub(super) fn top_n(
    plan: &IncrementalPlan,
    input: &IncrementalPlan,
    order: &[SortKey],
    (offset, limit): (usize, usize),
) -> Result<TopN> {
    TopN::try_new(TopNSpec {
        schema: Arc::clone(&plan.schema),
        is_append_only: is_append_only(input.mode),
        order: order.iter().map(sort_expr).collect(),
        offset,
        limit,
    })
}

pub(super) fn is_append_only(mode: ChangelogMode) -> bool {
    mode == ChangelogMode::AppendOnly
}

fn join_input(plan: &IncrementalPlan, keys: &[Arc<dyn PhysicalExpr>]) -> JoinInput {
    let kind = match (plan.mode, &plan.upsert_key) {
        (ChangelogMode::AppendOnly, _) => InputKind::AppendOnly,
        (_, Some(_)) => InputKind::Unique,
        (_, None) => InputKind::Retracting,
    };
    JoinInput { schema: Arc::clone(&plan.schema), keys: keys.to_vec(), kind }
}

fn aggregate(call: &AggregateCall) -> Result<Aggregate> {
    Ok(Aggregate {
        function: AggregateFunction::from_name(&call.function)?,
        arg: call.args.first().cloned(),
        distinct: call.distinct,
        filter: call.filter.clone(),
        field: Arc::clone(&call.field),
    })
}

fn sort_expr(key: &SortKey) -> PhysicalSortExpr {
    PhysicalSortExpr { expr: Arc::clone(&key.expr), options: key.options }
}
