//! [`Sinks`]: all sinks of the engine, and when each commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use frazil_connector_api::{CheckpointNumber, Committable, SinkStatus};
use tokio::sync::mpsc::UnboundedSender;

use super::checkpointer::Checkpointer;
use super::done::{Done, lost, on_own_thread};
use super::flushes::Obstacle;
use super::sink_slot::{BusySink, Prepared, SinkSlot};
use super::state::EngineState;
use crate::catalog::{Catalog, Definition, RelationId};
use crate::env::Env;

/// All sinks of the engine, and when each commits.
#[derive(Default)]
pub(super) struct Sinks {
    slots: BTreeMap<RelationId, Entry>,
    /// Sinks that prepare, or whose commit the coordinator has not heard of.
    working: BTreeSet<RelationId>,
    /// What the next manifest names.
    prepared: Vec<Prepared>,
}

struct Entry {
    slot: Arc<SinkSlot>,
    /// Of a sink that commits by itself; pipelines commit when fired.
    pace: Option<Pace>,
}

/// The clock of a sink. It measures from cut to cut: the changes of one interval are committed
/// while those of the next come.
struct Pace {
    interval: Duration,
    due_at: Duration,
}

impl Pace {
    /// A sink that is nearly due joins a checkpoint of others.
    fn is_due(&self, cut_at: Duration) -> bool {
        cut_at + self.interval / 20 >= self.due_at
    }
}

/// Which sinks begin to prepare.
#[derive(Default)]
pub(super) struct Begin {
    /// When the changes were cut that a manifest has just made durable: sinks that are due begin.
    pub(super) cut_at: Option<Duration>,
    /// Nothing has come since the last cut: sinks that are due begin with what is logged.
    pub(super) is_quiet: bool,
    /// Sinks that somebody waits for.
    pub(super) wanted: BTreeSet<RelationId>,
    /// All sinks that commit by themselves begin.
    pub(super) all: bool,
}

impl Sinks {
    pub(super) fn add(&mut self, slot: Arc<SinkSlot>, catalog: &Catalog) {
        let pace = match catalog.by_id(slot.relation).map(|relation| &*relation.definition) {
            Some(Definition::Sink(sink)) => Some(Pace {
                interval: Duration::from_millis(sink.commit_interval_ms),
                due_at: Duration::ZERO,
            }),
            _ => None,
        };
        self.slots.insert(slot.relation, Entry { slot, pace });
    }

    /// Forgets a sink that is dropped; a commit that fails is not tried again.
    pub(super) fn remove(&mut self, relation: RelationId) {
        if let Some(entry) = self.slots.remove(&relation) {
            entry.slot.drop_sink();
        }
        self.prepared.retain(|prepared| prepared.slot.relation != relation);
        self.working.remove(&relation);
    }

    /// True if the sink's log is here.
    pub(super) fn has(&self, relation: RelationId) -> bool {
        self.slots.contains_key(&relation)
    }

    /// True if an error of its target has stopped the sink.
    pub(super) fn is_stopped(&self, relation: RelationId) -> bool {
        self.slots.get(&relation).is_some_and(|entry| entry.slot.is_stopped())
    }

    /// Has a stopped sink try again; true if it was stopped.
    pub(super) fn resume(&self, relation: RelationId) -> bool {
        self.slots.get(&relation).is_some_and(|entry| entry.slot.resume())
    }

    pub(super) fn slots(&self) -> Vec<Arc<SinkSlot>> {
        self.slots.values().map(|entry| Arc::clone(&entry.slot)).collect()
    }

    /// True if a sink is due at `now` and could prepare what a checkpoint cuts.
    pub(super) fn wants_cut(&self, now: Duration, state: &EngineState) -> bool {
        self.slots.iter().any(|(relation, entry)| {
            let is_due = entry.pace.as_ref().is_some_and(|pace| now >= pace.due_at);
            is_due && entry.slot.is_free(now) && state.failure(*relation).is_none()
        })
    }

    /// The next time that a sink is due after `now`.
    pub(super) fn next_due(&self, now: Duration) -> Option<Duration> {
        let paces = self.slots.values().filter_map(|entry| entry.pace.as_ref());
        paces.map(|pace| pace.due_at).filter(|due_at| *due_at > now).min()
    }

    /// Takes what the next manifest names.
    pub(super) fn take_prepared(&mut self) -> Vec<Prepared> {
        std::mem::take(&mut self.prepared)
    }

    /// True if a manifest has something to name.
    pub(super) fn any_prepared(&self) -> bool {
        !self.prepared.is_empty()
    }

    /// A sink has prepared. One that is dropped meanwhile has nothing to commit.
    pub(super) fn add_prepared(&mut self, prepared: Prepared) {
        let relation = prepared.slot.relation;
        if self.slots.contains_key(&relation) {
            self.prepared.push(prepared);
        } else {
            self.working.remove(&relation);
        }
    }

    /// A sink could not prepare: it is due again after its pause.
    pub(super) fn prepare_failed(&mut self, relation: RelationId) {
        self.working.remove(&relation);
        let pace = self.slots.get_mut(&relation).and_then(|entry| entry.pace.as_mut());
        if let Some(pace) = pace {
            pace.due_at = Duration::ZERO;
        }
    }

    /// Has sinks prepare in the background what is logged.
    pub(super) fn begin(
        &mut self,
        which: &Begin,
        now: Duration,
        checkpointer: &Checkpointer,
        env: &Env,
        state: &EngineState,
        done: &UnboundedSender<Done>,
    ) {
        for (relation, entry) in &mut self.slots {
            let cut_at = which.cut_at.unwrap_or(now);
            let may_be_due = which.cut_at.is_some() || (which.is_quiet && entry.slot.has_pending());
            let is_due = may_be_due && entry.pace.as_ref().is_some_and(|pace| pace.is_due(cut_at));
            let is_free = entry.slot.is_free(now);
            let begins = is_free && (is_due || (which.all && entry.pace.is_some()));
            let is_sound = state.failure(*relation).is_none();
            if !is_sound || !(begins || which.wanted.contains(relation)) {
                continue;
            }
            let sink = entry.slot.begin();
            if let Some(pace) = entry.pace.as_mut().filter(|_| sink.is_some() || begins) {
                pace.due_at = cut_at + pace.interval;
            }
            let Some(sink) = sink else { continue };
            self.working.insert(*relation);
            let (slot, env, relation) = (Arc::clone(&entry.slot), env.clone(), *relation);
            let mark = checkpointer.next_mark();
            let work = async move { Ok(slot.prepare(sink, mark, &env).await) };
            on_own_thread(work, done, move |outcome| {
                Done::Prepared(relation, outcome.unwrap_or_else(|error| Err(lost(&error))))
            });
        }
    }

    /// True if a sink that could commit has not committed all.
    pub(super) fn any_working(&self, state: &EngineState) -> bool {
        self.slots.iter().any(|(relation, entry)| {
            let is_sound = state.failure(*relation).is_none() && !entry.slot.is_failing();
            let has_work = entry.pace.is_some() && entry.slot.has_pending() && is_sound;
            self.working.contains(relation) || has_work
        })
    }

    /// What keeps a sink from committing. What was prepared before a failure is committed all the
    /// same.
    pub(super) fn obstacle(&self, sink: RelationId, state: &EngineState) -> Option<Obstacle> {
        let catalog = state.catalog();
        let relation = catalog.by_id(sink)?;
        let named = || format!("{} \"{}\"", relation.definition.noun(), relation.name);
        let slot = self.slots.get(&sink).map(|entry| &entry.slot);
        if slot.is_some_and(|slot| self.working.contains(&sink) || slot.is_busy()) {
            let problem = state.problem(sink).map(|problem| format!(": {problem}"));
            let problem = problem.unwrap_or_default();
            return Some(Obstacle::Busy(format!("{} is still at work{problem}", named())));
        }
        // A sink is stopped a moment before the coordinator hears of it.
        let failure = state.failure(sink).map(|error| error.to_string());
        let failure = failure.or_else(|| slot?.stopped());
        failure.map(|error| Obstacle::Failed(format!("{}: {error}", named())))
    }

    /// Sinks that have an interval, and those whose log could not be read at the start.
    pub(super) fn paced(&self, state: &EngineState) -> BTreeSet<RelationId> {
        let paced = self.slots.iter().filter(|(_, entry)| entry.pace.is_some());
        let paced = paced.map(|(relation, _)| *relation);
        let catalog = state.catalog();
        let unread = catalog.iter().filter(|relation| {
            let is_paced = matches!(*relation.definition, Definition::Sink(_));
            is_paced && !self.has(relation.id) && state.failure(relation.id).is_some()
        });
        paced.chain(unread.map(|relation| relation.id)).collect()
    }

    /// Sinks among `only` one, or all that have an interval, with changes of checkpoints up to
    /// `through` that are not known to be visible, or that have failed.
    pub(super) fn lacking(
        &self,
        only: Option<RelationId>,
        through: CheckpointNumber,
        state: &EngineState,
    ) -> BTreeSet<RelationId> {
        let mut asked = only.map_or_else(|| self.paced(state), |only| [only].into());
        asked.retain(|sink| {
            let is_stopped = self.slots.get(sink).is_some_and(|entry| entry.slot.is_stopped());
            let lacks = self.lacks(*sink, through) || self.working.contains(sink);
            lacks || is_stopped || state.failure(*sink).is_some()
        });
        asked
    }

    /// True if a sink prepares, or the coordinator has not heard of its commit.
    pub(super) fn is_working(&self, relation: RelationId) -> bool {
        self.working.contains(&relation)
    }

    /// Notes that the coordinator has heard of a sink's commit, or that it has nothing to commit.
    pub(super) fn heard(&mut self, relation: RelationId) {
        self.working.remove(&relation);
    }

    /// True if a sink has changes of checkpoints up to `through` that are not known to be visible.
    pub(super) fn lacks(&self, relation: RelationId, through: CheckpointNumber) -> bool {
        self.slots.get(&relation).is_some_and(|entry| entry.slot.lacks(through))
    }

    /// True if every sink that commits by itself has committed all.
    pub(super) fn all_idle(&self) -> bool {
        self.slots.values().all(|entry| entry.pace.is_none() || entry.slot.is_idle())
    }

    /// Commits what the last process left, in the background.
    pub(super) fn recover(
        &mut self,
        slot: &Arc<SinkSlot>,
        env: &Env,
        state: &Arc<EngineState>,
        done: &UnboundedSender<Done>,
    ) {
        let (slot, env, state) = (Arc::clone(slot), env.clone(), Arc::clone(state));
        let relation = slot.relation;
        self.working.insert(relation);
        let work = async move {
            if let Some(status) = slot.recover(&env, problems(relation, &state)).await? {
                settled(relation, status, &state);
            }
            Ok(())
        };
        on_own_thread(work, done, move |outcome| Done::Recovered(relation, outcome));
    }

    /// Commits a checkpoint's changes in the background.
    pub(super) fn commit(
        &mut self,
        slot: Arc<SinkSlot>,
        sink: BusySink,
        committable: Committable,
        env: &Env,
        state: &Arc<EngineState>,
        done: &UnboundedSender<Done>,
    ) {
        let (env, state, relation) = (env.clone(), Arc::clone(state), slot.relation);
        let checkpoint = committable.mark.checkpoint;
        self.working.insert(relation);
        let work = async move {
            let report = problems(relation, &state);
            let committed = slot.commit(sink, &committable, &env, report).await?;
            Ok(committed.map(|(outcome, status)| {
                settled(relation, status, &state);
                outcome
            }))
        };
        on_own_thread(work, done, move |outcome| Done::Commit(relation, checkpoint, outcome));
    }
}

/// Notes the problem of a sink that tries again.
fn problems(relation: RelationId, state: &Arc<EngineState>) -> impl Fn(u32, String) + use<> {
    let state = Arc::clone(state);
    move |attempts, error| state.set_problem(relation, Some((attempts, error)))
}

/// Notes that a sink has no problem any more, and what its table has become.
fn settled(relation: RelationId, status: SinkStatus, state: &EngineState) {
    state.set_problem(relation, None);
    state.set_sink(relation, status);
}
