//! [`Releases`]: splits of sources that readers hold back until all before them is in.
//!
//! ```text
//! Held ─► all readers answer a flush ─► the epoch of their rows is closed ─► Release
//! ```
//!
//! **Invariant:** rows of a split that is released are of later epochs than all rows that the
//! source's other splits had when it was found, on whatever workers.

use std::collections::BTreeSet;

use crate::catalog::RelationId;

/// A flush that readers of one relation are asked for.
struct Release {
    relation: RelationId,
    /// Number of the flush.
    number: u64,
    /// The workers that have answered.
    workers: BTreeSet<usize>,
    /// All have.
    is_reached: bool,
}

/// The releases that are waited for.
#[derive(Default)]
pub(super) struct Releases {
    waiting: Vec<Release>,
}

impl Releases {
    /// A reader of a relation holds splits back; its readers are asked for flush `number`.
    pub(super) fn begin(&mut self, relation: RelationId, number: u64) {
        let (workers, is_reached) = (BTreeSet::new(), false);
        self.waiting.push(Release { relation, number, workers, is_reached });
    }

    /// Readers of one of `workers` have answered a flush.
    pub(super) fn readers_done(
        &mut self,
        worker: usize,
        (number, relations): (u64, &[RelationId]),
        workers: usize,
    ) {
        for release in self.waiting.iter_mut().filter(|release| release.number == number) {
            if relations.contains(&release.relation) {
                release.workers.insert(worker);
                release.is_reached = release.workers.len() == workers;
            }
        }
    }

    /// True if a reader of the relation holds splits back.
    pub(super) fn is_held(&self, relation: RelationId) -> bool {
        self.waiting.iter().any(|release| release.relation == relation)
    }

    /// Takes the releases that all readers have answered, unless rows of the relation wait for the
    /// open epoch to be closed: each with the number of its flush.
    pub(super) fn take_due(&mut self, with_input: &BTreeSet<RelationId>) -> Vec<(RelationId, u64)> {
        let is_due =
            |release: &mut Release| release.is_reached && !with_input.contains(&release.relation);
        let due = self.waiting.extract_if(.., is_due);
        due.map(|release| (release.relation, release.number)).collect()
    }

    /// The relation is dropped or has failed. Readers that are started again say again what they
    /// hold back.
    pub(super) fn forget(&mut self, relation: RelationId) {
        self.waiting.retain(|release| release.relation != relation);
    }

    /// True if none is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
