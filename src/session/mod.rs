//! One client's statements.
//!
//! ```text
//! text ──► Statement ──► Session ──┬─ query: one Snapshot, planned and run by DataFusion
//!                                  ├─ write: changes to Engine::write
//!                                  └─ CREATE, DROP, FLUSH …: the Engine
//! ```
//!
//! **Invariant:** a statement reads one snapshot, so all tables and views in it agree. A statement
//! that panics gives `XX000` to its client and nothing to anybody else.

mod cached_plans;
mod describe;
mod explain;
mod failure;
mod lake_table;
#[cfg(test)]
mod law_tests;
mod outcome;
mod pg_catalog;
mod pg_rows;
mod query;
mod query_runtime;
mod relation_schema;
mod session_state;
mod shared;
mod show;
mod snapshot_table;
mod table_functions;
mod table_locks;
mod variables;
mod write;

pub use crate::sql::Statement;
pub use failure::query_error;
pub use outcome::{Description, Outcome};
pub use pg_rows::{numeric_text, pg_fields, pg_rows, text_rows, type_modifier, wire_type};
pub use query_runtime::SPILL_DIRECTORY;
pub use session_state::{PreparedStatement, Session, Sessions};
pub use variables::{SERVER_VERSION, Variables};
pub use write::{Load, LoadedRows, shown};
