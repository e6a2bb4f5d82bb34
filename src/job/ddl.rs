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
use crate::dataflow::{BACKFILL_EPOCHS, Command, Request};
use crate::error::{Error, Result};
use crate::plan::{FragmentIdentity, FragmentPlan};
use crate::sql::{self, Bound};

/// A change of the catalog under way.
pub(super) struct Applying {
    change: Change,
    reply: Reply<Vec<Arc<Relation>>>,
    /// Workers that have applied it, and what they refused it with; `None` before it is sent.
    applied: Option<(usize, Vec<Error>)>,
}

enum Change {
    /// A statement, with the sink that CREATE SINK opened, and where sources begin.
    Statement { sql: String, sink: Option<Arc<SinkSlot>>, starts: BTreeMap<RelationId, Offsets> },
    /// Takes back a CREATE whose backfill has failed.
    Undo { relations: Vec<Arc<Relation>>, error: Error },
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

/// What a statement has changed in the catalog.
#[derive(Default)]
struct Entered {
    made: Vec<Arc<Relation>>,
    dropped: Vec<Arc<Relation>>,
    statements: Vec<StatementRecord>,
    fragments: BTreeMap<RelationId, FragmentIdentity>,
}

impl Applying {
    pub(super) fn statement(
        sql: String,
        sink: Option<Arc<SinkSlot>>,
        starts: BTreeMap<RelationId, Offsets>,
        reply: Reply<Vec<Arc<Relation>>>,
    ) -> Self {
        Self { change: Change::Statement { sql, sink, starts }, reply, applied: None }
    }
}

impl Coordinator {
    /// Sends the first waiting change when nothing is under way.
    pub(super) fn send_change(&mut self) {
        if !self.is_quiet() || self.is_applying() {
            return;
        }
        let (next_id, epoch) = (self.catalog.next_id(), self.open_epoch);
        let Some(mut applying) = self.applying.pop_front() else { return };
        let command = match &applying.change {
            Change::Statement { sql, starts, .. } => match self.check_again(sql) {
                Ok(()) => {
                    let statements = vec![(next_id, sql.clone())];
                    let starts = starts.clone();
                    Command::Apply { statements, epoch, recovery: None, starts }
                }
                Err(error) => {
                    let _ = applying.reply.send(Err(error));
                    return;
                }
            },
            Change::Undo { relations, .. } => {
                Command::Remove { relations: relations.iter().map(|it| it.id).collect() }
            }
        };
        if let Change::Statement { .. } = &applying.change {
            // What is created is backfilled in the epochs that are skipped.
            self.open_epoch += BACKFILL_EPOCHS;
        }
        applying.applied = Some((0, Vec::new()));
        self.applying.push_front(applying);
        self.request(Request::Command(command));
    }

    /// True while workers apply a change.
    pub(super) fn is_applying(&self) -> bool {
        self.applying.front().is_some_and(|applying| applying.applied.is_some())
    }

    /// A statement waits until all is quiet, and what it reads may fail meanwhile.
    fn check_again(&self, sql: &str) -> Result<()> {
        let mut catalog = Catalog::clone(&self.catalog);
        for statement in sql::parse(sql)? {
            match sql::bind(&catalog, &statement)? {
                Bound::Create(creation) => {
                    for id in &creation.depends_on {
                        if let Some(error) = self.state.failure(*id) {
                            return Err(input_failed(&creation.name, &error));
                        }
                    }
                    catalog.create(*creation, &statement.text)?;
                }
                Bound::Drop(removal) => {
                    catalog.drop_relations(&removal)?;
                }
                _ => {}
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
        let Some(Applying { change, reply, .. }) = self.applying.pop_front() else { return Ok(()) };
        let refused = (errors.len(), errors.pop());
        match (change, refused) {
            (Change::Statement { sql, sink, .. }, (_, None)) => {
                let Entered { made, dropped, statements, fragments } = self.enter(&sql)?;
                if made.is_empty() {
                    self.created.push((reply, dropped));
                } else {
                    let relations = made;
                    let new = CatchingUp { reply, relations, statements, fragments, sink };
                    self.catching_up.push(new);
                }
            }
            (Change::Undo { relations, error }, (_, None)) => {
                self.forget(&relations);
                let _ = reply.send(Err(error));
            }
            // No worker has anything of it.
            (Change::Statement { .. }, (count, Some(error))) if count == self.workers => {
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

    /// Enters an applied statement into the catalog.
    fn enter(&mut self, sql: &str) -> Result<Entered> {
        let mut catalog = Catalog::clone(&self.catalog);
        let mut entered = Entered::default();
        for statement in sql::parse(sql)? {
            match sql::bind(&catalog, &statement)? {
                Bound::Create(creation) => {
                    let id = catalog.next_id();
                    let sql = statement.text.clone();
                    for relation in catalog.create(*creation, &sql)? {
                        if let Some(identity) = identity_of(&relation)? {
                            entered.fragments.insert(relation.id, identity);
                        }
                        entered.made.push(relation);
                    }
                    entered.statements.push(StatementRecord { id, sql });
                }
                Bound::Drop(removal) => {
                    let dropped = catalog.drop_relations(&removal)?;
                    self.catalog = Arc::new(catalog.clone());
                    self.forget(&dropped);
                    entered.dropped.extend(dropped);
                }
                _ => return Err(Error::internal("a statement is neither CREATE nor DROP")),
            }
        }
        self.catalog = Arc::new(catalog);
        // What it reads, or a part of it, may have failed while the workers built it.
        for (relation, error) in std::mem::take(&mut self.early_failures) {
            self.fail(relation, error);
        }
        for relation in &entered.made {
            self.fail_with_inputs(relation.id);
        }
        Ok(entered)
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
                    let CatchingUp { reply, relations, .. } = new;
                    let change = Change::Undo { relations, error };
                    self.applying.push_back(Applying { change, reply, applied: None });
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

    /// Forgets relations that no worker has any more.
    fn forget(&mut self, relations: &[Arc<Relation>]) {
        let mut catalog = Catalog::clone(&self.catalog);
        for relation in relations {
            catalog.remove(&relation.name);
            self.statements.retain(|statement| statement.id != relation.id);
            self.fragments.remove(&relation.id);
            self.caught_up.remove(&relation.id);
            self.sinks.remove(relation.id);
            self.checkpointer.forget(relation.id);
        }
        self.catalog = Arc::new(catalog);
        self.publish();
        // The next checkpoint removes their state.
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
            let change = Change::Undo { relations, error };
            self.applying.push_back(Applying { change, reply, applied: None });
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

/// The identity of a relation's fragment, if it has one.
fn identity_of(relation: &Relation) -> Result<Option<FragmentIdentity>> {
    // A plan is as deep as its statement, and is dropped where it was made.
    sql::on_large_stack(|| Ok(FragmentPlan::of(relation)?.map(|fragment| fragment.identity)))
}
