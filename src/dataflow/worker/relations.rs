//! The relations of a worker: what it builds, restores and drops.
//!
//! **Invariant:** all workers build the same fragments in the same order. What goes wrong on one
//! worker alone fails the fragment, which is built all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Worker;
use crate::catalog::RelationId;
use crate::dataflow::build::{Builder, Restore, build_fragment};
use crate::dataflow::control::{Recovery, Report};
use crate::dataflow::{CatalogChange, CheckedRelation, Step};
use crate::error::{Error, Result};
use crate::plan::on_large_stack;

impl Worker {
    /// Applies a change to the catalog and builds or drops the fragments; all or nothing.
    pub(super) fn apply(
        &mut self,
        timely: &mut timely::worker::Worker,
        change: &CatalogChange,
    ) -> Result<()> {
        let before = self.catalog.clone();
        // Before anything is built: a table looks up its `$errors`.
        self.enter(change);
        // Removed when all is built: what a fault leaves must be what there was before.
        let (mut built, mut dropped) = (Vec::new(), Vec::new());
        for step in &change.steps {
            match step {
                Step::Drop(id) => dropped.push(*id),
                Step::Stop(id) => self.stop_fragment(*id),
                Step::Resume(_) => return Err(Error::internal("RESUME without stored state")),
                Step::Make(checked) => {
                    built.push(checked.relation().id);
                    if let Err(error) = self.build(timely, checked, None) {
                        built.into_iter().for_each(|id| self.remove(id));
                        self.catalog = before;
                        return Err(error);
                    }
                }
            }
        }
        dropped.into_iter().for_each(|id| self.remove(id));
        Ok(())
    }

    /// Brings the catalog to what a change makes of it.
    fn enter(&mut self, change: &CatalogChange) {
        for step in &change.steps {
            match step {
                Step::Make(checked) => _ = self.catalog.insert(Arc::clone(checked.relation())),
                Step::Drop(id) => {
                    if let Some(relation) = self.catalog.by_id(*id).cloned() {
                        self.catalog.remove(&relation.name);
                    }
                }
                Step::Resume(_) | Step::Stop(_) => {}
            }
        }
    }

    /// Builds the fragments of failed relations again; all or nothing. They catch up.
    pub(super) fn resume(
        &mut self,
        timely: &mut timely::worker::Worker,
        change: &CatalogChange,
        recovery: &Recovery,
    ) -> Result<()> {
        let mut state = stored_state(recovery);
        let resumed = |step: &Step| match step {
            Step::Resume(checked) => Some(Arc::clone(checked)),
            _ => None,
        };
        let resumed: Vec<_> = change.steps.iter().filter_map(resumed).collect();
        resumed.iter().for_each(|checked| self.stop_fragment(checked.relation().id));
        for checked in &resumed {
            let id = checked.relation().id;
            let stored = state.remove(&id).unwrap_or_default();
            let is_followed = recovery.followed.contains(&id);
            let stored = Restore { catches_up: true, is_followed, ..stored };
            if let Err(error) = self.build(timely, checked, Some(stored)) {
                resumed.iter().for_each(|checked| self.stop_fragment(checked.relation().id));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Builds what a manifest has, after a start. What cannot be built has failed; the same on
    /// every worker.
    pub(super) fn recover(
        &mut self,
        timely: &mut timely::worker::Worker,
        change: &CatalogChange,
        recovery: &Recovery,
    ) {
        self.fence = recovery.fence;
        let (epoch, now_ms) = recovery.last_epoch;
        self.context.note_time(epoch, now_ms);
        let mut state = stored_state(recovery);
        self.enter(change);
        for checked in change.made() {
            let relation = checked.relation();
            let stored = state.remove(&relation.id).unwrap_or_default();
            if recovery.failed.contains(&relation.id) {
                continue;
            }
            if let Err(error) = self.build(timely, checked, Some(stored)) {
                self.report(Report::Failed { relation: relation.id, error });
            }
        }
    }

    /// Forgets a relation.
    pub(super) fn remove(&mut self, relation: RelationId) {
        self.stop_fragment(relation);
        self.context.forget(relation);
    }

    /// Drops a fragment and what it published.
    fn stop_fragment(&mut self, relation: RelationId) {
        self.fragments.remove(&relation);
        for kind in [&mut self.reading, &mut self.collecting, &mut self.holding, &mut self.early] {
            kind.remove(&relation);
        }
        self.shared.snapshots.remove(relation, self.open_epoch);
    }

    fn build(
        &mut self,
        timely: &mut timely::worker::Worker,
        checked: &CheckedRelation,
        restore: Option<Restore>,
    ) -> Result<()> {
        let taps = self.fragments.iter().map(|(id, fragment)| (*id, fragment.tap.clone()));
        let shared = Arc::clone(&self.shared);
        let builder = Builder {
            config: &shared.config,
            env: &shared.env,
            tokio: &shared.tokio,
            catalog: &self.catalog,
            snapshots: &shared.snapshots,
            memory: &shared.memory,
            context: &self.context,
            taps: &taps.collect(),
            worker: self.index,
            peers: self.peers,
            threads: shared.threads,
            writer: (self.fence.0 << 32) | ((self.change & 0xffff) << 16) | self.index as u64,
            epoch: self.open_epoch,
            restore: restore.as_ref(),
            starts: &self.starts,
        };
        // A plan is as deep as its statement.
        let built = on_large_stack(|| build_fragment(timely, &builder, checked));
        if let Some(fragment) = built? {
            let relation = fragment.relation;
            if !fragment.sources.is_empty() {
                self.reading.insert(relation);
            }
            if !fragment.is_admitted() {
                self.early.insert(relation);
            }
            if fragment.collected.is_some() {
                self.collecting.insert(relation);
            }
            self.fragments.insert(relation, fragment);
            self.active.insert(relation);
        }
        Ok(())
    }
}

/// What fragments start from, of what a manifest has.
fn stored_state(recovery: &Recovery) -> BTreeMap<RelationId, Restore> {
    let mut state: BTreeMap<RelationId, Restore> = BTreeMap::new();
    for segment in &recovery.segments {
        let restore = state.entry(segment.relation).or_default();
        let stored = restore.state.entry((segment.operator, segment.table)).or_default();
        stored.push(segment.clone());
    }
    for relation in &recovery.rebuilt {
        state.entry(*relation).or_default().is_rebuilt = true;
    }
    for (relation, offsets) in &recovery.offsets {
        state.entry(*relation).or_default().offsets = offsets.clone();
    }
    state
}
