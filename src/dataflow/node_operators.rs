//! Plan nodes to operators that are in no dataflow yet.
//!
//! **Invariant:** whether an operator can be made depends on the plan alone. So [`check_operators`]
//! makes those of a statement once before any worker begins with it, and no dataflow is left half
//! built.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};

use super::operators::{
    Aggregate, AggregateFunction, AggregateSpec, HashAggregate, HashJoin, InputKind, JoinInput,
    JoinSpec, Materialize, TopN, TopNSpec, UpsertTable,
};
use crate::catalog::{ChangelogMode, Definition};
use crate::error::{ErrorKind, Result, caught};
use crate::plan::{AggregateCall, IncrementalPlan, JoinKind, Node, SortKey, plan};

/// Makes every operator of a relation, and drops them.
///
/// # Errors
/// `Unsupported` if an operator cannot hold a type; what planning says.
pub fn check_operators(
    definition: &Definition,
    schema: &SchemaRef,
    upsert_key: Option<&Vec<usize>>,
    mode: ChangelogMode,
) -> Result<()> {
    caught("the plan", || {
        let keep_rows = || {
            Materialize::try_new(Arc::clone(schema), is_append_only(mode), upsert_key.cloned(), 0)
        };
        match definition {
            Definition::Table(table) if !table.primary_key.is_empty() => {
                UpsertTable::try_new(Arc::clone(schema), table.primary_key.clone()).map(|_| ())
            }
            Definition::Table(_) | Definition::Errors => keep_rows().map(|_| ()),
            Definition::View(view) => {
                check_plan(&plan(&view.plan)?)?;
                keep_rows().map(|_| ())
            }
            Definition::Sink(sink) => check_plan(&plan(&sink.plan)?),
            Definition::Pipeline(pipeline) => check_plan(&plan(&pipeline.sink.plan)?),
            Definition::Source(_)
            | Definition::Catalog(_)
            | Definition::LogicalView(_)
            | Definition::Unbound(_) => Ok(()),
        }
    })
    .map_err(|error| match error.kind {
        ErrorKind::Unsupported if error.hint.is_none() => {
            error.with_hint("cast the column to TEXT, or leave it out")
        }
        _ => error,
    })
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
