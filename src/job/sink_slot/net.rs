//! [`Net`]: how the changes of a sink are put together.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use frazil_connector_api::{ChangeBatch, SinkMode};

use crate::change::{concat, consolidate, latest_by_key};
use crate::error::Result;

/// How the changes of a sink are put together.
///
/// Law: a target that takes the result is as one that takes the batches one after the other.
pub(super) enum Net {
    /// Of an append-only sink: the sum.
    Sum,
    /// Of an upsert sink: the last change of each key. The former row of an update is not kept: the
    /// sink finds by the key what it replaces.
    Latest { key: Vec<usize> },
}

impl Net {
    pub(super) fn of(mode: &SinkMode) -> Self {
        match mode {
            SinkMode::AppendOnly => Self::Sum,
            SinkMode::Upsert { key } => Self::Latest { key: key.clone() },
        }
    }

    /// The key by which writers share changes; empty for an append-only sink.
    pub(super) fn key(&self) -> &[usize] {
        match self {
            Self::Sum => &[],
            Self::Latest { key } => key,
        }
    }

    /// Puts batches together, oldest first.
    ///
    /// # Errors
    /// Arrow kernels' only.
    pub(super) fn of_changes(
        &self,
        schema: &SchemaRef,
        batches: Vec<ChangeBatch>,
    ) -> Result<ChangeBatch> {
        match self {
            Self::Sum if batches.iter().all(|batch| batch.weights().is_none()) => {
                concat(Arc::clone(schema), batches)
            }
            Self::Sum => consolidate(Arc::clone(schema), batches),
            Self::Latest { key } => latest_by_key(schema, &batches, key),
        }
    }
}
