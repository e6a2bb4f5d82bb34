//! The relations of a worker: what it builds, restores and drops.
//!
//! **Invariant:** all workers build the same fragments in the same order. What goes wrong on one
//! worker alone fails the fragment, which is built all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::Worker;
use crate::catalog::{Relation, RelationId};
use crate::dataflow::build::{Builder, Restore, build_fragment};
use crate::dataflow::control::{Recovery, Report};
use crate::dataflow::segments;
use crate::error::{Error, ErrorKind, Result, caught};
use crate::sql::{self, Bound};
use crate::state::{SegmentRef, read_batches};

impl Worker {
    /// Applies statements to the catalog and builds or drops the fragments; all or nothing.
    pub(super) fn apply(
        &mut self,
        timely: &mut timely::worker::Worker,
        statements: &[(RelationId, String)],
    ) -> Result<()> {
        let before = self.catalog.clone();
        let mut built = Vec::new();
        let outcome = self.apply_each(timely, statements, &mut built);
        if outcome.is_err() {
            built.into_iter().for_each(|id| self.remove(id));
            self.catalog = before;
        }
        outcome
    }

    fn apply_each(
        &mut self,
        timely: &mut timely::worker::Worker,
        statements: &[(RelationId, String)],
        built: &mut Vec<RelationId>,
    ) -> Result<()> {
        // Removed when all is built: what a fault leaves must be what there was before.
        let mut dropped = Vec::new();
        for (first_id, text) in statements {
            self.catalog.set_next_id(*first_id);
            for statement in sql::parse(text)? {
                match sql::bind(&self.catalog, &statement)? {
                    Bound::Create(creation) => {
                        for relation in self.catalog.create(*creation, &statement.text)? {
                            built.push(relation.id);
                            self.build(timely, &relation, None)?;
                        }
                    }
                    Bound::Drop(removal) => {
                        dropped.extend(self.catalog.drop_relations(&removal)?);
                    }
                    _ => return Err(Error::internal("a statement is neither CREATE nor DROP")),
                }
            }
        }
        dropped.into_iter().for_each(|relation| self.remove(relation.id));
        Ok(())
    }

    /// Builds what a manifest has, after a start. What cannot be built has failed; the same on
    /// every worker.
    pub(super) fn recover(
        &mut self,
        timely: &mut timely::worker::Worker,
        statements: &[(RelationId, String)],
        recovery: &Recovery,
    ) {
        self.fence = recovery.fence;
        let mut state = self.read_state(recovery);
        for (id, text) in statements {
            for relation in sql::enter_stored(&mut self.catalog, *id, text) {
                let stored = state.remove(&relation.id).unwrap_or_default();
                if recovery.failed.contains(&relation.id) {
                    continue;
                }
                if let Err(error) = self.build(timely, &relation, Some(stored)) {
                    self.report(Report::Failed { relation: relation.id, error });
                }
            }
        }
    }

    /// Drops a fragment and what it published.
    pub(super) fn remove(&mut self, relation: RelationId) {
        self.fragments.remove(&relation);
        self.shared.snapshots.remove(relation);
    }

    fn build(
        &mut self,
        timely: &mut timely::worker::Worker,
        relation: &Relation,
        restore: Option<Restore>,
    ) -> Result<()> {
        let taps = self.fragments.iter().map(|(id, fragment)| (*id, fragment.tap.clone()));
        let refused = self.fragments.iter().map(|(id, it)| (*id, it.context.refused()));
        let shared = Arc::clone(&self.shared);
        let builder = Builder {
            config: &shared.config,
            env: &shared.env,
            catalog: &self.catalog,
            snapshots: &shared.snapshots,
            context: &self.context,
            taps: &taps.collect(),
            refused: &refused.collect(),
            worker: self.index,
            peers: self.peers,
            serving: shared.serving,
            writer: (self.fence << 16) | self.index as u64,
            epoch: self.open_epoch,
            restore: restore.as_ref(),
            starts: &self.starts,
        };
        // A plan is as deep as its statement.
        let built = sql::on_large_stack(|| build_fragment(timely, &builder, relation));
        if let Some(fragment) = built? {
            self.fragments.insert(relation.id, fragment);
            self.active.insert(relation.id);
        }
        Ok(())
    }

    /// Reads the segments of a manifest, by fragment.
    fn read_state(&self, recovery: &Recovery) -> BTreeMap<RelationId, Restore> {
        let mut state: BTreeMap<RelationId, Restore> = BTreeMap::new();
        let mut object: Option<(String, bytes::Bytes)> = None;
        for segment in &recovery.segments {
            let is_mine = segment.worker.is_none_or(|worker| worker == self.index);
            let restore = state.entry(segment.relation).or_default();
            if !is_mine || restore.unreadable.is_some() {
                continue;
            }
            match self.read_segment(segment, &mut object) {
                Ok(batches) => {
                    let stored = restore.state.entry((segment.operator, segment.table));
                    let stored = stored.or_default();
                    stored.segments.extend(batches);
                    stored.is_shared |= segment.worker.is_none();
                }
                Err(error) => restore.unreadable = Some(error),
            }
        }
        for relation in &recovery.rebuilt {
            state.entry(*relation).or_default().is_rebuilt = true;
        }
        for (relation, offsets) in &recovery.offsets {
            state.entry(*relation).or_default().offsets = offsets.clone();
        }
        state
    }

    /// The rows of a segment; `object` is the last object that was read.
    fn read_segment(
        &self,
        segment: &SegmentRef,
        object: &mut Option<(String, bytes::Bytes)>,
    ) -> Result<Vec<RecordBatch>> {
        if object.as_ref().is_none_or(|(name, _)| *name != segment.object) {
            let bytes = segments::read(&self.shared.env, &segment.object);
            *object = Some((segment.object.clone(), self.shared.tokio.block_on(bytes)?));
        }
        let range = segment.offset as usize..(segment.offset + segment.length) as usize;
        let bytes = object.as_ref().and_then(|(_, bytes)| bytes.get(range));
        let bytes = bytes.ok_or_else(|| {
            let message = format!("object \"{}\" is shorter than it was", segment.object);
            Error::new(ErrorKind::Corrupt, message)
        })?;
        caught("a segment", || read_batches(bytes))
    }
}
