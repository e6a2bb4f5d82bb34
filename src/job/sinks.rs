//! [`Sinks`]: all sinks of the engine, and when each commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use frazil_connector_api::Committable;
use tokio::sync::mpsc::UnboundedSender;

use super::coordinator::Done;
use super::sink_slot::{BusySink, SinkSlot};
use super::state::EngineState;
use crate::catalog::{Catalog, Definition, RelationId};
use crate::env::Env;

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

    /// True if every sink that commits by itself has committed all.
    pub(super) fn all_idle(&self) -> bool {
        self.slots.values().all(|(slot, interval)| interval.is_none() || slot.is_idle())
    }

    /// Commits what the last process left, in the background.
    pub(super) fn recover(&self, slot: &Arc<SinkSlot>, env: &Env, state: &Arc<EngineState>) {
        let (slot, env, state) = (Arc::clone(slot), env.clone(), Arc::clone(state));
        tokio::spawn(async move {
            let tell = |attempts, error| {
                state.set_problem(slot.relation, Some((attempts, error)));
            };
            match slot.recover(&env, tell).await {
                Ok(status) => {
                    state.set_problem(slot.relation, None);
                    if let Some(status) = status {
                        state.set_sink(slot.relation, status);
                    }
                }
                Err(error) => state.stop_with(error.within(slot.name.clone())),
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
        let (env, state, done) = (env.clone(), Arc::clone(state), done.clone());
        tokio::spawn(async move {
            let tell = |attempts, error| {
                state.set_problem(slot.relation, Some((attempts, error)));
            };
            let outcome = slot.commit(sink, &committable, &env, tell).await;
            let outcome = outcome.map(|(outcome, status)| {
                state.set_problem(slot.relation, None);
                state.set_sink(slot.relation, status);
                outcome
            });
            let _ = done.send(Done::Commit(slot.relation, outcome));
        });
    }
}
