//! Logical plan to incremental plan.
//!
//! ```text
//! LogicalPlan ──rules──► LogicalPlan ──translate──► IncrementalPlan ──explain──► text
//! ```
//!
//! **Invariant:** a plan that cannot be kept up incrementally is refused here with `0A000` and the
//! node's name; what is planned obeys incremental = batch. Planning is a function of the logical
//! plan alone: no clock, no chance.

mod aggregate;
mod batch;
mod explain;
mod expression;
mod fallible;
mod float_extremes;
mod fragment_plan;
mod guards;
mod join;
mod large_stack;
mod lower;
mod node;
mod postgres;
mod push_down_filter;
mod relation_source;
mod rewriting;
mod rules;
mod translate;
mod wide_sums;

pub use batch::{BatchPlanner, physical_plan};
pub use explain::explain;
pub use fragment_plan::{
    FragmentIdentity, FragmentPlan, OperatorIds, PlannedRelation, rows_operator,
};
pub use large_stack::{LARGE_STACK_BYTES, on_large_stack};
pub use node::{AggregateCall, IncrementalPlan, JoinKind, Node, SortKey};
pub use relation_source::RelationSource;
pub use rewriting::{coerced, with_expressions, with_types};
pub use translate::plan;
