//! A shop's catalog, and short ways to bind.

use super::super::{Bound, Statement, bind, parse};
use crate::catalog::Catalog;
use crate::error::{Error, Result};

/// Parses one statement.
pub(super) fn one(text: &str) -> Statement {
    let mut statements = parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0)
}

/// Binds one statement.
pub(super) fn bound(catalog: &Catalog, text: &str) -> Result<Bound> {
    bind(catalog, &one(text))
}

/// The error of binding one statement.
pub(super) fn refused(catalog: &Catalog, text: &str) -> Error {
    match bound(catalog, text) {
        Ok(bound) => panic!("{text} was bound: {bound:?}"),
        Err(error) => error,
    }
}

/// Applies statements, and returns the names that each made or dropped.
pub(super) fn apply(catalog: &mut Catalog, text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for statement in parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}")) {
        let bound = bind(catalog, &statement)
            .unwrap_or_else(|error| panic!("{}: {error:?}", statement.text));
        let changed = match bound {
            Bound::Create(new) => {
                let made = new.enter(catalog, &statement.text).unwrap();
                made.into_iter().map(|made| made.relation).collect()
            }
            Bound::Drop(removal) => catalog.drop_relations(&removal).unwrap(),
            Bound::AlreadyExists { .. } | Bound::NothingToDrop { .. } => Vec::new(),
            other => panic!("{} changes nothing: {other:?}", statement.text),
        };
        names.extend(changed.iter().map(|relation| relation.name.clone()));
    }
    names
}

/// A catalog with the tables of a small shop.
pub(super) fn shop() -> Catalog {
    let mut catalog = Catalog::default();
    apply(
        &mut catalog,
        "CREATE TABLE orders (id BIGINT PRIMARY KEY, customer BIGINT, amount NUMERIC(12,2),
           status TEXT, at TIMESTAMPTZ);
         CREATE TABLE customers (id BIGINT PRIMARY KEY, name TEXT NOT NULL);
         CREATE TABLE log (line TEXT, level INT) APPEND ONLY;
         CREATE SOURCE clicks (page TEXT, who BIGINT) WITH (connector = 'kafka', topic = 'clicks')
           FORMAT PLAIN ENCODE JSON;",
    );
    catalog
}
