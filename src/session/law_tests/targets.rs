//! [`Targets`]: the sinks and pipelines that a script has made.

use tempfile::TempDir;

use super::rows::Rows;

/// A sink or a pipeline.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    /// What it reads.
    pub(super) relation: String,
    /// What a pipeline's table may hold: more than one state after a crash in a firing.
    pub(super) fired: Vec<Rows>,
}

/// Sinks and pipelines.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) sinks: Vec<Target>,
    pub(super) pipelines: Vec<Target>,
    /// Where the pipelines' tables are, once there is one.
    pub(super) depot: Option<TempDir>,
    made: usize,
}

impl Targets {
    pub(super) fn name(&mut self, letter: &str) -> String {
        self.made += 1;
        format!("{letter}{}", self.made)
    }

    /// Forgets what went with these relations.
    pub(super) fn forget(&mut self, gone: &[String]) {
        self.sinks.retain(|sink| !gone.contains(&sink.relation));
        self.pipelines.retain(|pipeline| !gone.contains(&pipeline.relation));
    }
}
