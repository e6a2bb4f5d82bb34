//! [`Outcome`]: what a statement gave; [`Description`]: what it will give.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;

use crate::error::Result;

/// What a statement gave.
pub enum Outcome {
    /// Rows, computed as they are read.
    Rows {
        /// Columns.
        schema: SchemaRef,
        /// The rows, all of one snapshot.
        stream: SendableRecordBatchStream,
        /// PostgreSQL's command tag without the number of rows, such as `INSERT 0`.
        tag: &'static str,
    },
    /// Done.
    Command {
        /// PostgreSQL's command tag, such as `INSERT 0 3`.
        tag: String,
        /// Notices for the client, in order.
        notices: Vec<String>,
    },
}

impl Outcome {
    /// A command that is done, without notices.
    pub fn command(tag: impl Into<String>) -> Self {
        Self::Command { tag: tag.into(), notices: Vec::new() }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows { schema, .. } => write!(out, "Rows({:?})", schema.fields()),
            Self::Command { tag, .. } => write!(out, "Command({tag})"),
        }
    }
}

/// The tag of queries, and of all that answers as they do.
pub(super) const SELECT: &str = "SELECT";

/// One batch as an outcome.
pub(super) fn rows(batch: RecordBatch) -> Result<Outcome> {
    let schema = batch.schema();
    let rows = stream::once(std::future::ready(Ok(batch)));
    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
    Ok(Outcome::Rows { schema, stream, tag: SELECT })
}

/// What a statement will take and give.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// Types of `$1`, `$2` …; `None` where the statement does not tell.
    pub params: Vec<Option<DataType>>,
    /// Columns of its rows; `None` for a command.
    pub columns: Option<SchemaRef>,
}
