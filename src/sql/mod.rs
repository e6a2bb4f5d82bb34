//! SQL text to bound statements.
//!
//! ```text
//! text ──parse──► Statement ──bind(catalog)──► Bound ──► Creation, Removal, LogicalPlan
//! ```
//!
//! **Invariant:** binding is a function of the catalog and the text: no clock, no chance, no I/O,
//! so that every process that binds the same text comes to the same plan.
//!
//! Not here: what a bound statement does (`session`, `job`).

mod binder;
mod clauses;
mod column_list;
mod copy_parser;
mod create_parser;
mod int4_literals;
mod output_names;
mod parser;
mod postgres_syntax;
mod query_binder;
mod relation_binder;
mod scope;
mod shared_types;
mod show_parser;
mod sink_binder;
mod statement;
mod stored;
mod syntax;
mod syntax_error;
mod write_binder;

#[cfg(test)]
mod tests;

pub use binder::{Bound, Explain, NewRelation, Proposal, Write, WriteKind, bind, bind_with};
pub use column_list::unenforced;
pub use output_names::{visible_columns, visible_text};
pub use parser::{fold, parse};
pub use postgres_syntax::with_planner_syntax;
pub use query_binder::{parameter_types, with_final_types};
pub use scope::{DATABASE, ExtraTables, NoExtraTables, SCHEMA};
pub use statement::{
    ColumnList, Copy, CopyFormat, CopyIn, CopyKind, CreateCatalog, CreatePipeline, CreateRelation,
    CreateSink, CreateTableAs, CreateView, Declare, Direction, Discard, Drop, Execute, Fetch,
    FormatClause, IncludeClause, Name, NoEffect, ObjectKind, Prepare, Resume, Show, SinkSource,
    Statement, StatementKind, Transaction, Truncate,
};
pub use stored::enter_stored;
pub use syntax::{mended, no_parameter, parse_expression, parse_postgres, redacted, same_text};
pub use write_binder::loads::{bind_arguments, bind_load, loaded_rows};
pub use write_binder::{CONFLICTS, conflicts_schema};
