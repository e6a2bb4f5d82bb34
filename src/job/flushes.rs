//! [`Flushes`]: who waits until everything that has come is committed.
//!
//! ```text
//! start ─► readers caught up ─► ready ─► [checkpoint] ─► committing ─► answered
//! ```

use std::collections::{BTreeMap, BTreeSet};

use frazil_connector_api::CommitOutcome;

use super::coordinator::Reply;
use crate::catalog::RelationId;
use crate::error::{Error, ErrorKind};

/// A flush that waits for readers, a checkpoint, and then commits.
pub(super) struct Flush {
    /// One sink, or all that have a `commit_interval`.
    only: Option<RelationId>,
    reply: Reply<Option<String>>,
    /// Sinks whose commit it waits for.
    commits: BTreeSet<RelationId>,
    snapshot: Option<String>,
}

impl Flush {
    /// The one sink that is to commit, or `None` for all that have a `commit_interval`.
    pub(super) fn only(&self) -> Option<RelationId> {
        self.only
    }
}

/// The flushes under way.
#[derive(Default)]
pub(super) struct Flushes {
    number: u64,
    /// Those that wait for readers, by number, with the workers whose readers have caught up.
    reading: BTreeMap<u64, (BTreeSet<usize>, Flush)>,
    /// Those that wait for the next checkpoint.
    ready: Vec<Flush>,
    /// Those that wait for commits.
    committing: Vec<Flush>,
}

impl Flushes {
    /// Begins one; gives the number under which workers report that their readers caught up.
    pub(super) fn start(&mut self, only: Option<RelationId>, reply: Reply<Option<String>>) -> u64 {
        self.number += 1;
        let flush = Flush { only, reply, commits: BTreeSet::new(), snapshot: None };
        self.reading.insert(self.number, (BTreeSet::new(), flush));
        self.number
    }

    /// The readers of one of `workers` have caught up with a flush, and so with those before it; a
    /// flush is ready when those of all have.
    pub(super) fn readers_done(&mut self, worker: usize, number: u64, workers: usize) {
        for (_, (done, _)) in self.reading.range_mut(..=number) {
            done.insert(worker);
        }
        let is_done = |_: &u64, (done, _): &mut (BTreeSet<usize>, Flush)| done.len() == workers;
        let done = self.reading.extract_if(..=number, is_done);
        self.ready.extend(done.map(|(_, (_, flush))| flush));
    }

    /// True if one waits for the next checkpoint.
    pub(super) fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes those that wait for the next checkpoint; not those that ask for one of the sinks that
    /// cannot take part, which get the reason.
    pub(super) fn take_ready(&mut self, problems: &BTreeMap<RelationId, String>) -> Vec<Flush> {
        refuse(&mut self.ready, problems);
        std::mem::take(&mut self.ready)
    }

    /// The checkpoint of these flushes is being written.
    pub(super) fn begin_commits(&mut self, flushes: Vec<Flush>) {
        self.committing.extend(flushes);
    }

    /// These sinks commit now; each flush waits for those that it asked for.
    pub(super) fn wait_for(&mut self, sinks: &[RelationId]) {
        for flush in &mut self.committing {
            let asked = sinks.iter().filter(|sink| flush.only.is_none_or(|only| only == **sink));
            flush.commits.extend(asked);
        }
    }

    /// A sink has committed.
    pub(super) fn committed(&mut self, relation: RelationId, outcome: &CommitOutcome) {
        for flush in &mut self.committing {
            if flush.commits.remove(&relation)
                && let CommitOutcome::Committed { snapshot } = outcome
            {
                flush.snapshot = Some(snapshot.clone());
            }
        }
    }

    /// Flushes of sinks that could not prepare get the reason.
    pub(super) fn refuse(&mut self, problems: &BTreeMap<RelationId, String>) {
        refuse(&mut self.committing, problems);
    }

    /// Answers those whose sinks have committed; call while no checkpoint is being written.
    pub(super) fn settle(&mut self) {
        for flush in self.committing.extract_if(.., |flush| flush.commits.is_empty()) {
            let _ = flush.reply.send(Ok(flush.snapshot));
        }
    }

    /// True if none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.reading.is_empty() && self.ready.is_empty() && self.committing.is_empty()
    }
}

fn refuse(flushes: &mut Vec<Flush>, problems: &BTreeMap<RelationId, String>) {
    let concerns = |flush: &Flush| match flush.only {
        Some(only) => problems.get(&only),
        None => problems.values().next(),
    };
    for flush in flushes.extract_if(.., |flush| concerns(flush).is_some()) {
        let reason = concerns(&flush).cloned().unwrap_or_default();
        let _ = flush.reply.send(Err(Error::new(ErrorKind::Unavailable, reason)));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_later_flush_answers_for_those_before() {
        let mut flushes = Flushes::default();
        let start = |flushes: &mut Flushes| flushes.start(None, oneshot::channel().0);
        assert_eq!((start(&mut flushes), start(&mut flushes)), (1, 2));
        // Worker 0 was asked twice before it answered, worker 1 answered each.
        flushes.readers_done(0, 2, 2);
        flushes.readers_done(1, 1, 2);
        assert_eq!(flushes.take_ready(&BTreeMap::new()).len(), 1);
        assert_eq!(start(&mut flushes), 3);
        flushes.readers_done(1, 3, 2);
        assert_eq!(flushes.take_ready(&BTreeMap::new()).len(), 1);
        flushes.readers_done(0, 3, 2);
        assert_eq!(flushes.take_ready(&BTreeMap::new()).len(), 1);
    }
}
