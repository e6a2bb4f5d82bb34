//! [`RelationSchema`]: the engine's relations as tables of one snapshot.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::{LogicalPlan, Values};

use super::query_error;
use super::snapshot_table::SnapshotTable;
use crate::catalog::{Catalog, Definition, Relation};
use crate::error::{Error, ErrorKind, Result};
use crate::job::Snapshot;
use crate::sql::CONFLICTS;

/// Tables and views at one epoch, by name.
#[derive(Debug)]
pub(super) struct RelationSchema {
    catalog: Arc<Catalog>,
    snapshot: Snapshot,
    /// `sql::CONFLICTS`.
    conflicts: Option<Arc<dyn TableProvider>>,
}

impl RelationSchema {
    /// The relations of a catalog at a snapshot.
    pub(super) fn new(catalog: Arc<Catalog>, snapshot: Snapshot) -> Self {
        Self { catalog, snapshot, conflicts: None }
    }

    /// The same, with the rows that INSERT … ON CONFLICT proposes.
    pub(super) fn with_conflicts(self, conflicts: Arc<dyn TableProvider>) -> Self {
        Self { conflicts: Some(conflicts), ..self }
    }

    /// A relation's rows.
    pub(super) fn rows(&self, relation: &Relation) -> Result<Arc<dyn TableProvider>> {
        match self.snapshot.relation(relation.id) {
            Some(rows) => {
                let (schema, key) = (Arc::clone(&relation.schema), relation.upsert_key.clone());
                Ok(Arc::new(SnapshotTable::new(schema, key, rows)))
            }
            None => Err(not_kept(relation)),
        }
    }

    /// The same by name; `None` for a name that is not there.
    pub(super) fn by_name(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if name == CONFLICTS {
            return Ok(self.conflicts.clone());
        }
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

    async fn table(&self, name: &str) -> datafusion::error::Result<Option<Arc<dyn TableProvider>>> {
        self.by_name(name).map_err(|error| DataFusionError::External(Box::new(error)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalog.get(name).is_some()
    }
}

/// The plan with a snapshot's rows in the place of the binder's tables, which have a schema only.
pub(super) fn attached(plan: LogicalPlan, tables: &RelationSchema) -> Result<LogicalPlan> {
    let attach = |node: LogicalPlan| {
        let mut scan = match node {
            LogicalPlan::TableScan(scan) => scan,
            LogicalPlan::Values(values) => return nullable(values).map(Transformed::yes),
            other => return Ok(Transformed::no(other)),
        };
        if source_as_provider(&scan.source).is_ok() {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        }
        let rows = tables.by_name(scan.table_name.table());
        let rows = rows.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let Some(rows) = rows else {
            let name = scan.table_name.table();
            let error = Error::new(
                ErrorKind::UndefinedTable,
                format!("relation \"{name}\" does not exist"),
            );
            return Err(DataFusionError::External(Box::new(error)));
        };
        scan.source = provider_as_source(rows);
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    };
    let plan = plan.transform_up_with_subqueries(attach).map_err(query_error)?;
    Ok(plan.data)
}

/// The same values in columns that may hold NULL. The planner of INSERT takes the table's columns,
/// and what is NULL there would fail before anybody can tell which column it is.
fn nullable(mut values: Values) -> datafusion::error::Result<LogicalPlan> {
    let fields = values.schema.iter().map(|(qualifier, field)| {
        let field = field.as_ref().clone().with_nullable(true);
        (qualifier.cloned(), Arc::new(field))
    });
    let metadata = values.schema.metadata().clone();
    values.schema = Arc::new(DFSchema::new_with_metadata(fields.collect(), metadata)?);
    Ok(LogicalPlan::Values(values))
}
