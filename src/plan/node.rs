//! [`IncrementalPlan`]: a tree of incremental operators over relations.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;

use crate::catalog::{ChangelogMode, RelationId};

/// A node of the plan with the properties of its output.
///
/// `upsert_key` are columns that are unique in the output's Z-set after every epoch, if known.
#[derive(Debug, Clone)]
pub struct IncrementalPlan {
    /// What it does.
    pub node: Node,
    /// Columns of its output.
    pub schema: SchemaRef,
    /// What may appear on its output.
    pub mode: ChangelogMode,
    /// Unique columns of its output.
    pub upsert_key: Option<Vec<usize>>,
}

/// What a plan node does. Expressions are bound to the columns of the input, in order.
#[derive(Debug, Clone)]
pub enum Node {
    /// Reads a relation's snapshot and then its changes (tables, views), or its stream from the
    /// start (sources).
    Scan {
        /// The relation.
        relation: RelationId,
        /// Its name, for EXPLAIN.
        name: String,
        /// Columns kept, by index in the relation; `None` keeps all.
        projection: Option<Vec<usize>>,
    },
    /// Rows that are there from the start and never change (`VALUES`, `SELECT 1`).
    Values {
        /// The rows.
        rows: arrow::array::RecordBatch,
    },
    /// Keeps the rows for which the predicate is true.
    Filter {
        /// Input.
        input: Box<IncrementalPlan>,
        /// A boolean expression.
        predicate: Arc<dyn PhysicalExpr>,
    },
    /// Computes columns.
    Project {
        /// Input.
        input: Box<IncrementalPlan>,
        /// One expression an output column.
        exprs: Vec<Arc<dyn PhysicalExpr>>,
    },
    /// Sum of inputs of the same columns: UNION ALL.
    Union {
        /// Inputs.
        inputs: Vec<IncrementalPlan>,
    },
    /// Equi-join. Output columns: left, then right.
    Join {
        /// Left input.
        left: Box<IncrementalPlan>,
        /// Right input.
        right: Box<IncrementalPlan>,
        /// Inner or left.
        kind: JoinKind,
        /// Keys over left's columns.
        left_keys: Vec<Arc<dyn PhysicalExpr>>,
        /// Keys over right's columns, of the same types.
        right_keys: Vec<Arc<dyn PhysicalExpr>>,
        /// A further condition over the output's columns; part of ON.
        filter: Option<Arc<dyn PhysicalExpr>>,
    },
    /// Groups and aggregates. Output columns: group keys, then aggregates. Without keys there is
    /// always exactly one row; without aggregates this is DISTINCT.
    Aggregate {
        /// Input.
        input: Box<IncrementalPlan>,
        /// Group keys.
        group: Vec<Arc<dyn PhysicalExpr>>,
        /// Aggregates.
        aggregates: Vec<AggregateCall>,
    },
    /// The first rows in an order over the whole input: ORDER BY … LIMIT … OFFSET.
    TopN {
        /// Input.
        input: Box<IncrementalPlan>,
        /// The order; ties are broken by the whole row, so that the result is a function of the
        /// input's Z-set.
        order: Vec<SortKey>,
        /// Rows skipped.
        offset: usize,
        /// Rows kept.
        limit: usize,
    },
}

/// Join kinds that have an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// Pairs only.
    Inner,
    /// Left rows without a partner come with NULLs.
    Left,
}

/// One aggregate of an [`Node::Aggregate`].
#[derive(Debug, Clone)]
pub struct AggregateCall {
    /// Canonical name: `count`, `sum`, `avg`, `min`, `max`.
    pub function: String,
    /// Arguments over the input's columns, already cast to the types that the function wants;
    /// empty for `count(*)`.
    pub args: Vec<Arc<dyn PhysicalExpr>>,
    /// `count(DISTINCT x)`.
    pub distinct: bool,
    /// `FILTER (WHERE …)`.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Output field.
    pub field: arrow::datatypes::FieldRef,
}

/// One key of an order.
#[derive(Debug, Clone)]
pub struct SortKey {
    /// What is compared.
    pub expr: Arc<dyn PhysicalExpr>,
    /// Direction and place of NULLs.
    pub options: SortOptions,
}
