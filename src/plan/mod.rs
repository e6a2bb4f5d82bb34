//! Logical plan to incremental plan.
//!
//! **Invariant:** a plan that cannot be kept up incrementally is refused here with `0A000` and the
//! node's name; what is planned obeys incremental = batch.

mod node;

pub use node::{
    AggregateCall, ChangelogMode, IncrementalPlan, JoinKind, Node, RelationId, SortKey,
};
