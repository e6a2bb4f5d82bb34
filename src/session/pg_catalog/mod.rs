//! What clients ask of a PostgreSQL about itself: `pg_catalog`, `information_schema`, and the
//! shell's own schema `frazil`.
//!
//! ```text
//! text ──► rewritten (ours, then the crate's) ──► plan over pg_catalog, information_schema,
//!                                                 frazil, public
//! ```
//!
//! Crate `datafusion-pg-catalog` has the tables that are the same everywhere (types, operators),
//! most functions and the rewriting of clients' SQL. Here is what tells of this engine: relations,
//! columns, keys.
//!
//! **Invariant:** an object id is a function of the relation's id, so it is the same for all
//! sessions and after a restart.

mod catalog_function;
mod catalog_use;
mod client_query;
mod context;
mod functions;
mod object_ids;
mod own_tables;
mod pg_tables;
mod relation_rows;
mod value_functions;

pub(super) use catalog_use::{CatalogExtras, CatalogUse};
pub(super) use context::CatalogContext;
