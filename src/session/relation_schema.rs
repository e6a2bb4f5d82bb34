//! [`RelationSchema`]: the engine's relations as tables of one snapshot.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::DataFusionError;

use super::snapshot_table::SnapshotTable;
use crate::catalog::{Catalog, Definition, Relation};
use crate::error::Error;
use crate::job::Snapshot;

/// Tables and views at one epoch, by name.
#[derive(Debug)]
pub(super) struct RelationSchema {
    catalog: Arc<Catalog>,
    snapshot: Snapshot,
}

impl RelationSchema {
    /// The relations of a catalog at a snapshot.
    pub(super) fn new(catalog: Arc<Catalog>, snapshot: Snapshot) -> Self {
        Self { catalog, snapshot }
    }

    /// A relation's rows.
    pub(super) fn rows(&self, relation: &Relation) -> Result<Arc<dyn TableProvider>, Error> {
        match self.snapshot.relation(relation.id) {
            Some(rows) => {
                let (schema, key) = (Arc::clone(&relation.schema), relation.upsert_key.clone());
                Ok(Arc::new(SnapshotTable::new(schema, key, rows)))
            }
            None => Err(not_kept(relation)),
        }
    }

    /// The same by name; `None` for a name that is not there.
    pub(super) fn by_name(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, Error> {
        self.catalog.get(name).map(|relation| self.rows(relation)).transpose()
    }
}

fn not_kept(relation: &Relation) -> Error {
    let name = &relation.name;
    match relation.definition.as_ref() {
        Definition::Source(_) => Error::unsupported(format!(
            "source \"{name}\" keeps no rows to read"
        ))
        .with_hint(format!(
            "read it through a view: CREATE MATERIALIZED VIEW {name}_rows AS \
                     SELECT * FROM {name}"
        )),
        _ => Error::unsupported(format!("\"{name}\" has no rows to read")),
    }
}

#[async_trait]
impl SchemaProvider for RelationSchema {
    fn table_names(&self) -> Vec<String> {
        let with_rows = |relation: &&Arc<Relation>| self.snapshot.relation(relation.id).is_some();
        self.catalog.iter().filter(with_rows).map(|relation| relation.name.clone()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        self.by_name(name).map_err(|error| DataFusionError::External(Box::new(error)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalog.get(name).is_some()
    }
}
