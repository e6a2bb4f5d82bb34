//! [`FragmentPlan`]: what the fragment of a relation computes, with an identity that a checkpoint
//! keeps.
//!
//! ```text
//! Relation ──► FragmentPlan { plan, reads, identity }      identity ──► manifest
//! ```
//!
//! **Invariant:** two fragments of equal identity compute the same rows from the same inputs and
//! store the same state under the same [`OperatorId`]s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::physical_plan::PhysicalExpr;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::explain::describe;
use super::{IncrementalPlan, Node, on_large_stack};
use crate::catalog::{Definition, ERRORS_KEY, Relation, RelationId};
use crate::change::hash_rows;
use crate::error::{Error, Result};
use crate::state::OperatorId;

/// Version of what operators and expressions of the same description compute and store. Raise it
/// when one of them gives other values or stores other columns: views are then rebuilt at the next
/// start instead of continuing from state that means something else.
const SEMANTICS: u32 = 1;

/// Names the digests of this module: a random constant.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f9d_2c53_17b8_4a0e_8b64_d1e7_03a5_c29f);

/// A relation of a catalog, with what runs for it.
#[derive(Debug, Clone)]
pub struct PlannedRelation {
    /// The relation.
    pub relation: Arc<Relation>,
    /// Its fragment; `None` if it has none (a source, a catalog, a plain view).
    pub fragment: Option<FragmentPlan>,
}

/// The fragment of a relation: its plan and its identity.
#[derive(Debug, Clone)]
pub struct FragmentPlan {
    /// The query's plan; `None` for a table, which has none.
    pub plan: Option<IncrementalPlan>,
    /// The relations that the plan scans.
    pub reads: BTreeSet<RelationId>,
    /// What a checkpoint knows the fragment by.
    pub identity: FragmentIdentity,
}

/// What a checkpoint knows a fragment by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FragmentIdentity {
    /// Digest of all that decides the fragment's output.
    pub plan: Uuid,
    /// Stateful operators of the plan, inputs before the operators that read them.
    pub operators: Vec<OperatorId>,
    /// The operator that keeps the relation's rows; none for a sink.
    pub rows: Option<OperatorId>,
}

impl FragmentPlan {
    /// The fragment of a relation whose query has this plan; `None` if the relation has none (a
    /// source, a catalog, a plain view).
    ///
    /// # Errors
    /// `Internal` for constants of a type that has no hash.
    pub fn of(relation: &Relation, plan: Option<IncrementalPlan>) -> Result<Option<Self>> {
        on_large_stack(|| Self::describe(relation, plan))
    }

    fn describe(relation: &Relation, plan: Option<IncrementalPlan>) -> Result<Option<Self>> {
        let has_query = match &*relation.definition {
            Definition::Source(_)
            | Definition::Catalog(_)
            | Definition::LogicalView(_)
            | Definition::Unbound(_) => return Ok(None),
            Definition::Table(_) | Definition::Errors => false,
            Definition::View(_) | Definition::Sink(_) | Definition::Pipeline(_) => true,
        };
        if has_query != plan.is_some() {
            return Err(Error::internal(format!("\"{}\" has another plan", relation.name)));
        }
        let mut reads = BTreeSet::new();
        let mut operators = Vec::new();
        if let Some(plan) = &plan {
            collect_scans(plan, &mut reads);
            collect_operators(plan, &mut OperatorIds::default(), &mut operators)?;
        }
        let is_sink = relation.definition.sink().is_some();
        let rows = (!is_sink).then(|| rows_operator(relation));
        let mut text = format!("fragment {rows:?}");
        if let Some(plan) = &plan {
            // Writing to a String does not fail.
            let _ = write!(text, " {}", digest_of(plan)?);
        }
        let identity = FragmentIdentity { plan: digest(&text), operators, rows };
        Ok(Some(Self { plan, reads, identity }))
    }
}

/// Gives the stateful operators of one fragment their ids.
///
/// An id is a digest of the operator's subtree. Equal subtrees hold equal state, so that they need
/// to be told apart but may be exchanged: they are numbered as they come.
#[derive(Debug, Default)]
pub struct OperatorIds {
    seen: BTreeMap<Uuid, u32>,
}

impl OperatorIds {
    /// The id of the operator at the root of `plan`.
    ///
    /// # Errors
    /// `Internal` for constants of a type that has no hash.
    pub fn next(&mut self, plan: &IncrementalPlan) -> Result<OperatorId> {
        let subtree = digest_of(plan)?;
        let number = self.seen.entry(subtree).or_insert(0);
        *number += 1;
        Ok(OperatorId(digest(&format!("operator {subtree} {number}"))))
    }
}

/// The id of the operator that keeps the rows of a table or view.
pub fn rows_operator(relation: &Relation) -> OperatorId {
    let primary_key = match &*relation.definition {
        Definition::Table(table) => table.primary_key.as_slice(),
        Definition::Errors => &ERRORS_KEY,
        _ => &[],
    };
    let mut text = format!("rows {SEMANTICS} {primary_key:?} ");
    let _ = write!(text, "{:?} {:?} ", relation.mode, relation.upsert_key);
    describe_schema(&relation.schema, &mut text);
    OperatorId(digest(&text))
}

fn digest(text: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, text.as_bytes())
}

fn collect_scans(plan: &IncrementalPlan, scans: &mut BTreeSet<RelationId>) {
    if let Node::Scan { relation, .. } = &plan.node {
        scans.insert(*relation);
    }
    plan.inputs().into_iter().for_each(|input| collect_scans(input, scans));
}

fn collect_operators(
    plan: &IncrementalPlan,
    ids: &mut OperatorIds,
    operators: &mut Vec<OperatorId>,
) -> Result<()> {
    for input in plan.inputs() {
        collect_operators(input, ids, operators)?;
    }
    if plan.is_stateful() {
        operators.push(ids.next(plan)?);
    }
    Ok(())
}

/// Digest of a subtree: what it computes, from which columns, of which types.
fn digest_of(plan: &IncrementalPlan) -> Result<Uuid> {
    let mut text = format!("{SEMANTICS} {} ", describe(plan));
    let _ = write!(text, "{:?} {:?} ", plan.mode, plan.upsert_key);
    describe_schema(&plan.schema, &mut text);
    describe_details(plan, &mut text)?;
    for input in plan.inputs() {
        let _ = write!(text, " {}", digest_of(input)?);
    }
    Ok(digest(&text))
}

/// What the plan's description for readers leaves out.
fn describe_details(plan: &IncrementalPlan, text: &mut String) -> Result<()> {
    match &plan.node {
        Node::Scan { relation, projection, .. } => {
            let _ = write!(text, " {relation} {projection:?}");
        }
        Node::Values { rows } => {
            let _ = write!(text, " {:?}", hash_rows(rows.columns(), rows.num_rows())?);
        }
        Node::Filter { input, predicate } => describe_types([predicate], &input.schema, text),
        Node::Project { input, exprs } => describe_types(exprs, &input.schema, text),
        Node::Union { .. } => {}
        Node::Join { left, right, left_keys, right_keys, filter, .. } => {
            describe_types(left_keys, &left.schema, text);
            describe_types(right_keys, &right.schema, text);
            describe_types(filter, &plan.schema, text);
        }
        Node::Aggregate { input, group, aggregates } => {
            describe_types(group, &input.schema, text);
            for call in aggregates {
                describe_types(&call.args, &input.schema, text);
                describe_types(&call.filter, &input.schema, text);
            }
        }
        Node::TopN { input, order, .. } => {
            describe_types(order.iter().map(|key| &key.expr), &input.schema, text);
        }
    }
    Ok(())
}

/// The type of every part of expressions: their text does not tell `1` from `'1'`.
fn describe_types<'a>(
    exprs: impl IntoIterator<Item = &'a Arc<dyn PhysicalExpr>>,
    schema: &Schema,
    text: &mut String,
) {
    for expr in exprs {
        match expr.data_type(schema) {
            Ok(data_type) => {
                let _ = write!(text, " {data_type}");
            }
            Err(_) => text.push_str(" untyped"),
        }
        describe_types(expr.children(), schema, text);
    }
}

fn describe_schema(schema: &Schema, text: &mut String) {
    for field in schema.fields() {
        let _ = write!(text, "{}:{}:{},", field.name(), field.data_type(), field.is_nullable());
    }
}
