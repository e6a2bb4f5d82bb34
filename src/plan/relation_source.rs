//! [`RelationSource`]: a relation as the planner of SQL sees it.

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::TableSource;

use crate::catalog::{ChangelogMode, RelationId};

/// A relation in a logical plan; whoever executes the plan puts its data here.
#[derive(Debug, Clone)]
pub struct RelationSource {
    /// Its id.
    pub id: RelationId,
    /// Its name.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// What may appear on its stream.
    pub mode: ChangelogMode,
    /// Unique columns, if known.
    pub upsert_key: Option<Vec<usize>>,
}

impl TableSource for RelationSource {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}
