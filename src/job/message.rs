//! [`Message`]: what sessions ask of the coordinator, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use frazil_connector_api::{Decoded, Positions};
use tokio::sync::oneshot;

use super::recent_writes::WrittenKeys;
use super::sink_slot::SinkSlot;
use crate::catalog::{Relation, RelationId};
use crate::dataflow::CatalogChange;
use crate::error::Result;

/// How a call is answered.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// What a session asks of the coordinator.
pub(super) enum Message {
    /// A CREATE or DROP that has been checked; with the sink that CREATE SINK opened, and where
    /// sources begin.
    Apply {
        change: Arc<CatalogChange>,
        sink: Option<Arc<SinkSlot>>,
        starts: BTreeMap<RelationId, Positions>,
        /// Dropped when the next statement may be checked.
        begun: oneshot::Sender<()>,
        reply: Reply<Applied>,
    },
    /// A failed relation is started again.
    Resume { root: RelationId, begun: oneshot::Sender<()>, reply: Reply<Applied> },
    /// Rows for a table.
    Write {
        table: RelationId,
        changes: Vec<Decoded>,
        keys: WrittenKeys,
        /// The epoch of the snapshot that they were computed from.
        read_epoch: Option<u64>,
        reply: Reply<()>,
    },
    /// Catch up, make durable, commit; `only` one sink, or all that have a `commit_interval`.
    Flush { only: Option<RelationId>, reply: Reply<Flushed> },
    /// A last checkpoint, and the end.
    Shutdown { reply: Reply<()> },
}

/// What a statement has done.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Relations that were made, dropped or resumed.
    pub(super) relations: Vec<Arc<Relation>>,
    /// Relations that failed along with resumed ones and can be resumed now.
    pub(super) later: Vec<RelationId>,
    /// What is not resumed, and why.
    pub(super) notices: Vec<String>,
}

/// What a flush has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Flushed {
    /// The target's name of the new snapshot of a sink, if something was committed.
    pub(super) snapshot: Option<String>,
    /// What the flush does not cover, and why.
    pub(super) left_out: Vec<String>,
}
