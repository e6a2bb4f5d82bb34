//! [`RemoteScan`]: all rows of a table or view, of which other processes keep some.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, stream};

use crate::error::Error;
use crate::job::RelationSnapshot;

/// Rows as [`RelationSnapshot::rows`] gives them: they come as they are taken.
#[derive(Debug)]
pub(super) struct RemoteScan {
    rows: RelationSnapshot,
    projection: Option<Vec<usize>>,
    schema: SchemaRef,
}

impl RemoteScan {
    /// A plan of one partition, as other scans are; the schema is that of the projection.
    pub(super) fn plan(
        rows: RelationSnapshot,
        projection: Option<Vec<usize>>,
        schema: SchemaRef,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let scan: Arc<dyn PartitionStream> =
            Arc::new(Self { rows, projection, schema: Arc::clone(&schema) });
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![scan], None, [], false, None)?))
    }
}

impl PartitionStream for RemoteScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = match self.rows.rows(self.projection.as_deref()) {
            Ok(rows) => rows,
            Err(error) => stream::once(async { Err(error) }).boxed(),
        };
        let schema = Arc::clone(&self.schema);
        let rows = rows.map(move |batch| {
            let batch = batch.and_then(|batch| Ok(batch.with_schema(Arc::clone(&schema))?));
            batch.map_err(|error: Error| DataFusionError::External(Box::new(error)))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}
