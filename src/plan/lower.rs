//! The plans that several logical nodes are lowered to: filters and projections.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchemaRef;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::PhysicalExpr;

use super::{IncrementalPlan, Node};
use crate::error::Error;

/// The error for what has no incremental operator.
pub(super) fn refuse(what: &str, hint: &str) -> Error {
    Error::unsupported(format!("{what} is not supported in a live view")).with_hint(hint)
}

/// The Arrow schema of a logical one.
pub(super) fn arrow_schema(schema: &DFSchemaRef) -> SchemaRef {
    Arc::clone(schema.inner())
}

/// Keeps rows.
pub(super) fn filtered(
    input: IncrementalPlan,
    predicate: Arc<dyn PhysicalExpr>,
) -> IncrementalPlan {
    IncrementalPlan {
        schema: Arc::clone(&input.schema),
        mode: input.mode,
        upsert_key: input.upsert_key.clone(),
        node: Node::Filter { input: Box::new(input), predicate },
    }
}

/// Projects; `sources` tells for every output column which input column it is, if it is one.
pub(super) fn projected(
    input: IncrementalPlan,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    sources: &[Option<usize>],
    schema: SchemaRef,
) -> IncrementalPlan {
    let place = |column: &usize| sources.iter().position(|source| source.as_ref() == Some(column));
    let upsert_key = input.upsert_key.as_ref().and_then(|key| key.iter().map(place).collect());
    let mode = input.mode;
    let node = Node::Project { input: Box::new(input), exprs };
    IncrementalPlan { node, schema, mode, upsert_key }
}

/// Keeps these columns of the input.
pub(super) fn columns(
    input: IncrementalPlan,
    kept: &[usize],
    schema: SchemaRef,
) -> IncrementalPlan {
    let column = |index: &usize| -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(input.schema.field(*index).name(), *index))
    };
    let exprs = kept.iter().map(column).collect();
    let sources: Vec<Option<usize>> = kept.iter().copied().map(Some).collect();
    projected(input, exprs, &sources, schema)
}
