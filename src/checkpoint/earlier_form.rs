//! Manifests in the form of an earlier version.

use std::collections::BTreeMap;

use frazil_connector_api::{CheckpointNumber, Fence};
use serde::Deserialize;

use super::{Kept, Manifest, PipelineRecord, SinkRecord, StatementRecord, StoredCatalog};
use crate::catalog::RelationId;
use crate::checkpoint::manifest::VERSION;
use crate::dataflow::SourceOffsets;
use crate::error::Error;
use crate::plan::FragmentIdentity;
use crate::state::SegmentRef;

/// Version 4: all parts were in each manifest.
#[derive(Deserialize)]
struct ManifestV4 {
    sequence: CheckpointNumber,
    fence: Fence,
    epoch: u64,
    #[serde(default)]
    now_ms: i64,
    next_relation: RelationId,
    statements: Vec<StatementRecord>,
    fragments: BTreeMap<RelationId, FragmentIdentity>,
    offsets: SourceOffsets,
    segments: Vec<SegmentRef>,
    sinks: BTreeMap<RelationId, SinkRecord>,
    pipelines: BTreeMap<RelationId, PipelineRecord>,
    failed: BTreeMap<RelationId, Error>,
    #[serde(default)]
    failed_at: BTreeMap<RelationId, u64>,
}

/// A manifest of version 4 in today's form.
///
/// # Errors
/// If it is not one.
pub(super) fn manifest_of_version_4(text: serde_json::Value) -> serde_json::Result<Manifest> {
    let old: ManifestV4 = serde_json::from_value(text)?;
    let catalog = StoredCatalog { statements: old.statements, fragments: old.fragments };
    let mut manifest = Manifest {
        version: VERSION,
        sequence: old.sequence,
        fence: old.fence,
        epoch: old.epoch,
        now_ms: old.now_ms,
        next_relation: old.next_relation,
        catalog: Kept::new(catalog),
        offsets: old.offsets,
        state: BTreeMap::new(),
        sinks: old.sinks,
        pipelines: old.pipelines,
        failed: old.failed,
        failed_at: old.failed_at,
    };
    manifest.add_segments(old.segments);
    Ok(manifest)
}
