//! What `SHOW JOBS`, `SHOW PIPELINE RUNS` and the progress display tell.

use frazil_connector_api::SinkStatus;

use crate::catalog::RelationId;
use crate::dataflow::FieldNotice;

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
    /// What the stored statement of this noun would make, if this program could bind it.
    Unbound(&'static str),
}

/// How a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// It follows its inputs.
    Running,
    /// It is created or resumed, and not up to date yet.
    CatchingUp(CatchUp),
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

/// How far a job is that is created or resumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CatchUp {
    /// Rows of its inputs that it was given.
    pub rows_done: u64,
    /// Rows of its inputs when it began.
    pub rows_total: u64,
    /// Later epochs of its inputs that it has not processed.
    pub epochs_behind: u64,
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
    /// The statement that starts it again if it has failed, unless none does.
    pub resumed_by: Option<String>,
    /// Rows read from outside since the start of the process.
    pub rows_in: u64,
    /// Bytes read from outside since the start of the process.
    pub bytes_in: u64,
    /// Messages that could not be decoded, since the start of the process.
    pub bad_messages: u64,
    /// How the fields of its sources' messages differ from the declared columns.
    pub field_notices: Vec<FieldNotice>,
    /// Rows that it holds, for tables and views.
    pub row_count: Option<u64>,
    /// Memory of its operators' state in bytes.
    pub state_bytes: u64,
    /// The same by operator: name and bytes, in plan order.
    pub operator_bytes: Vec<(String, u64)>,
    /// The sink's figures.
    pub sink: Option<SinkStatus>,
}
