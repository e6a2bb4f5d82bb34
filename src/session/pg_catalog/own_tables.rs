//! [`FrazilSchema`]: the schema `frazil`, which the shell reads.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::error::Result;

use super::relation_rows::{key, kind};
use crate::catalog::Catalog;
use crate::sql::redacted;
use crate::types::type_name;

/// `frazil.relations` and `frazil.columns`.
#[derive(Debug)]
pub(super) struct FrazilSchema {
    catalog: Arc<Catalog>,
}

impl FrazilSchema {
    /// The schema over a catalog.
    pub(super) fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }

    fn relations(&self) -> Result<RecordBatch> {
        let relations: Vec<_> = self.catalog.iter().collect();
        let text = |of: &dyn Fn(usize) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..relations.len()).map(of)))
        };
        let names = |at: usize| {
            let fields = relations[at].schema.fields().iter();
            fields.map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
        };
        Ok(RecordBatch::try_from_iter([
            ("name", text(&|at| relations[at].name.clone())),
            ("kind", text(&|at| kind(&relations[at].definition).to_string())),
            ("columns", text(&names)),
            ("definition", text(&|at| redacted(&relations[at].sql))),
        ])?)
    }

    fn columns(&self) -> Result<RecordBatch> {
        let (mut relation, mut position, mut name) = (Vec::new(), Vec::new(), Vec::new());
        let (mut data_type, mut nullable, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for known in self.catalog.iter() {
            for (at, field) in known.schema.fields().iter().enumerate() {
                relation.push(known.name.clone());
                position.push(i32::try_from(at + 1).unwrap_or(i32::MAX));
                name.push(field.name().clone());
                data_type.push(type_name(field.data_type()));
                nullable.push(if field.is_nullable() { "" } else { "not null" });
                let primary = key(&known.definition).contains(&at);
                keys.push(if primary { "primary key" } else { "" });
            }
        }
        let columns: [(&str, ArrayRef); 6] = [
            ("relation", Arc::new(StringArray::from(relation))),
            ("position", Arc::new(Int32Array::from(position))),
            ("column_name", Arc::new(StringArray::from(name))),
            ("data_type", Arc::new(StringArray::from(data_type))),
            ("is_nullable", Arc::new(StringArray::from(nullable))),
            ("key", Arc::new(StringArray::from(keys))),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    }
}

#[async_trait]
impl SchemaProvider for FrazilSchema {
    fn table_names(&self) -> Vec<String> {
        vec!["relations".to_string(), "columns".to_string()]
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let rows = match name {
            "relations" => self.relations()?,
            "columns" => self.columns()?,
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        matches!(name, "relations" | "columns")
    }
}
