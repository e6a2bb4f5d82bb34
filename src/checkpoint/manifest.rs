//! [`Manifest`]: all that is true at one durable epoch.

use std::collections::{BTreeMap, HashMap, HashSet};

use frazil_connector_api::{CheckpointNumber, Fence, LastCommit};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::kept::Kept;
use super::pipeline_record::PipelineRecord;
use crate::catalog::RelationId;
use crate::dataflow::SourceOffsets;
use crate::error::Error;
use crate::plan::FragmentIdentity;
use crate::state::SegmentRef;
use crate::types::TypeForms;

/// Version of the manifest's form; another one is refused, but for those that are converted.
pub(super) const VERSION: u32 = 5;

/// Where manifests lie.
pub(super) const MANIFESTS: &str = "manifest";

/// All that is true at one durable epoch.
///
/// A manifest is written with each INSERT, so its size follows what has changed since the one
/// before it: see [`Kept`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this form.
    pub version: u32,
    /// Its place in the chain, from 1.
    pub sequence: CheckpointNumber,
    /// Fence of the process that wrote it.
    pub fence: Fence,
    /// The epoch.
    pub epoch: u64,
    /// Its time in milliseconds since 1970 in UTC: no later epoch has an earlier one.
    pub now_ms: i64,
    /// The id that the next relation gets.
    pub next_relation: RelationId,
    /// What has been created.
    pub catalog: Kept<StoredCatalog>,
    /// Next offset of every split of every source.
    pub offsets: SourceOffsets,
    /// All live state by relation, oldest segment of a table first.
    pub state: BTreeMap<RelationId, Kept<Vec<SegmentRef>>>,
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

/// What has been created.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredCatalog {
    /// Statements in the order in which they were applied.
    pub statements: Vec<StatementRecord>,
    /// Identity of each relation's fragment: its state is only given to the same plan.
    pub fragments: BTreeMap<RelationId, FragmentIdentity>,
}

/// A CREATE statement that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementRecord {
    /// Id of the relation that it made.
    pub id: RelationId,
    /// Its text.
    pub sql: String,
    /// The forms of its types; those of a manifest of before there was a choice are not named.
    #[serde(default)]
    pub forms: TypeForms,
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
            sequence: CheckpointNumber::default(),
            fence: Fence::default(),
            epoch: 0,
            now_ms: 0,
            next_relation: RelationId(1),
            catalog: Kept::default(),
            offsets: SourceOffsets::new(),
            state: BTreeMap::new(),
            sinks: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            failed: BTreeMap::new(),
            failed_at: BTreeMap::new(),
        }
    }

    /// All segments; those of one state table are oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentRef> {
        self.state.values().flat_map(|segments| segments.iter())
    }

    /// Adds segments, which are newer than those of their state tables that are here.
    pub fn add_segments(&mut self, segments: impl IntoIterator<Item = SegmentRef>) {
        for segment in segments {
            self.state.entry(segment.relation).or_default().edit().push(segment);
        }
    }

    /// Keeps those segments of a relation that are wanted.
    pub fn retain_segments(&mut self, relation: RelationId, keep: impl Fn(&SegmentRef) -> bool) {
        if let Some(segments) = self.state.get_mut(&relation) {
            segments.edit().retain(keep);
            if segments.is_empty() {
                self.state.remove(&relation);
            }
        }
    }

    /// Every object that the manifest needs, earlier manifests included; some come more than once.
    pub(super) fn objects(&self) -> impl Iterator<Item = String> {
        let state = self.segments().map(|segment| segment.object.clone());
        let pending = self.sinks.values().flat_map(|sink| sink.pending.iter().cloned());
        state.chain(pending).chain(self.earlier().map(manifest_path))
    }

    /// Sequences of the manifests that have parts of this one.
    pub(super) fn earlier(&self) -> impl Iterator<Item = CheckpointNumber> {
        let state = self.state.values().filter_map(Kept::sequence);
        self.catalog.sequence().into_iter().chain(state)
    }

    /// True if it has parts or segments in the manifest of a sequence.
    pub(super) fn needs_manifest(&self, sequence: CheckpointNumber) -> bool {
        let path = manifest_path(sequence);
        self.earlier().any(|earlier| earlier == sequence)
            || self.segments().any(|segment| segment.object == path)
    }

    /// Objects of `before`, the manifest that this one follows, and of `others`, that this one
    /// does not need. It costs what has changed, and a look at each segment if anything has.
    pub fn garbage(&self, before: &Self, others: Vec<String>) -> Vec<String> {
        let mut garbage: HashSet<String> = others.into_iter().collect();
        let mut add = |kept: Option<CheckpointNumber>| garbage.extend(kept.map(manifest_path));
        if !self.catalog.is_same(&before.catalog) {
            add(before.catalog.sequence());
        }
        for (relation, segments) in &before.state {
            if self.state.get(relation).is_none_or(|now| !now.is_same(segments)) {
                garbage.extend(segments.sequence().map(manifest_path));
                garbage.extend(segments.iter().map(|segment| segment.object.clone()));
            }
        }
        for (relation, sink) in &before.sinks {
            if self.sinks.get(relation).is_none_or(|now| now.pending != sink.pending) {
                garbage.extend(sink.pending.iter().cloned());
            }
        }
        if garbage.is_empty() {
            return Vec::new();
        }
        self.segments().for_each(|segment| _ = garbage.remove(&segment.object));
        self.sinks.values().flat_map(|sink| &sink.pending).for_each(|it| _ = garbage.remove(it));
        let numbered: HashMap<CheckpointNumber, String> = garbage
            .iter()
            .filter_map(|object| Some((manifest_sequence(object)?, object.clone())))
            .collect();
        let needed = self.earlier().filter_map(|sequence| numbered.get(&sequence));
        needed.for_each(|object| _ = garbage.remove(object));
        garbage.into_iter().collect()
    }

    /// Takes the parts that are in other manifests from them; gives one that is missing.
    pub(super) fn resolve(
        &mut self,
        earlier: &BTreeMap<CheckpointNumber, Self>,
    ) -> Option<CheckpointNumber> {
        if let Some(sequence) = self.catalog.sequence() {
            let found = earlier.get(&sequence);
            if !found.is_some_and(|found| self.catalog.resolve(&found.catalog)) {
                return Some(sequence);
            }
        }
        for (relation, segments) in &mut self.state {
            let Some(sequence) = segments.sequence() else { continue };
            let found = earlier.get(&sequence).and_then(|found| found.state.get(relation));
            if !found.is_some_and(|found| segments.resolve(found)) {
                return Some(sequence);
            }
        }
        None
    }

    /// The manifest is durable: it has the parts that none had before.
    pub(super) fn is_written(&mut self) {
        let sequence = self.sequence;
        self.catalog.is_written(sequence);
        self.state.values_mut().for_each(|segments| segments.is_written(sequence));
    }

    /// The next manifest has all parts.
    pub(super) fn write_again(&mut self) {
        self.catalog.write_again();
        self.state.values_mut().for_each(Kept::write_again);
    }
}

/// Where the manifest of a sequence lies.
pub(super) fn manifest_path(sequence: CheckpointNumber) -> String {
    format!("{MANIFESTS}/{:012}", sequence.0)
}

/// The sequence of the manifest that lies at a path.
pub(super) fn manifest_sequence(path: &str) -> Option<CheckpointNumber> {
    let name = path.strip_prefix(MANIFESTS)?.strip_prefix('/')?;
    name.parse().ok().map(CheckpointNumber)
}
