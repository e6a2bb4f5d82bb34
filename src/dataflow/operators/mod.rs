//! Incremental operators: synchronous state machines over batches of changes.
//!
//! ```text
//!            on_changes*            on_epoch_end            checkpoint (some epochs)
//! input ───► Operator ───► output   ───► output              ───► touched keys
//! ```
//!
//! **Invariant:** an operator knows nothing of threads, clocks or Timely. All changes of one epoch
//! come before `on_epoch_end`, none of a later epoch; the sum of all its outputs is its function
//! of the sum of all its inputs after every epoch; and a new operator that is given what
//! `checkpoint` wrote goes on as the old one would have.

mod errors_table;
mod evaluate;
mod filter;
mod hash_aggregate;
mod hash_join;
#[cfg(test)]
mod law_tests;
mod materialize;
mod operator;
mod project;
#[cfg(test)]
pub(crate) mod testing;
mod top_n;
mod upsert_table;

pub use errors_table::ErrorsTable;
pub use filter::Filter;
pub use hash_aggregate::{Aggregate, AggregateFunction, AggregateSpec, HashAggregate};
pub use hash_join::{HashJoin, InputKind, JoinInput, JoinSpec};
pub use materialize::Materialize;
pub use operator::{EpochInfo, Operator, Output};
pub use project::Project;
pub use top_n::{TopN, TopNSpec};
pub use upsert_table::{FormerRows, UpsertTable};
