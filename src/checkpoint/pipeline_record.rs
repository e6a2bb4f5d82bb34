//! [`PipelineRecord`]: what manifests tell of a pipeline's firings.

use serde::{Deserialize, Serialize};

/// Runs that are remembered of each pipeline.
const RECENT_MAX: usize = 50;

/// A pipeline's past.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineRecord {
    /// Runs so far.
    pub runs: u64,
    /// When the last one that ended was due, milliseconds since 1970.
    pub last_scheduled_ms: Option<i64>,
    /// The last ones that ended, oldest first.
    #[serde(default)]
    pub recent: Vec<PipelineRun>,
}

impl PipelineRecord {
    /// Takes note of a run that has ended.
    pub fn add(&mut self, run: PipelineRun) {
        self.last_scheduled_ms = self.last_scheduled_ms.max(Some(run.scheduled_ms));
        self.recent.push(run);
        let surplus = self.recent.len().saturating_sub(RECENT_MAX);
        self.recent.drain(..surplus);
    }
}

/// How a firing of a pipeline went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
