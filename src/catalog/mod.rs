//! Names to tables, sources, views, sinks, pipelines.
//!
//! **Invariant:** a catalog is a function of the statements applied to it, in their order: every
//! worker of every process keeps its own and they agree. Ids are never reused.

mod change;
mod definition;
mod errors_retention;
mod identity;
mod relation;
mod taking_part;

pub use change::{Creation, ERRORS_KEY, Removal, errors_schema};
pub use definition::{
    COUNTERS, CatalogDef, ColumnDef, Definition, FormatDef, IdentityColumn, LogicalViewDef,
    PipelineDef, SinkDef, SourceDef, TableDef, UnboundDef, ViewDef, columns_schema,
};
pub use errors_retention::{ERRORS_OPTIONS, ErrorsRetention};
pub use identity::{ChangelogMode, RelationId};
pub use relation::{Catalog, Relation};
