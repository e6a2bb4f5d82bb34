//! CREATE and DROP in the coordinator.
//!
//! ```text
//! wait until quiet ─► workers apply ─► catch up ─► admitted ─► checkpoint ─► published, answered
//!       └ an input has failed: error       └ failed ─► undone on all workers ─► error
//! ```
//!
//! Other relations' epochs go on while a new one catches up; see `docs/0004-fragment-progress.md`.
//!
//! **Invariant:** sessions see a relation from when its backfill is complete and durable. A CREATE
//! that answers with an error leaves nothing: no catalog entry, no state, no manifest names it.

use std::collections::BTreeMap;
use std::sync::Arc;

use frazil_connector_api::Offsets;

use super::coordinator::{AppliedReply, Coordinator, Gathering, Reply};
use super::engine::input_failed;
use super::sink_slot::SinkSlot;
use crate::catalog::{Catalog, Relation, RelationId};
use crate::checkpoint::StatementRecord;
use crate::dataflow::{BACKFILL_EPOCHS, CatalogChange, Command, Request, Step};
use crate::error::{Error, Result};
use crate::plan::FragmentIdentity;

/// A change of the catalog under way.
pub(super) struct Applying {
    change: Arc<CatalogChange>,
    kind: Kind,
    reply: Reply<Vec<Arc<Relation>>>,
    /// Workers that have applied it, and what they refused it with; `None` before it is sent.
    applied: Option<(usize, Vec<Error>)>,
}

enum Kind {
    /// Of statements, with the sink that CREATE SINK opened, and where sources begin.
    Statement { sink: Option<Arc<SinkSlot>>, starts: BTreeMap<RelationId, Offsets> },
    /// Takes back a CREATE whose backfill has failed with this error.
    Undo(Error),
}

/// A CREATE whose fragments catch up. Nothing of it is in a manifest.
pub(super) struct CatchingUp {
    reply: Reply<Vec<Arc<Relation>>>,
    relations: Vec<Arc<Relation>>,
    statements: Vec<StatementRecord>,
    /// Identities of its fragments.
    fragments: BTreeMap<RelationId, FragmentIdentity>,
    sink: Option<Arc<SinkSlot>>,
}

impl Applying {
    pub(super) fn statement(
        change: Arc<CatalogChange>,
        sink: Option<Arc<SinkSlot>>,
        starts: BTreeMap<RelationId, Offsets>,
        reply: Reply<Vec<Arc<Relation>>>,
    ) -> Self {
        Self { change, kind: Kind::Statement { sink, starts }, reply, applied: None }
    }

    fn undo(relations: &[Arc<Relation>], error: Error, reply: Reply<Vec<Arc<Relation>>>) -> Self {
        let steps = relations.iter().rev().map(|relation| Step::Drop(relation.id)).collect();
        let change = Arc::new(CatalogChange { steps });
        Self { change, kind: Kind::Undo(error), reply, applied: None }
    }
}

impl Coordinator {
    /// Sends the first waiting change when nothing is under way.
    pub(super) fn send_change(&mut self) {
        if !self.is_quiet() || self.is_applying() {
            return;
        }
        let Some(mut applying) = self.applying.pop_front() else { return };
        if let Err(error) = self.check_inputs(&applying.change) {
            let _ = applying.reply.send(Err(error));
            return;
        }
        let (number, epoch) = (self.next_change, self.open_epoch);
        let starts = match &applying.kind {
            Kind::Statement { starts, .. } => starts.clone(),
            Kind::Undo(_) => BTreeMap::new(),
        };
        let steps = applying.change.text();
        self.changes.put(number, Arc::clone(&applying.change));
        self.next_change += 1;
        // What is created is backfilled in the epochs that are skipped.
        self.open_epoch += BACKFILL_EPOCHS;
        applying.applied = Some((0, Vec::new()));
        self.applying.push_front(applying);
        let command = Command::Apply { number, steps, epoch, recovery: None, starts };
        self.request(Request::Command(command));
    }

    /// True while workers apply a change.
    pub(super) fn is_applying(&self) -> bool {
        self.applying.front().is_some_and(|applying| applying.applied.is_some())
    }

    /// A statement waits until all is quiet, and what it reads may fail meanwhile.
    fn check_inputs(&self, change: &CatalogChange) -> Result<()> {
        for made in change.made().map(|made| made.relation()) {
            let failed = made.depends_on.iter().find_map(|id| self.state.failure(*id));
            if let Some(error) = failed {
                return Err(input_failed(&made.name, &error));
            }
        }
        Ok(())
    }

    /// One more worker has applied the change that was sent.
    pub(super) fn applied(&mut self, error: Option<Error>) -> Result<()> {
        let Some(applying) = self.applying.front_mut() else { return Ok(()) };
        let Some((workers, errors)) = &mut applying.applied else { return Ok(()) };
        *workers += 1;
        errors.extend(error);
        if *workers < self.workers {
            return Ok(());
        }
        let mut errors = std::mem::take(errors);
        let Some(applying) = self.applying.pop_front() else { return Ok(()) };
        let Applying { change, kind, reply, .. } = applying;
        let refused = (errors.len(), errors.pop());
        match (kind, refused) {
            (Kind::Statement { sink, .. }, (_, None)) => self.entered(&change, sink, reply),
            (Kind::Undo(error), (_, None)) => {
                self.enter(&change);
                let _ = reply.send(Err(error));
            }
            // No worker has anything of it.
            (Kind::Statement { .. }, (count, Some(error))) if count == self.workers => {
                self.early_failures.clear();
                let _ = reply.send(Err(error));
            }
            // Workers differ now: only a restart from the last manifest is safe.
            (_, (_, Some(error))) => {
                let error = error.within("applying a statement");
                let _ = reply.send(Err(error.clone()));
                return Err(error);
            }
        }
        Ok(())
    }

    /// All workers have applied a statement: what it makes has to catch up.
    fn entered(
        &mut self,
        change: &CatalogChange,
        sink: Option<Arc<SinkSlot>>,
        reply: Reply<Vec<Arc<Relation>>>,
    ) {
        let dropped = self.enter(change);
        let relations: Vec<_> = change.made().map(|it| Arc::clone(it.relation())).collect();
        if relations.is_empty() {
            self.created.push((reply, dropped));
            return;
        }
        let named = relations.iter().filter(|relation| !relation.sql.is_empty());
        let statements = named.map(|it| StatementRecord { id: it.id, sql: it.sql.clone() });
        let fragments = change
            .made()
            .filter_map(|made| Some((made.relation().id, made.fragment()?.identity.clone())));
        let (statements, fragments) = (statements.collect(), fragments.collect());
        self.catching_up.push(CatchingUp { reply, relations, statements, fragments, sink });
    }

    /// Brings the catalog to where the workers are; gives what was dropped.
    fn enter(&mut self, change: &CatalogChange) -> Vec<Arc<Relation>> {
        let mut dropped = Vec::new();
        for step in &change.steps {
            match step {
                Step::Make(made) => {
                    let mut catalog = Catalog::clone(&self.catalog);
                    catalog.insert(Arc::clone(made.relation()));
                    self.catalog = Arc::new(catalog);
                }
                Step::Drop(id) => {
                    let Some(relation) = self.catalog.by_id(*id).cloned() else { continue };
                    self.forget(&relation);
                    dropped.push(relation);
                }
            }
        }
        if !dropped.is_empty() {
            self.publish();
        }
        // What it reads, or a part of it, may have failed while the workers built it.
        for (relation, error) in std::mem::take(&mut self.early_failures) {
            self.fail(relation, error);
        }
        for made in change.made() {
            self.fail_with_inputs(made.relation().id);
        }
        dropped
    }

    /// A fragment has caught up on one more worker.
    pub(super) fn caught_up(&mut self, relation: RelationId) {
        *self.caught_up.entry(relation).or_default() += 1;
    }

    /// True if new relations wait to be admitted.
    pub(super) fn has_caught_up(&self) -> bool {
        self.catching_up.iter().any(|new| self.is_level(new))
    }

    /// True if all fragments of a CREATE have caught up on all workers.
    fn is_level(&self, new: &CatchingUp) -> bool {
        new.fragments.keys().all(|it| self.caught_up.get(it) == Some(&self.workers))
    }

    /// Has undone what failed while it caught up.
    pub(super) fn undo_catching_up(&mut self) {
        for new in std::mem::take(&mut self.catching_up) {
            match self.failure_of(&new.relations) {
                None => self.catching_up.push(new),
                Some(error) => {
                    self.applying.push_back(Applying::undo(&new.relations, error, new.reply));
                }
            }
        }
    }

    /// What has caught up becomes part of the next checkpoint; returns its fragments, which take
    /// part in the epoch that is closed now.
    pub(super) fn admit_caught_up(&mut self) -> Vec<RelationId> {
        let mut admitted = Vec::new();
        for new in std::mem::take(&mut self.catching_up) {
            if !self.is_level(&new) {
                self.catching_up.push(new);
                continue;
            }
            let CatchingUp { reply, relations, statements, fragments, sink } = new;
            fragments.keys().for_each(|relation| _ = self.caught_up.remove(relation));
            admitted.extend(fragments.keys());
            self.statements.extend(statements);
            self.fragments.extend(fragments);
            if let Some(slot) = sink {
                self.sinks.add(slot, &self.catalog);
            }
            self.created.push((reply, relations));
        }
        admitted
    }

    /// Forgets a relation that no worker has any more. The next checkpoint removes its state.
    fn forget(&mut self, relation: &Relation) {
        let mut catalog = Catalog::clone(&self.catalog);
        catalog.remove(&relation.name);
        self.catalog = Arc::new(catalog);
        self.statements.retain(|statement| statement.id != relation.id);
        self.fragments.remove(&relation.id);
        self.caught_up.remove(&relation.id);
        self.sinks.remove(relation.id);
        self.checkpointer.forget(relation.id);
        self.dirty_since_checkpoint = true;
    }

    /// Shows sessions the catalog as it is now.
    pub(super) fn publish(&self) {
        self.state.set_catalog(Catalog::clone(&self.catalog));
    }

    /// Takes from a checkpoint what was created and has failed, and has it undone.
    pub(super) fn undo_failed(&mut self, gathering: &mut Gathering) {
        let (failed, sound) = std::mem::take(&mut gathering.created)
            .into_iter()
            .map(|(reply, relations)| (self.failure_of(&relations), reply, relations))
            .partition::<Vec<_>, _>(|(failure, ..)| failure.is_some());
        gathering.created =
            sound.into_iter().map(|(_, reply, relations)| (reply, relations)).collect();
        for (failure, reply, relations) in failed {
            let Some(error) = failure else { continue };
            let is_undone = |id: RelationId| relations.iter().any(|relation| relation.id == id);
            gathering.statements.retain(|statement| !is_undone(statement.id));
            gathering.fragments.retain(|relation, _| !is_undone(*relation));
            self.applying.push_back(Applying::undo(&relations, error, reply));
        }
    }

    fn failure_of(&self, created: &[Arc<Relation>]) -> Option<Error> {
        // DROP has relations that are not in the catalog any more.
        let mut made = created.iter().filter(|it| self.catalog.by_id(it.id).is_some());
        made.find_map(|relation| Some(self.state.failure(relation.id)?.within(&*relation.name)))
    }

    /// Answers statements that are durable now.
    pub(super) fn answer_created(&self, created: Vec<AppliedReply>) {
        if !created.is_empty() {
            self.publish();
        }
        for (reply, relations) in created {
            let _ = reply.send(Ok(relations));
        }
    }
}
