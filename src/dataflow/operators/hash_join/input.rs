//! [`JoinInput`]: schema, keys and kind of one input of a join.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;

/// What may come from an input of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// It never retracts.
    AppendOnly,
    /// It retracts, and no two of its rows are equal after an epoch.
    Unique,
    /// It retracts, and may have a row several times.
    Retracting,
}

/// One input of a join.
#[derive(Debug, Clone)]
pub struct JoinInput {
    /// Its columns.
    pub schema: SchemaRef,
    /// Keys over its columns; both inputs have the same types of keys.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// What may come from it.
    pub kind: InputKind,
}
