//! [`RemoteScan`]: all rows of a table or view, of which other processes keep some.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::StreamExt;

use crate::error::Error;
use crate::job::RelationSnapshot;

/// Rows as [`RelationSnapshot::rows`] gives them, in one partition: they come as they are taken.
///
/// It knows the number of rows, from which the planner chooses the sides of joins.
#[derive(Debug)]
pub(super) struct RemoteScan {
    rows: RelationSnapshot,
    projection: Option<Vec<usize>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl RemoteScan {
    /// A scan; the schema is that of the projection.
    pub(super) fn new(
        rows: RelationSnapshot,
        projection: Option<Vec<usize>>,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { rows, projection, schema, properties: Arc::new(properties) }
    }
}

impl DisplayAs for RemoteScan {
    fn fmt_as(&self, _format: DisplayFormatType, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RemoteScan: rows={}", self.rows.row_count())
    }
}

impl ExecutionPlan for RemoteScan {
    fn name(&self) -> &'static str {
        "RemoteScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        Ok(self)
    }

    fn execute(
        &self,
        _partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream, DataFusionError> {
        let external = |error: Error| DataFusionError::External(Box::new(error));
        let rows = self.rows.rows(self.projection.as_deref()).map_err(external)?;
        let schema = Arc::clone(&self.schema);
        let rows = rows.map(move |batch| {
            let batch = batch.and_then(|batch| Ok(batch.with_schema(Arc::clone(&schema))?));
            batch.map_err(external)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows)))
    }

    fn partition_statistics(
        &self,
        _partition: Option<usize>,
    ) -> Result<Arc<Statistics>, DataFusionError> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(self.rows.row_count());
        Ok(Arc::new(statistics))
    }
}
