//! [`Records`]: what is remembered of pipelines, in memory and in the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::catalog::RelationId;
use crate::checkpoint::{PipelineRecord, PipelineRun};
use crate::job::checkpointer::Checkpointer;

/// What is remembered of pipelines, in memory and in the manifests.
#[derive(Default)]
pub(in crate::job) struct Records {
    checkpointer: Option<Checkpointer>,
    records: Mutex<BTreeMap<RelationId, PipelineRecord>>,
    running: Mutex<BTreeSet<RelationId>>,
}

impl Records {
    pub(in crate::job) fn new(checkpointer: Checkpointer) -> Self {
        let records = Mutex::new(checkpointer.manifest().pipelines.clone());
        Self { checkpointer: Some(checkpointer), records, running: Mutex::default() }
    }

    pub(in crate::job) fn get(&self, pipeline: RelationId) -> PipelineRecord {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(&pipeline).cloned().unwrap_or_default()
    }

    pub(in crate::job) fn set(&self, pipeline: RelationId, record: PipelineRecord) {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pipeline, record.clone());
        if let Some(checkpointer) = &self.checkpointer {
            checkpointer.set_pipeline(pipeline, record);
        }
    }

    /// The last runs of all pipelines, oldest first.
    pub(in crate::job) fn recent(&self) -> Vec<PipelineRun> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let mut runs: Vec<PipelineRun> =
            records.values().flat_map(|record| record.recent.iter().cloned()).collect();
        runs.sort_by_key(|run| run.started_ms);
        runs
    }

    /// True if no run of the pipeline is under way; one is from now on.
    pub(in crate::job) fn begin(&self, pipeline: RelationId) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(pipeline)
    }

    pub(in crate::job) fn end(&self, pipeline: RelationId) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&pipeline);
    }
}
