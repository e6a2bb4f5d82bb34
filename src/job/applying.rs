//! [`Applying`]: a CREATE, DROP or RESUME on its way through the workers and into a manifest.

use std::collections::BTreeMap;
use std::sync::Arc;

use frazil_connector_api::Positions;
use tokio::sync::oneshot;

use super::message::{Applied, Reply};
use super::sink_slot::SinkSlot;
use crate::catalog::{Relation, RelationId};
use crate::checkpoint::StatementRecord;
use crate::dataflow::CatalogChange;
use crate::error::Error;
use crate::plan::FragmentIdentity;

/// A statement under way: whom to answer, and what it has made so far.
pub(super) struct Ddl {
    pub(super) reply: Reply<Applied>,
    pub(super) applied: Applied,
    /// The sink that CREATE SINK opened.
    pub(super) sink: Option<Arc<SinkSlot>>,
    /// Resumed relations, and whether each is rebuilt; empty for CREATE and DROP.
    pub(super) resumed: BTreeMap<RelationId, bool>,
}

impl Ddl {
    pub(super) fn new(reply: Reply<Applied>, sink: Option<Arc<SinkSlot>>) -> Self {
        Self { reply, applied: Applied::default(), sink, resumed: BTreeMap::new() }
    }

    /// Resumed relations, and whether each is rebuilt.
    pub(super) fn resumed(&self) -> &BTreeMap<RelationId, bool> {
        &self.resumed
    }

    /// Relations that it starts.
    pub(super) fn relations(&self) -> &[Arc<Relation>] {
        &self.applied.relations
    }

    /// True if nobody waits for the answer any more: the client has cancelled.
    pub(super) fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }
}

/// A statement that changes what runs on the workers.
pub(super) struct Applying {
    pub(super) order: Order,
    pub(super) ddl: Ddl,
    /// Held until all workers have applied it: then the next statement is checked.
    _begun: Option<oneshot::Sender<()>>,
    pub(super) sent: Option<Sent>,
}

impl Applying {
    pub(super) fn change(
        ddl: Ddl,
        begun: oneshot::Sender<()>,
        change: Arc<CatalogChange>,
        starts: BTreeMap<RelationId, Positions>,
    ) -> Self {
        Self { order: Order::Change { change, starts }, ddl, _begun: Some(begun), sent: None }
    }

    pub(super) fn resume(ddl: Ddl, begun: oneshot::Sender<()>, root: RelationId) -> Self {
        Self { order: Order::Resume(root), ddl, _begun: Some(begun), sent: None }
    }

    pub(super) fn undo(ddl: Ddl, error: Error) -> Self {
        Self { order: Order::Undo(error), ddl, _begun: None, sent: None }
    }
}

/// What the workers are to do.
pub(super) enum Order {
    /// A CREATE or DROP, and where sources begin.
    Change { change: Arc<CatalogChange>, starts: BTreeMap<RelationId, Positions> },
    /// Starts a failed relation again.
    Resume(RelationId),
    /// Takes back what has failed, or was cancelled, before it was durable.
    Undo(Error),
}

/// A change that the workers apply.
pub(super) struct Sent {
    pub(super) change: Arc<CatalogChange>,
    /// Workers that have applied it.
    pub(super) workers: usize,
    /// What they refused it with.
    pub(super) errors: Vec<Error>,
}

/// Relations that catch up. Nothing of this is in a manifest.
pub(super) struct CatchingUp {
    pub(super) ddl: Ddl,
    pub(super) statements: Vec<StatementRecord>,
    /// Identities of the fragments.
    pub(super) fragments: BTreeMap<RelationId, FragmentIdentity>,
}
