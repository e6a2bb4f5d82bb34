//! [`LakeTables`]: the Iceberg tables that a statement names, as `catalog.namespace.table`.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Statistics, TableReference};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableSource};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use frazil_iceberg::{IcebergCatalog, IcebergTable};
use futures::StreamExt;
use sqlparser::ast;

use super::table_functions::table_function;
use crate::catalog::{Catalog, Definition};
use crate::error::{Error, Result};
use crate::sql::{ExtraTables, Statement, StatementKind};

/// The Iceberg tables that a statement names, each at the snapshot that it had then.
#[derive(Default)]
pub(super) struct LakeTables {
    tables: HashMap<(String, String, String), Arc<dyn TableSource>>,
}

impl LakeTables {
    /// Loads them.
    ///
    /// # Errors
    /// What the catalog says of a table that it should have.
    pub(super) async fn load(catalog: &Catalog, statement: &Statement) -> Result<Self> {
        let mut tables = HashMap::new();
        let mut opened: HashMap<String, IcebergCatalog> = HashMap::new();
        for (lake, namespace, name) in names(&statement.kind) {
            let Some(relation) = catalog.get(&lake) else { continue };
            let Definition::Catalog(definition) = relation.definition.as_ref() else { continue };
            if !opened.contains_key(&lake) {
                let mut options = definition.options.clone();
                options.take("type");
                let found = IcebergCatalog::open(options).await;
                let within = |error| Error::from(error).within(format!("catalog \"{lake}\""));
                opened.insert(lake.clone(), found.map_err(within)?);
            }
            if let Some(found) = opened.get(&lake) {
                let table = found.load(&namespace, &name).await.map_err(Error::from)?;
                let table = Arc::new(LakeTable::new(table));
                tables.insert((lake, namespace, name), provider_as_source(table));
            }
        }
        Ok(Self { tables })
    }
}

impl ExtraTables for LakeTables {
    fn table(&self, reference: &TableReference) -> Option<Arc<dyn TableSource>> {
        let TableReference::Full { catalog, schema, table } = reference else { return None };
        self.tables.get(&(catalog.to_string(), schema.to_string(), table.to_string())).cloned()
    }

    fn table_function(
        &self,
        name: &str,
        args: &[Expr],
    ) -> Option<datafusion::error::Result<Arc<dyn TableSource>>> {
        table_function(name, args)
    }
}

/// Names of three parts in what a statement reads.
fn names(kind: &StatementKind) -> BTreeSet<(String, String, String)> {
    let mut names = BTreeSet::new();
    let mut note = |name: &ast::ObjectName| {
        let part = |part: &ast::ObjectNamePart| {
            part.as_ident().map(|ident| match ident.quote_style {
                Some(_) => ident.value.clone(),
                None => ident.value.to_lowercase(),
            })
        };
        let parts: Vec<String> = name.0.iter().filter_map(part).collect();
        if let Ok([catalog, namespace, table]) = <[String; 3]>::try_from(parts) {
            names.insert((catalog, namespace, table));
        }
        ControlFlow::<()>::Continue(())
    };
    // The visitor never breaks off.
    let _ = match kind {
        StatementKind::Query(query) => ast::visit_relations(query.as_ref(), &mut note),
        StatementKind::Insert(insert) => ast::visit_relations(insert.as_ref(), &mut note),
        StatementKind::Update(update) => ast::visit_relations(update.as_ref(), &mut note),
        StatementKind::Delete(delete) => ast::visit_relations(delete.as_ref(), &mut note),
        StatementKind::CreateTableAs(table) => {
            ast::visit_relations(table.query.as_ref(), &mut note)
        }
        StatementKind::Explain(inner) => return self::names(&inner.kind),
        _ => ControlFlow::Continue(()),
    };
    names
}

/// An Iceberg table at one snapshot; a partition for each data file.
#[derive(Debug)]
struct LakeTable {
    table: IcebergTable,
    /// The table's, with bytes as the engine has them.
    schema: SchemaRef,
}

impl LakeTable {
    fn new(table: IcebergTable) -> Self {
        let own = table.schema();
        let fields = own.fields().iter().map(|field| match field.data_type() {
            DataType::LargeBinary => {
                Arc::new(Field::new(field.name(), DataType::Binary, field.is_nullable()))
            }
            _ => Arc::clone(field),
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Self { table, schema }
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let rows = usize::try_from(self.table.row_count()).ok()?;
        statistics.num_rows = Precision::Exact(rows);
        Some(statistics)
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let file = |file: usize| -> Arc<dyn PartitionStream> {
            Arc::new(LakeFile {
                table: self.table.clone(),
                schema: Arc::clone(&schema),
                projection: projection.cloned(),
                file,
            })
        };
        let files: Vec<_> = (0..self.table.files().len()).map(file).collect();
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let scan = StreamingTableExec::try_new(schema, files, None, [], false, limit)?;
        Ok(Arc::new(scan))
    }
}

/// One data file's rows.
#[derive(Debug)]
struct LakeFile {
    table: IcebergTable,
    schema: SchemaRef,
    projection: Option<Vec<usize>>,
    file: usize,
}

impl PartitionStream for LakeFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.table.scan_file(self.file, self.projection.as_deref());
        let schema = Arc::clone(&self.schema);
        let rows = rows.map(move |batch| {
            let batch =
                batch.map_err(|error| DataFusionError::External(Box::new(Error::from(error))))?;
            let fields = schema.fields().iter().zip(batch.columns());
            let columns = fields.map(|(field, column)| cast(column, field.data_type()));
            let columns = columns.collect::<std::result::Result<_, _>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}
