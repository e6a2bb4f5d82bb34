//! [`acknowledge`]: tells sources what will not be read again.
//!
//! ```text
//! newest durable manifest ─► slowest reader of each split ─► Source::acknowledge
//! ```
//!
//! A thread looks at the newest manifest now and then, beside everything else: no checkpoint waits
//! for a source. What an acknowledgement is for (the lag that a tool shows, the log that a database
//! keeps) does not need it at once.
//!
//! **Invariant:** only positions of a durable manifest are acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use frazil_connector_api::{CheckpointNumber, Position, Positions, Source};

use crate::catalog::RelationId;
use crate::checkpoint::Manifest;
use crate::dataflow::{SourceOffsets, build_source};
use crate::env::Env;
use crate::job::state::EngineState;

/// Pause between two looks, as long as Kafka's own clients make one.
const PAUSE: Duration = Duration::from_secs(5);
/// The thread looks so often whether the engine is still there.
const TICK: Duration = Duration::from_millis(500);

/// Starts the thread. It ends soon after the engine.
pub(super) fn acknowledge(
    manifest: &Arc<Mutex<Arc<Manifest>>>,
    state: &Arc<EngineState>,
    env: &Env,
) {
    let (manifest, state, env) = (Arc::downgrade(manifest), Arc::downgrade(state), env.clone());
    let thread = std::thread::Builder::new().name("frazil-acknowledge".to_string());
    let started = thread.spawn(move || run(&manifest, &state, &env));
    if let Err(error) = started {
        tracing::warn!(%error, "sources are not told what is read: there is no thread left");
    }
}

fn run(manifest: &Weak<Mutex<Arc<Manifest>>>, state: &Weak<EngineState>, env: &Env) {
    let mut acknowledged = Acknowledged::default();
    let mut seen = CheckpointNumber::default();
    loop {
        let mut waited = Duration::ZERO;
        while waited < PAUSE {
            if manifest.strong_count() == 0 {
                return;
            }
            std::thread::sleep(TICK);
            waited += TICK;
        }
        let (Some(manifest), Some(state)) = (manifest.upgrade(), state.upgrade()) else { return };
        let newest = {
            let manifest = manifest.lock().unwrap_or_else(PoisonError::into_inner);
            (manifest.sequence != seen).then(|| (manifest.sequence, manifest.offsets.clone()))
        };
        if let Some((sequence, offsets)) = newest {
            seen = sequence;
            let catalog = state.catalog();
            // For questions that no reader asks.
            acknowledged.tell(&offsets, |relation| {
                let relation = catalog.by_id(relation)?;
                build_source(env, &relation.definition).ok().flatten()
            });
        }
    }
}

/// What sources have been told.
#[derive(Default)]
struct Acknowledged {
    /// `None` for a source that does not want to know.
    sources: BTreeMap<RelationId, Option<Told>>,
}

struct Told {
    source: Arc<dyn Source>,
    positions: Positions,
}

impl Acknowledged {
    /// Acknowledges new positions to each source. A failed call is repeated in the next round.
    fn tell(
        &mut self,
        offsets: &SourceOffsets,
        build: impl Fn(RelationId) -> Option<Arc<dyn Source>>,
    ) {
        let mut readers: BTreeMap<RelationId, Vec<&Positions>> = BTreeMap::new();
        for (relation, positions) in offsets.values().flatten() {
            readers.entry(*relation).or_default().push(positions);
        }
        self.sources.retain(|relation, _| readers.contains_key(relation));
        for (relation, readers) in readers {
            let told = self.sources.entry(relation).or_insert_with(|| {
                let source = build(relation).filter(|source| source.wants_acknowledgements())?;
                Some(Told { source, positions: Positions::new() })
            });
            let Some(Told { source, positions }) = told else { continue };
            let mut fresh = slowest(source.as_ref(), &readers);
            let all = fresh.clone();
            fresh.retain(|split, position| positions.get(split) != Some(position));
            if fresh.is_empty() {
                continue;
            }
            match source.acknowledge(&fresh) {
                Ok(()) => *positions = all,
                Err(error) => tracing::warn!(%error, "a source was not told what is read"),
            }
        }
    }
}

/// The positions up to which every reader has read. A split that one of them has not begun is left
/// out.
fn slowest(source: &dyn Source, readers: &[&Positions]) -> Positions {
    let Some((first, others)) = readers.split_first() else { return Positions::new() };
    let slowest = |(split, position)| {
        let mut slowest: &Position = position;
        for other in others {
            let other = other.get(split)?;
            if source.is_past(split, slowest, other) {
                slowest = other;
            }
        }
        Some((split.clone(), slowest.clone()))
    };
    first.iter().filter_map(slowest).collect()
}

#[cfg(test)]
mod tests;
