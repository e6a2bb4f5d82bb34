//! [`Sinks`]: all sinks of the engine, and when each commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use frazil_connector_api::{Committable, SinkStatus};
use tokio::sync::mpsc::UnboundedSender;

use super::coordinator::Done;
use super::sink_slot::{BusySink, SinkSlot};
use super::state::EngineState;
use crate::catalog::{Catalog, Definition, RelationId};
use crate::env::Env;
use crate::error::Result;

/// All sinks of the engine, and when each commits.
#[derive(Default)]
pub(super) struct Sinks {
    /// With the least time between commits; `None` for pipelines, which commit when fired.
    slots: BTreeMap<RelationId, (Arc<SinkSlot>, Option<Duration>)>,
}

impl Sinks {
    pub(super) fn add(&mut self, slot: Arc<SinkSlot>, catalog: &Catalog) {
        let interval = match catalog.by_id(slot.relation).map(|relation| &*relation.definition) {
            Some(Definition::Sink(sink)) => Some(Duration::from_millis(sink.commit_interval_ms)),
            _ => None,
        };
        self.slots.insert(slot.relation, (slot, interval));
    }

    pub(super) fn remove(&mut self, relation: RelationId) {
        self.slots.remove(&relation);
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

    /// Why the sinks that are at work cannot take part in a checkpoint.
    pub(super) fn busy(&self) -> BTreeMap<RelationId, String> {
        let slots = self.slots.values().map(|(slot, _)| slot).filter(|slot| slot.is_busy());
        slots
            .map(|slot| (slot.relation, format!("sink \"{}\" is still at work", slot.name)))
            .collect()
    }

    /// True if every sink that commits by itself has committed all.
    pub(super) fn all_idle(&self) -> bool {
        self.slots.values().all(|(slot, interval)| interval.is_none() || slot.is_idle())
    }

    /// Commits what the last process left, in the background.
    pub(super) fn recover(&self, slot: &Arc<SinkSlot>, env: &Env, state: &Arc<EngineState>) {
        let (relation, name) = (slot.relation, slot.name.clone());
        let (slot, env, tell) = (Arc::clone(slot), env.clone(), problems(relation, state));
        let work = async move { slot.recover(&env, tell).await.map(|status| ((), status)) };
        let stopped = Arc::clone(state);
        in_background(relation, state, work, move |outcome| {
            if let Err(error) = outcome {
                stopped.stop_with(error.within(name));
            }
        });
    }

    /// Commits a checkpoint's changes in the background.
    pub(super) fn commit(
        &self,
        slot: Arc<SinkSlot>,
        sink: BusySink,
        committable: Committable,
        env: &Env,
        state: &Arc<EngineState>,
        done: &UnboundedSender<Done>,
    ) {
        let relation = slot.relation;
        let (env, done, tell) = (env.clone(), done.clone(), problems(relation, state));
        let work = async move {
            let committed = slot.commit(sink, &committable, &env, tell).await;
            committed.map(|(outcome, status)| (outcome, Some(status)))
        };
        in_background(relation, state, work, move |outcome| {
            let _ = done.send(Done::Commit(relation, outcome));
        });
    }
}

/// Notes the problem of a sink that tries again.
fn problems(relation: RelationId, state: &Arc<EngineState>) -> impl Fn(u32, String) + use<> {
    let state = Arc::clone(state);
    move |attempts, error| state.set_problem(relation, Some((attempts, error)))
}

/// Does a sink's work as a task of its own, notes that it has no problem any more and what its
/// table has become, and tells `done` the outcome.
fn in_background<T: Send + 'static>(
    relation: RelationId,
    state: &Arc<EngineState>,
    work: impl Future<Output = Result<(T, Option<SinkStatus>)>> + Send + 'static,
    done: impl FnOnce(Result<T>) + Send + 'static,
) {
    let state = Arc::clone(state);
    tokio::spawn(async move {
        let outcome = work.await.map(|(outcome, status)| {
            state.set_problem(relation, None);
            if let Some(status) = status {
                state.set_sink(relation, status);
            }
            outcome
        });
        done(outcome);
    });
}
