//! The life of streaming queries and pipelines: create, backfill, run, schedule, drop, supervise.
//!
//! [`Engine`] is the one handle that sessions hold.

mod engine;
mod status;

pub use engine::{Engine, RelationSnapshot, Snapshot};
pub use status::{JobKind, JobState, JobStatus, PipelineRun, PipelineRunState};
