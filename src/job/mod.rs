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

mod checkpointer;
mod compaction;
mod coordinator;
mod ddl;
mod done;
mod engine;
mod failures;
mod flushes;
mod recent_writes;
mod reconcile;
mod schedule;
mod sink_log;
mod sink_problem;
mod sink_slot;
mod sinks;
mod start_offsets;
mod startup;
mod state;
mod status;

pub use engine::{Engine, ReadToWrite, RelationSnapshot, Snapshot, uncancelled};
pub use state::WorkerSilence;
pub use status::{CatchUp, JobKind, JobState, JobStatus};

pub use crate::checkpoint::{PipelineRun, PipelineRunState};
