//! The life of streaming queries and pipelines: create, backfill, run, schedule, drop, supervise.
//!
//! ```text
//! session ─► Engine ─► Coordinator ─► workers (dataflow)
//!                         │  └──────► Checkpointer ─► manifest (checkpoint)
//!                         └─────────► Sinks: prepare, commit
//! ```
//!
//! [`Engine`] is the one handle that sessions hold.
//! **Invariant:** one task, the coordinator, decides what happens next; all others only do it.

mod applying;
mod checkpointer;
mod coordinator;
mod done;
mod engine;
mod flushes;
mod message;
mod recent_writes;
mod relation_errors;
mod schedule;
mod sink_log;
mod sink_problem;
mod sink_slot;
mod sinks;
mod startup;
mod state;
mod status;
mod uncancelled;

pub use engine::{Engine, ReadToWrite, RelationSnapshot, Snapshot};
pub use state::WorkerSilence;
pub use status::{CatchUp, JobKind, JobState, JobStatus};
pub use uncancelled::uncancelled;

pub use crate::checkpoint::{PipelineRun, PipelineRunState};
