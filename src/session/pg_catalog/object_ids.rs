//! Object ids.

use crate::catalog::RelationId;

/// Id of the database.
pub(super) const DATABASE_ID: i32 = 16_000;
/// `pg_catalog`, as in every PostgreSQL.
pub(super) const NAMESPACE_PG_CATALOG: i32 = 11;
/// `public`, as in every PostgreSQL.
pub(super) const NAMESPACE_PUBLIC: i32 = 2200;
/// `information_schema`.
pub(super) const NAMESPACE_INFORMATION: i32 = 13_000;
/// `frazil`.
pub(super) const NAMESPACE_FRAZIL: i32 = 13_001;
/// The role that owns everything, as in every PostgreSQL.
pub(super) const OWNER: i32 = 10;
/// The tablespace of everything, as in every PostgreSQL.
pub(super) const TABLESPACE_DEFAULT: i32 = 1663;
/// Access method of tables.
pub(super) const ACCESS_HEAP: i32 = 2;
/// Access method of indexes.
pub(super) const ACCESS_BTREE: i32 = 403;

const FIRST_RELATION: i32 = 16_384;
const FIRST_INDEX: i32 = 1_000_000_000;
const FIRST_CONSTRAINT: i32 = 1_500_000_000;

fn from(first: i32, id: RelationId) -> i32 {
    i32::try_from(id.0).map_or(i32::MAX, |id| first.saturating_add(id))
}

/// A relation's id.
pub(super) fn relation(id: RelationId) -> i32 {
    from(FIRST_RELATION, id)
}

/// The id of a table's primary key, seen as an index.
pub(super) fn key_index(id: RelationId) -> i32 {
    from(FIRST_INDEX, id)
}

/// The id of a table's primary key, seen as a constraint.
pub(super) fn key_constraint(id: RelationId) -> i32 {
    from(FIRST_CONSTRAINT, id)
}
