//! [`Manifest`]: all that is true at one durable epoch.

use std::collections::BTreeMap;

use frazil_connector_api::LastCommit;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::pipeline_record::PipelineRecord;
use crate::catalog::RelationId;
use crate::dataflow::SourceOffsets;
use crate::error::Error;
use crate::plan::FragmentIdentity;
use crate::state::SegmentRef;

/// Version of the manifest's form; another one is refused.
pub(super) const VERSION: u32 = 4;

/// All that is true at one durable epoch, as one JSON object.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this form.
    pub version: u32,
    /// Its place in the chain, from 1.
    pub sequence: u64,
    /// Fence of the process that wrote it.
    pub fence: u64,
    /// The epoch.
    pub epoch: u64,
    /// Its time in milliseconds since 1970 in UTC: no later epoch has an earlier one.
    #[serde(default)]
    pub now_ms: i64,
    /// The id that the next relation gets.
    pub next_relation: RelationId,
    /// The catalog: statements in the order in which they were applied.
    pub statements: Vec<StatementRecord>,
    /// Identity of each relation's fragment: its state is only given to the same plan.
    pub fragments: BTreeMap<RelationId, FragmentIdentity>,
    /// Next offset of every split of every source.
    pub offsets: SourceOffsets,
    /// All live state, oldest segment of a table first.
    pub segments: Vec<SegmentRef>,
    /// What sinks have prepared or keep waiting.
    pub sinks: BTreeMap<RelationId, SinkRecord>,
    /// Scheduled pipelines.
    pub pipelines: BTreeMap<RelationId, PipelineRecord>,
    /// Relations that failed for good, and why.
    pub failed: BTreeMap<RelationId, Error>,
    /// The epoch of the state that a failed relation has here; of those that are not named it is
    /// the manifest's. The maximum if its state is not whole.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed_at: BTreeMap<RelationId, u64>,
}

/// A CREATE statement that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementRecord {
    /// Id of the relation that it made.
    pub id: RelationId,
    /// Its text.
    pub sql: String,
}

/// A sink at a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SinkRecord {
    /// Its id in the target's markers; new for each CREATE SINK.
    pub id: Uuid,
    /// Its newest commit, which may still have to be made visible.
    pub last: LastCommit,
    /// Pending changes of the next commit: objects of the log, oldest first.
    pub pending: Vec<String>,
}

impl Manifest {
    /// Before the first checkpoint.
    pub fn empty() -> Self {
        Self {
            version: VERSION,
            sequence: 0,
            fence: 0,
            epoch: 0,
            now_ms: 0,
            next_relation: RelationId(1),
            statements: Vec::new(),
            fragments: BTreeMap::new(),
            offsets: SourceOffsets::new(),
            segments: Vec::new(),
            sinks: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            failed: BTreeMap::new(),
            failed_at: BTreeMap::new(),
        }
    }

    /// Every object that the manifest needs.
    pub fn objects(&self) -> std::collections::BTreeSet<&str> {
        let state = self.segments.iter().map(|segment| segment.object.as_str());
        let pending = self.sinks.values().flat_map(|sink| sink.pending.iter().map(String::as_str));
        state.chain(pending).collect()
    }
}
