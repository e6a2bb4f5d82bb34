//! [`RelationRow`]: the engine's relations as PostgreSQL sees them.

use std::sync::Arc;

use crate::catalog::{COUNTERS, Catalog, Definition, Relation};

/// A relation that clients can see in `pg_class`.
pub(super) struct RelationRow {
    /// The relation.
    pub(super) relation: Arc<Relation>,
    /// `r`, `m` or `v`.
    pub(super) relkind: &'static str,
    /// Columns of the primary key; none for a relation without.
    pub(super) key: Vec<usize>,
}

/// What a relation is, in words.
pub(super) fn kind(definition: &Definition) -> &'static str {
    match definition {
        Definition::Table(_) => "table",
        Definition::Source(_) => "source",
        Definition::View(_) => "materialized view",
        Definition::LogicalView(_) => "view",
        Definition::Sink(_) => "sink",
        Definition::Pipeline(_) => "pipeline",
        Definition::Catalog(_) => "catalog",
        Definition::Errors => "errors table",
        Definition::Unbound(unbound) => unbound.noun,
    }
}

/// Columns of a table's primary key.
pub(super) fn key(definition: &Definition) -> &[usize] {
    match definition {
        Definition::Table(table) => &table.primary_key,
        _ => &[],
    }
}

/// All relations with columns: tables, sources and errors tables as tables, views as views.
pub(super) fn visible(catalog: &Catalog) -> Vec<RelationRow> {
    let row = |relation: &Arc<Relation>| {
        if relation.name == COUNTERS {
            return None;
        }
        let relkind = match relation.definition.as_ref() {
            Definition::Table(_) | Definition::Source(_) | Definition::Errors => "r",
            Definition::View(_) => "m",
            Definition::LogicalView(_) => "v",
            Definition::Sink(_)
            | Definition::Pipeline(_)
            | Definition::Catalog(_)
            | Definition::Unbound(_) => return None,
        };
        let key = key(&relation.definition).to_vec();
        Some(RelationRow { relation: Arc::clone(relation), relkind, key })
    };
    catalog.iter().filter_map(row).collect()
}

impl RelationRow {
    /// The text of a view's query.
    pub(super) fn query(&self) -> Option<&str> {
        match self.relation.definition.as_ref() {
            Definition::View(view) => Some(&view.query),
            Definition::LogicalView(view) => Some(&view.query),
            _ => None,
        }
    }

    /// Name of the primary key.
    pub(super) fn key_name(&self) -> String {
        format!("{}_pkey", self.relation.name)
    }

    /// The key's columns by name, in a list.
    pub(super) fn key_columns(&self) -> String {
        let fields = self.relation.schema.fields();
        let names: Vec<&str> = self
            .key
            .iter()
            .filter_map(|at| fields.get(*at))
            .map(|field| field.name().as_str())
            .collect();
        names.join(", ")
    }
}
