//! [`Gathering`]: a checkpoint that workers are writing.

use std::collections::BTreeMap;
use std::sync::Arc;

use frazil_connector_api::ChangeBatch;

use crate::catalog::RelationId;
use crate::checkpoint::StoredCatalog;
use crate::dataflow::SourceOffsets;
use crate::error::Error;
use crate::job::applying::Ddl;
use crate::job::message::Reply;
use crate::state::StoredSegments;

/// A checkpoint that workers are writing.
pub(super) struct Gathering {
    pub(super) epoch: u64,
    pub(super) now_ms: i64,
    pub(super) workers: usize,
    pub(super) stored: Vec<StoredSegments>,
    pub(super) offsets: SourceOffsets,
    pub(super) sink_changes: BTreeMap<RelationId, Vec<ChangeBatch>>,
    pub(super) problem: Option<Error>,
    pub(super) acks: Vec<Reply<()>>,
    pub(super) catalog: Arc<StoredCatalog>,
    pub(super) next_relation: RelationId,
    pub(super) created: Vec<Ddl>,
}
