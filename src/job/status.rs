//! What `SHOW JOBS`, `SHOW PIPELINE RUNS` and the progress display tell.

use frazil_connector_api::SinkStatus;

use crate::catalog::RelationId;

/// What a job keeps up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// A table, own or fed by a connector.
    Table,
    /// A live view.
    View,
    /// A sink.
    Sink,
    /// A scheduled sink.
    Pipeline,
}

/// How a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// It follows its inputs.
    Running,
    /// Its bounded inputs have ended and all is processed.
    Finished,
    /// The outside failed; it is tried again.
    Retrying {
        /// Tries so far.
        attempts: u32,
        /// Last error.
        error: String,
    },
    /// It stopped for good, with an error.
    Failed {
        /// The error.
        error: String,
    },
}

/// One job.
#[derive(Debug, Clone)]
pub struct JobStatus {
    /// Id of what it keeps up.
    pub id: RelationId,
    /// Name of what it keeps up.
    pub name: String,
    /// Kind of it.
    pub kind: JobKind,
    /// How it is.
    pub state: JobState,
    /// Rows read from outside since the start of the process.
    pub rows_in: u64,
    /// Bytes read from outside since the start of the process.
    pub bytes_in: u64,
    /// Messages that could not be decoded, since the start of the process.
    pub bad_messages: u64,
    /// Rows that it holds, for tables and views.
    pub row_count: Option<u64>,
    /// Memory of its operators' state in bytes.
    pub state_bytes: u64,
    /// The same by operator: name and bytes, in plan order.
    pub operator_bytes: Vec<(String, u64)>,
    /// The sink's figures.
    pub sink: Option<SinkStatus>,
}

/// How a firing of a pipeline went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipelineRunState {
    /// Under way.
    Running,
    /// Failed and tried again.
    Retrying {
        /// Tries so far.
        attempts: u32,
        /// Last error.
        error: String,
    },
    /// Committed one snapshot.
    Committed {
        /// The target's name for it.
        snapshot: String,
    },
    /// There was nothing new.
    Empty,
    /// Given up.
    Failed {
        /// The error.
        error: String,
    },
}

/// One firing of a pipeline.
#[derive(Debug, Clone)]
pub struct PipelineRun {
    /// Pipeline's name.
    pub pipeline: String,
    /// Counted from 1 for each pipeline.
    pub run: u64,
    /// When it was due, milliseconds since 1970 in UTC.
    pub scheduled_ms: i64,
    /// When it started.
    pub started_ms: i64,
    /// When it ended, if it has.
    pub finished_ms: Option<i64>,
    /// How it went.
    pub state: PipelineRunState,
}
