//! [`Creation`] and [`Removal`]: how a catalog changes.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{Catalog, Definition, Relation};
use super::{ChangelogMode, RelationId};
use crate::error::{Error, ErrorKind, Result};
use crate::types::TypeForms;

/// A relation to be made; its id is given when it is.
#[derive(Debug, Clone)]
pub struct Creation {
    /// Its name.
    pub name: String,
    /// What it is.
    pub definition: Definition,
    /// Columns of its rows; for sinks and pipelines those that they write.
    pub schema: SchemaRef,
    /// Unique columns, if known.
    pub upsert_key: Option<Vec<usize>>,
    /// What may appear on its stream.
    pub mode: ChangelogMode,
    /// What it reads.
    pub depends_on: Vec<RelationId>,
}

/// Relations to be dropped, each after all that read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Their names.
    pub names: Vec<String>,
}

/// Columns of the relation `<name>$errors`.
pub fn errors_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("split", DataType::Utf8, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("key", DataType::Utf8, true),
        Field::new("payload", DataType::Utf8, true),
        Field::new("reason", DataType::Utf8, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
    ]))
}

/// The columns of [`errors_schema`] that name a message: the split and the offset.
pub const ERRORS_KEY: [usize; 2] = [0, 1];

fn duplicate(name: &str) -> Error {
    Error::new(ErrorKind::DuplicateTable, format!("relation \"{name}\" already exists"))
}

impl Catalog {
    /// Makes a relation and, for what a connector feeds, its `<name>$errors`. `sql` is the text
    /// that would make it again, `forms` those of its types.
    ///
    /// # Errors
    /// `DuplicateTable` if one of the names is taken; then nothing is made.
    pub fn create(
        &mut self,
        creation: Creation,
        sql: &str,
        forms: TypeForms,
    ) -> Result<Vec<Arc<Relation>>> {
        let Creation { name, definition, schema, upsert_key, mode, depends_on } = creation;
        let errors_name = format!("{name}$errors");
        let has_errors = definition.has_errors();
        if self.get(&name).is_some() {
            return Err(duplicate(&name));
        }
        if has_errors && self.get(&errors_name).is_some() {
            return Err(duplicate(&errors_name));
        }
        let sql = sql.to_string();
        let definition = Arc::new(definition);
        let id = self.next_id();
        let relation =
            Relation { id, name, sql, forms, definition, schema, upsert_key, mode, depends_on };
        let mut made = vec![self.insert(relation)];
        if has_errors {
            made.push(self.insert(Relation {
                id: self.next_id(),
                name: errors_name,
                sql: String::new(),
                forms,
                definition: Arc::new(Definition::Errors),
                schema: errors_schema(),
                upsert_key: Some(ERRORS_KEY.to_vec()),
                // The oldest rows go.
                mode: ChangelogMode::Retract,
                depends_on: vec![id],
            }));
        }
        Ok(made)
    }

    /// What has to be dropped to drop `name`: its `$errors`, and with `cascade` all that read it.
    ///
    /// # Errors
    /// `DependentObjects` naming what reads it, unless `cascade`.
    pub fn removal(&self, roots: &[Arc<Relation>], cascade: bool) -> Result<Removal> {
        let mut names = Vec::new();
        for root in roots {
            self.collect(root, &mut names);
        }
        if !cascade {
            let named =
                |name: &String| roots.iter().any(|root| root.name == *name || owns(root, name));
            let others: Vec<&String> = names.iter().filter(|name| !named(name)).collect();
            if let (Some(root), false) = (roots.first(), others.is_empty()) {
                let noun = root.definition.noun();
                let others = others.iter().rev().map(|name| format!("\"{name}\""));
                return Err(Error::new(
                    ErrorKind::DependentObjects,
                    format!("cannot drop {noun} \"{}\" because others depend on it", root.name),
                )
                .with_detail(format!("it is read by {}", others.collect::<Vec<_>>().join(", ")))
                .with_hint("use DROP … CASCADE to drop them too"));
            }
        }
        Ok(Removal { names })
    }

    /// Dependents first, each once.
    fn collect(&self, relation: &Arc<Relation>, names: &mut Vec<String>) {
        if names.contains(&relation.name) {
            return;
        }
        for dependent in self.dependents(relation.id) {
            self.collect(&dependent, names);
        }
        names.push(relation.name.clone());
    }

    /// Drops relations; the answer is in the order in which they went.
    ///
    /// # Errors
    /// `UndefinedTable` if one of them does not exist; then nothing is dropped.
    pub fn drop_relations(&mut self, removal: &Removal) -> Result<Vec<Arc<Relation>>> {
        if let Some(name) = removal.names.iter().find(|name| self.get(name).is_none()) {
            let message = format!("relation \"{name}\" does not exist");
            return Err(Error::new(ErrorKind::UndefinedTable, message));
        }
        Ok(removal.names.iter().filter_map(|name| self.remove(name)).collect())
    }
}

fn owns(root: &Relation, name: &str) -> bool {
    name.strip_suffix("$errors") == Some(root.name.as_str())
}
