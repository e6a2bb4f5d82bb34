//! CREATE, DROP and RESUME in the coordinator.
//!
//! ```text
//! wait until quiet ─► workers apply ─► catch up ─► admitted ─► checkpoint ─► published, answered
//!       └ an input has failed: error       └ failed, cancelled ─► undone on all workers ─► error
//! ```
//!
//! Other relations' epochs, and other statements, go on while relations catch up; see
//! `docs/0004-fragment-progress.md`.
//!
//! **Invariant:** sessions see a relation from when its backfill is complete and durable. A CREATE
//! that answers with an error leaves nothing: no catalog entry, no state, no manifest names it. A
//! RESUME that does leaves its relations failed, and the manifest as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use frazil_connector_api::Positions;

use super::Coordinator;
use super::gathering::Gathering;
use crate::catalog::{Catalog, Relation, RelationId};
use crate::checkpoint::{StatementRecord, StoredCatalog};
use crate::dataflow::{BACKFILL_EPOCHS, CatalogChange, Command, Recovery, Request, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::job::applying::{Applying, CatchingUp, Ddl, Order, Sent};
use crate::job::message::Applied;
use crate::job::relation_errors::input_failed;
use resume::Resumption;

mod resume;
mod resumed_by;

impl Coordinator {
    /// Sends the first waiting change when nothing is under way.
    pub(super) fn send_change(&mut self) {
        if !self.is_quiet() || self.is_applying() {
            return;
        }
        let Some(mut applying) = self.applying.pop_front() else { return };
        let prepared = self.prepare(&mut applying);
        let (change, starts, recovery) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.refuse(applying.ddl, error),
        };
        let (number, epoch, steps) = (self.next_change, self.open_epoch, change.text());
        self.changes.put(number, Arc::clone(&change));
        self.next_change += 1;
        // What is created is backfilled in the epochs that are skipped.
        self.open_epoch += BACKFILL_EPOCHS;
        applying.sent = Some(Sent { change, workers: 0, errors: Vec::new() });
        self.applying.push_front(applying);
        let recovery = recovery.map(Box::new);
        self.request(Request::Command(Command::Apply { number, steps, epoch, recovery, starts }));
    }

    /// What the workers are to apply. A statement waits until all is quiet, and what it reads may
    /// fail or be cancelled meanwhile.
    #[expect(clippy::type_complexity, reason = "the parts of one command")]
    fn prepare(
        &mut self,
        applying: &mut Applying,
    ) -> Result<(Arc<CatalogChange>, BTreeMap<RelationId, Positions>, Option<Recovery>)> {
        let Applying { order, ddl, .. } = applying;
        if ddl.is_cancelled() && !matches!(order, Order::Undo(_)) {
            return Err(cancelled());
        }
        match order {
            Order::Change { change, starts } => {
                self.check_inputs(change)?;
                Ok((Arc::clone(change), std::mem::take(starts), None))
            }
            Order::Resume(root) => {
                let Resumption { members, later, notices, recovery } = self.plan_resume(*root)?;
                let (mut steps, mut relations) = (Vec::new(), Vec::new());
                for (checked, is_rebuilt) in members {
                    relations.push(Arc::clone(checked.relation()));
                    ddl.resumed.insert(checked.relation().id, is_rebuilt);
                    steps.push(Step::Resume(checked));
                }
                ddl.applied = Applied { relations, later, notices };
                self.begin_again(ddl.relations());
                Ok((Arc::new(CatalogChange { steps }), BTreeMap::new(), Some(recovery)))
            }
            Order::Undo(_) => {
                let step = |relation: &Arc<Relation>| match ddl.resumed.is_empty() {
                    true => Step::Drop(relation.id),
                    false => Step::Stop(relation.id),
                };
                let steps = ddl.relations().iter().rev().map(step).collect();
                Ok((Arc::new(CatalogChange { steps }), BTreeMap::new(), None))
            }
        }
    }

    /// Answers a statement with an error; workers have nothing of it.
    fn refuse(&self, ddl: Ddl, error: Error) {
        let Ddl { reply, applied, sink, .. } = ddl;
        let ids: Vec<_> = applied.relations.iter().map(|relation| relation.id).collect();
        let state = Arc::clone(&self.state);
        let Some(sink) = sink else {
            state.end_starting(&ids);
            let _ = reply.send(Err(error));
            return;
        };
        tokio::spawn(async move {
            // Another statement may open the same target only after that.
            sink.undo_open().await;
            state.end_starting(&ids);
            let _ = reply.send(Err(error));
        });
    }

    /// True while workers apply a change.
    pub(super) fn is_applying(&self) -> bool {
        self.applying.front().is_some_and(|applying| applying.sent.is_some())
    }

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
        let Some(sent) = self.applying.front_mut().and_then(|it| it.sent.as_mut()) else {
            return Ok(());
        };
        sent.workers += 1;
        sent.errors.extend(error);
        if sent.workers < self.workers {
            return Ok(());
        }
        let Some(applying) = self.applying.pop_front() else { return Ok(()) };
        let Applying { order, ddl, sent, .. } = applying;
        let Some(Sent { change, mut errors, .. }) = sent else { return Ok(()) };
        let count = errors.len();
        match (order, errors.pop()) {
            (Order::Undo(error), None) => self.undone(&change, ddl, error),
            (_, None) => self.begin(&change, ddl),
            // No worker has anything of it.
            (Order::Change { .. }, Some(error)) if count == self.workers => {
                self.early_failures.clear();
                self.refuse(ddl, error);
            }
            (Order::Resume(_), Some(error)) if count == self.workers => {
                self.fail_again(ddl.relations());
                self.refuse(ddl, error);
            }
            // Workers differ now: only a restart from the last manifest is safe.
            (_, Some(error)) => {
                let error = error.within("applying a statement");
                let _ = ddl.reply.send(Err(error.clone()));
                return Err(error);
            }
        }
        Ok(())
    }

    /// All workers have taken back a statement.
    fn undone(&mut self, change: &CatalogChange, ddl: Ddl, error: Error) {
        self.enter(change);
        if !ddl.resumed.is_empty() {
            self.fail_again(ddl.relations());
            let mut stored = Arc::clone(&self.stored_catalog);
            self.with_former_plans(&ddl, &mut stored);
            self.stored_catalog = stored;
        }
        self.refuse(ddl, error);
    }

    /// The state of relations that are not resumed is still that of the plans in the manifest.
    fn with_former_plans(&self, ddl: &Ddl, stored: &mut Arc<StoredCatalog>) {
        if ddl.resumed.is_empty() {
            return;
        }
        let former = self.checkpointer.manifest();
        let fragments = &mut Arc::make_mut(stored).fragments;
        for relation in ddl.resumed.keys() {
            match former.catalog.fragments.get(relation) {
                Some(identity) => _ = fragments.insert(*relation, identity.clone()),
                None => _ = fragments.remove(relation),
            }
        }
    }

    /// All workers have applied a statement: what it starts has to catch up.
    fn begin(&mut self, change: &CatalogChange, mut ddl: Ddl) {
        let dropped = self.enter(change);
        let started = change.steps.iter().filter_map(|step| match step {
            Step::Make(checked) | Step::Resume(checked) => Some(checked),
            Step::Drop(_) | Step::Stop(_) => None,
        });
        let started: Vec<_> = started.cloned().collect();
        if started.is_empty() {
            ddl.applied.relations = dropped;
            self.created.push(ddl);
            return;
        }
        let relations: Vec<_> = started.iter().map(|it| Arc::clone(it.relation())).collect();
        let made = change.made().map(|made| made.relation());
        let named = made.filter(|relation| !relation.sql.is_empty());
        let statements =
            named.map(|it| StatementRecord { id: it.id, sql: it.sql.clone(), forms: it.forms });
        let fragments = started.iter().filter_map(|started| {
            Some((started.relation().id, started.fragment()?.identity.clone()))
        });
        let (statements, fragments) = (statements.collect(), fragments.collect());
        ddl.applied.relations = relations;
        self.catching_up.push(CatchingUp { ddl, statements, fragments });
    }

    /// Brings the catalog to where the workers are; gives what was dropped.
    fn enter(&mut self, change: &CatalogChange) -> Vec<Arc<Relation>> {
        let mut dropped = Vec::new();
        let mut catalog = Catalog::clone(&self.catalog);
        for step in &change.steps {
            match step {
                Step::Make(made) => {
                    catalog.insert(Arc::clone(made.relation()));
                    self.planned.insert(made.relation().id, Arc::clone(made));
                }
                Step::Drop(id) => {
                    let Some(relation) = catalog.by_id(*id).cloned() else { continue };
                    catalog.remove(&relation.name);
                    self.forget(*id);
                    dropped.push(relation);
                }
                Step::Resume(_) => {}
                Step::Stop(id) => _ = self.caught_up.remove(id),
            }
        }
        self.catalog = Arc::new(catalog);
        let made: Vec<_> = change.made().map(|made| Arc::clone(made.relation())).collect();
        self.state.begin_starting(&made, true);
        self.state.set_ddl_catalog(Arc::clone(&self.catalog));
        if !dropped.is_empty() {
            self.publish();
        }
        // What it reads, or a part of it, may have failed while the workers built it.
        for (relation, error) in std::mem::take(&mut self.early_failures) {
            self.fail(relation, error);
        }
        for relation in made {
            self.fail_with_inputs(relation.id);
        }
        dropped
    }

    /// A fragment has caught up on one more worker.
    pub(super) fn caught_up(&mut self, relation: RelationId) {
        *self.caught_up.entry(relation).or_default() += 1;
    }

    /// True if relations wait to be admitted.
    pub(super) fn has_caught_up(&self) -> bool {
        self.catching_up.iter().any(|new| self.is_level(new))
    }

    /// True if all fragments of a statement have caught up on all workers.
    fn is_level(&self, new: &CatchingUp) -> bool {
        new.fragments.keys().all(|it| self.caught_up.get(it) == Some(&self.workers))
    }

    /// Has undone what failed, or was cancelled, while it caught up.
    pub(super) fn undo_catching_up(&mut self) {
        for new in std::mem::take(&mut self.catching_up) {
            let failure = self.failure_of(&new.ddl);
            match failure.or_else(|| new.ddl.is_cancelled().then(cancelled)) {
                None => self.catching_up.push(new),
                Some(error) => self.applying.push_back(Applying::undo(new.ddl, error)),
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
            let CatchingUp { ddl, statements, fragments } = new;
            fragments.keys().for_each(|relation| _ = self.caught_up.remove(relation));
            admitted.extend(fragments.keys());
            let stored = Arc::make_mut(&mut self.stored_catalog);
            stored.statements.extend(statements);
            // A relation comes after those that it reads, whoever caught up first.
            stored.statements.sort_by_key(|statement| statement.id);
            stored.fragments.extend(fragments);
            if let Some(slot) = &ddl.sink {
                self.sinks.add(Arc::clone(slot), &self.catalog);
            }
            self.created.push(ddl);
        }
        admitted
    }

    /// Forgets a relation that no worker has any more. The next checkpoint removes its state.
    fn forget(&mut self, relation: RelationId) {
        let stored = Arc::make_mut(&mut self.stored_catalog);
        stored.statements.retain(|statement| statement.id != relation);
        stored.fragments.remove(&relation);
        self.planned.remove(&relation);
        self.caught_up.remove(&relation);
        self.releases.forget(relation);
        self.sinks.remove(relation);
        self.checkpointer.forget(relation);
        self.dirty_since_checkpoint = true;
    }

    /// Shows sessions the catalog as it is now, without what is not durable yet.
    pub(super) fn publish(&self) {
        let mut catalog = Catalog::clone(&self.catalog);
        for name in self.state.new_names() {
            catalog.remove(&name);
        }
        self.state.set_catalog(catalog);
    }

    /// Takes from a checkpoint what was started and has failed, and has it undone.
    pub(super) fn undo_failed(&mut self, gathering: &mut Gathering) {
        for ddl in std::mem::take(&mut gathering.created) {
            let Some(error) = self.failure_of(&ddl) else {
                gathering.created.push(ddl);
                continue;
            };
            let made: BTreeSet<_> = match ddl.resumed.is_empty() {
                true => ddl.relations().iter().map(|relation| relation.id).collect(),
                false => BTreeSet::new(),
            };
            let stored = Arc::make_mut(&mut gathering.catalog);
            stored.statements.retain(|statement| !made.contains(&statement.id));
            stored.fragments.retain(|relation, _| !made.contains(relation));
            self.with_former_plans(&ddl, &mut gathering.catalog);
            self.applying.push_back(Applying::undo(ddl, error));
        }
    }

    fn failure_of(&self, ddl: &Ddl) -> Option<Error> {
        // DROP has relations that are not in the catalog any more.
        let mut relations = ddl.relations().iter().filter(|it| self.catalog.by_id(it.id).is_some());
        relations
            .find_map(|relation| Some(self.state.failure(relation.id)?.within(&*relation.name)))
    }

    /// Answers statements that are durable now.
    pub(super) fn answer_created(&mut self, created: Vec<Ddl>) {
        if created.is_empty() {
            return;
        }
        for ddl in &created {
            let ids: Vec<_> = ddl.relations().iter().map(|relation| relation.id).collect();
            self.state.end_starting(&ids);
        }
        self.publish();
        for Ddl { reply, applied, resumed, .. } in created {
            // A sink may have been stopped before its input failed.
            resumed.keys().for_each(|relation| _ = self.try_sink_again(*relation));
            let _ = reply.send(Ok(applied));
        }
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "canceling statement due to user request")
}
