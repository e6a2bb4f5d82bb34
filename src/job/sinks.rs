//! [`Sinks`]: all sinks of the engine, and when each commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use frazil_connector_api::{Committable, SinkStatus};
use tokio::sync::mpsc::UnboundedSender;

use super::done::{Done, in_background};
use super::flushes::Obstacle;
use super::sink_slot::{BusySink, SinkSlot};
use super::state::EngineState;
use crate::catalog::{Catalog, Definition, RelationId};
use crate::env::Env;

/// All sinks of the engine, and when each commits.
#[derive(Default)]
pub(super) struct Sinks {
    /// With the least time between commits; `None` for pipelines, which commit when fired.
    slots: BTreeMap<RelationId, (Arc<SinkSlot>, Option<Duration>)>,
    /// Sinks whose commit, in the background, the coordinator has not heard of.
    committing: BTreeSet<RelationId>,
}

impl Sinks {
    pub(super) fn add(&mut self, slot: Arc<SinkSlot>, catalog: &Catalog) {
        let interval = match catalog.by_id(slot.relation).map(|relation| &*relation.definition) {
            Some(Definition::Sink(sink)) => Some(Duration::from_millis(sink.commit_interval_ms)),
            _ => None,
        };
        self.slots.insert(slot.relation, (slot, interval));
    }

    /// Forgets a sink that is dropped; a commit that fails is not tried again.
    pub(super) fn remove(&mut self, relation: RelationId) {
        if let Some((slot, _)) = self.slots.remove(&relation) {
            slot.drop_sink();
        }
    }

    pub(super) fn slots(&self) -> Vec<Arc<SinkSlot>> {
        self.iter().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Arc<SinkSlot>> {
        self.slots.values().map(|(slot, _)| Arc::clone(slot)).collect::<Vec<_>>().into_iter()
    }

    /// Sinks that commit with the next checkpoint; `all` that have an interval, or those whose
    /// interval has passed.
    pub(super) fn due(&self, now: Duration, all: bool) -> BTreeSet<RelationId> {
        let due = self.slots.iter().filter(|(_, (slot, interval))| match interval {
            None => false,
            Some(interval) => all || slot.is_due(now, *interval),
        });
        due.map(|(relation, _)| *relation).collect()
    }

    /// True if a sink with waiting changes is due.
    pub(super) fn any_due(&self, now: Duration) -> bool {
        self.slots.values().any(|(slot, interval)| {
            interval.is_some_and(|interval| slot.has_pending() && slot.is_due(now, interval))
        })
    }

    /// True if a sink opens, writes or commits.
    pub(super) fn any_busy(&self) -> bool {
        self.slots.values().any(|(slot, _)| slot.is_busy())
    }

    /// What keeps a sink from committing. What was prepared before a failure is committed all the
    /// same.
    pub(super) fn obstacle(&self, sink: RelationId, state: &EngineState) -> Option<Obstacle> {
        let (slot, _) = self.slots.get(&sink)?;
        if self.committing.contains(&sink) || slot.is_busy() {
            return Some(Obstacle::Busy(format!("sink \"{}\" is still at work", slot.name)));
        }
        state.failure(sink).map(|error| Obstacle::Failed(error.to_string()))
    }

    /// Sinks that have an interval.
    pub(super) fn paced(&self) -> impl Iterator<Item = RelationId> {
        let paced = self.slots.iter().filter(|(_, (_, interval))| interval.is_some());
        paced.map(|(relation, _)| *relation)
    }

    /// Sinks among `only` one, or all that have an interval, with changes of checkpoints up to
    /// `through` that are not known to be visible, or that are stopped.
    pub(super) fn lacking(
        &self,
        only: Option<RelationId>,
        through: u64,
        state: &EngineState,
    ) -> BTreeSet<RelationId> {
        let asked = self.slots.iter().filter(|(relation, (slot, interval))| {
            let is_asked = only.map_or(interval.is_some(), |only| only == **relation);
            let lacks = slot.lacks(through) || self.committing.contains(relation);
            is_asked && (lacks || slot.is_stopped())
        });
        // What follows a failed job has nothing more to commit; a sink that is stopped has.
        let sound = asked.filter(|(relation, (slot, _))| {
            let obstacle = self.obstacle(**relation, state);
            slot.is_stopped() || !matches!(obstacle, Some(Obstacle::Failed(_)))
        });
        sound.map(|(relation, _)| *relation).collect()
    }

    /// True if one of `wanted` can commit with the next checkpoint.
    pub(super) fn any_free(&self, wanted: &BTreeSet<RelationId>) -> bool {
        let mut slots = wanted.iter().filter_map(|relation| self.slots.get(relation));
        slots.any(|(slot, _)| slot.has_pending() && !slot.is_busy())
    }

    /// True if the coordinator has not heard of a sink's commit.
    pub(super) fn is_committing(&self, relation: RelationId) -> bool {
        self.committing.contains(&relation)
    }

    /// Notes that the coordinator has heard of a sink's commit.
    pub(super) fn heard(&mut self, relation: RelationId) {
        self.committing.remove(&relation);
    }

    /// True if a sink has changes of checkpoints up to `through` that are not known to be visible.
    pub(super) fn lacks(&self, relation: RelationId, through: u64) -> bool {
        self.slots.get(&relation).is_some_and(|(slot, _)| slot.lacks(through))
    }

    /// True if every sink that commits by itself has committed all.
    pub(super) fn all_idle(&self) -> bool {
        self.slots.values().all(|(slot, interval)| interval.is_none() || slot.is_idle())
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
        self.committing.insert(relation);
        let work = async move {
            if let Some(status) = slot.recover(&env, problems(relation, &state)).await? {
                settled(relation, status, &state);
            }
            Ok(())
        };
        in_background(work, done, move |outcome| Done::Recovered(relation, outcome));
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
        self.committing.insert(relation);
        let work = async move {
            let report = problems(relation, &state);
            let committed = slot.commit(sink, &committable, &env, report).await?;
            Ok(committed.map(|(outcome, status)| {
                settled(relation, status, &state);
                outcome
            }))
        };
        in_background(work, done, move |outcome| Done::Commit(relation, checkpoint, outcome));
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
