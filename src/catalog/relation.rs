//! [`Catalog`] and [`Relation`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use frazil_connector_api::Options;

use super::{CatalogDef, ChangelogMode, Definition, RelationId};
use crate::types::TypeForms;

/// A named thing.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Its id, never reused.
    pub id: RelationId,
    /// Its name.
    pub name: String,
    /// Text of the statement that made it; applying it again makes it again.
    pub sql: String,
    /// The forms that the types of this text have.
    pub forms: TypeForms,
    /// What it is.
    pub definition: Arc<Definition>,
    /// Columns of its rows; empty for sinks without rows to read.
    pub schema: SchemaRef,
    /// Unique columns, if known.
    pub upsert_key: Option<Vec<usize>>,
    /// What may appear on its stream.
    pub mode: ChangelogMode,
    /// What it reads.
    pub depends_on: Vec<RelationId>,
}

/// Names to relations.
#[derive(Debug, Clone)]
pub struct Catalog {
    relations: BTreeMap<String, Arc<Relation>>,
    ids: BTreeMap<RelationId, Arc<Relation>>,
    next_id: u32,
}

impl Default for Catalog {
    /// A catalog with the predefined Iceberg catalog `lake`.
    fn default() -> Self {
        let mut catalog = Self { relations: BTreeMap::new(), ids: BTreeMap::new(), next_id: 0 };
        catalog.insert(lake());
        catalog
    }
}

/// The predefined catalog: Iceberg tables in the folder `lake`.
fn lake() -> Relation {
    let pairs = [
        ("type", "iceberg"),
        ("catalog.type", "sql"),
        ("catalog.uri", "sqlite://lake/catalog.db"),
        ("warehouse.path", "lake"),
    ];
    let sql = pairs.map(|(name, value)| format!("{name} = '{value}'")).join(", ");
    let options = Options::new(pairs.map(|(name, value)| (name.to_string(), value.to_string())));
    Relation {
        id: RelationId(0),
        name: "lake".to_string(),
        sql: format!("CREATE CATALOG lake WITH ({sql})"),
        forms: TypeForms::Own,
        definition: Arc::new(Definition::Catalog(CatalogDef { options })),
        schema: Arc::new(Schema::empty()),
        upsert_key: None,
        mode: ChangelogMode::AppendOnly,
        depends_on: Vec::new(),
    }
}

impl Catalog {
    /// Looks a name up.
    pub fn get(&self, name: &str) -> Option<&Arc<Relation>> {
        self.relations.get(name)
    }

    /// Looks an id up.
    pub fn by_id(&self, id: RelationId) -> Option<&Arc<Relation>> {
        self.ids.get(&id)
    }

    /// All relations, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.relations.values()
    }

    /// The id that the next relation gets.
    pub fn next_id(&self) -> RelationId {
        RelationId(self.next_id)
    }

    /// Sets the id that the next relation gets, when a catalog is restored.
    pub fn set_next_id(&mut self, id: RelationId) {
        self.next_id = id.0;
    }

    /// Adds a relation under its own id, which is at least [`Catalog::next_id`].
    pub fn insert(&mut self, relation: impl Into<Arc<Relation>>) -> Arc<Relation> {
        let relation = relation.into();
        self.next_id = self.next_id.max(relation.id.0 + 1);
        self.ids.insert(relation.id, Arc::clone(&relation));
        let before = self.relations.insert(relation.name.clone(), Arc::clone(&relation));
        if let Some(before) = before.filter(|before| before.id != relation.id) {
            self.ids.remove(&before.id);
        }
        relation
    }

    /// Removes a relation.
    pub fn remove(&mut self, name: &str) -> Option<Arc<Relation>> {
        let removed = self.relations.remove(name);
        removed.inspect(|relation| _ = self.ids.remove(&relation.id))
    }

    /// These relations and all that they read, directly or not.
    pub fn upstream(&self, of: impl IntoIterator<Item = RelationId>) -> BTreeSet<RelationId> {
        let mut found = BTreeSet::new();
        let mut open: Vec<_> = of.into_iter().collect();
        while let Some(id) = open.pop() {
            if let Some(relation) = self.by_id(id)
                && found.insert(id)
            {
                open.extend(&relation.depends_on);
            }
        }
        found
    }

    /// Relations that read `id`, directly.
    pub fn dependents(&self, id: RelationId) -> Vec<Arc<Relation>> {
        let reads = |relation: &&Arc<Relation>| relation.depends_on.contains(&id);
        self.relations.values().filter(reads).cloned().collect()
    }
}
