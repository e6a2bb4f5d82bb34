//! [`Flushes`]: who waits until everything that has come is committed.
//!
//! ```text
//! start ─► Reading ─ readers caught up ─► Ready ─► Checkpoint ─ manifest ─► Committing ─► answered
//! ```
//!
//! An obstacle keeps a flush where it is, for [`WAIT`] at most; then it is answered by the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use frazil_connector_api::CommitOutcome;

use super::coordinator::Reply;
use crate::catalog::RelationId;
use crate::error::{Error, ErrorKind};

/// How long an obstacle keeps a flush, such as a target that does not answer.
const WAIT: Duration = Duration::from_secs(60);

/// What keeps a flush from going on.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// It may pass: a sink is at work, a source is out of reach.
    Busy(String),
    /// It will not: the job has failed.
    Failed(String),
}

struct Flush {
    number: u64,
    /// One sink, or all that have a `commit_interval`.
    only: Option<RelationId>,
    reply: Reply<Option<String>>,
    stage: Stage,
    /// When the stage began.
    since: Duration,
    snapshot: Option<String>,
}

/// What a flush waits for.
enum Stage {
    /// The readers of all workers; these have caught up.
    Reading(BTreeSet<usize>),
    /// The next checkpoint.
    Ready,
    /// The manifest of the checkpoint under way.
    Checkpoint,
    /// The commits of these sinks.
    Committing(BTreeSet<RelationId>),
}

/// The flushes under way.
#[derive(Default)]
pub(super) struct Flushes {
    number: u64,
    flushes: Vec<Flush>,
}

impl Flush {
    fn enter(&mut self, stage: Stage, now: Duration) {
        self.stage = stage;
        self.since = now;
    }

    fn answer(self, answer: Result<(), Error>) {
        let _ = self.reply.send(answer.map(|()| self.snapshot));
    }

    /// The reason if the obstacle will not pass, or has been there for too long at `now`.
    fn given_up(&self, obstacle: &Obstacle, now: Duration) -> Option<Error> {
        match obstacle {
            Obstacle::Failed(error) => Some(Error::new(ErrorKind::JobFailed, error)),
            Obstacle::Busy(_) if now.saturating_sub(self.since) < WAIT => None,
            Obstacle::Busy(reason) => Some(Error::new(ErrorKind::Unavailable, reason)),
        }
    }
}

impl Flushes {
    /// Begins one of `only` one sink, or of all that have a `commit_interval`; gives the number
    /// under which workers report that their readers caught up.
    pub(super) fn start(
        &mut self,
        only: Option<RelationId>,
        reply: Reply<Option<String>>,
        now: Duration,
    ) -> u64 {
        self.number += 1;
        let stage = Stage::Reading(BTreeSet::new());
        let flush = Flush { number: self.number, only, reply, stage, since: now, snapshot: None };
        self.flushes.push(flush);
        self.number
    }

    /// The readers of one of `workers` have caught up with a flush, and so with those before it; a
    /// flush is ready when those of all have.
    pub(super) fn readers_done(
        &mut self,
        worker: usize,
        number: u64,
        workers: usize,
        now: Duration,
    ) {
        for flush in self.flushes.iter_mut().filter(|flush| flush.number <= number) {
            let Stage::Reading(done) = &mut flush.stage else { continue };
            done.insert(worker);
            if done.len() == workers {
                flush.enter(Stage::Ready, now);
            }
        }
    }

    /// True if one waits for the next checkpoint only.
    pub(super) fn any_ready(
        &self,
        obstacle: impl Fn(Option<RelationId>) -> Option<Obstacle>,
    ) -> bool {
        let mut ready = self.flushes.iter().filter(|flush| matches!(flush.stage, Stage::Ready));
        ready.any(|flush| obstacle(flush.only).is_none())
    }

    /// The next checkpoint begins: gives what those that wait for it only want to be committed.
    pub(super) fn begin_checkpoint(
        &mut self,
        obstacle: impl Fn(Option<RelationId>) -> Option<Obstacle>,
        now: Duration,
    ) -> Vec<Option<RelationId>> {
        let ready = self.flushes.iter_mut().filter(|flush| matches!(flush.stage, Stage::Ready));
        let taken = ready.filter(|flush| obstacle(flush.only).is_none()).map(|flush| {
            flush.enter(Stage::Checkpoint, now);
            flush.only
        });
        taken.collect()
    }

    /// The checkpoint is durable and these sinks commit now: each flush waits for those that it
    /// asked for. Those of sinks that could not prepare get the reason.
    pub(super) fn begin_commits(
        &mut self,
        sinks: &[RelationId],
        problems: &BTreeMap<RelationId, String>,
        now: Duration,
    ) {
        for mut flush in std::mem::take(&mut self.flushes) {
            if !matches!(flush.stage, Stage::Checkpoint) {
                self.flushes.push(flush);
                continue;
            }
            let problem = match flush.only {
                Some(only) => problems.get(&only),
                None => problems.values().next(),
            };
            if let Some(reason) = problem {
                flush.answer(Err(Error::new(ErrorKind::Unavailable, reason)));
                continue;
            }
            let asked = sinks.iter().filter(|sink| flush.only.is_none_or(|it| it == **sink));
            flush.enter(Stage::Committing(asked.copied().collect()), now);
            self.flushes.push(flush);
        }
    }

    /// A sink has committed.
    pub(super) fn committed(&mut self, relation: RelationId, outcome: &CommitOutcome) {
        for flush in &mut self.flushes {
            if let Stage::Committing(sinks) = &mut flush.stage
                && sinks.remove(&relation)
                && let CommitOutcome::Committed { snapshot } = outcome
            {
                flush.snapshot = Some(snapshot.clone());
            }
        }
    }

    /// Answers those whose sinks have committed, and those that an obstacle has kept for too long:
    /// `source` in the way of readers, `sink` in the way of what a flush asked for.
    pub(super) fn settle(
        &mut self,
        now: Duration,
        source: impl Fn() -> Option<Obstacle>,
        sink: impl Fn(Option<RelationId>) -> Option<Obstacle>,
    ) {
        let failed = |only| sink(only).filter(|it| matches!(it, Obstacle::Failed(_)));
        let answer = |flush: &Flush| {
            let obstacle = match &flush.stage {
                Stage::Reading(_) => failed(flush.only).or_else(&source),
                Stage::Ready => sink(flush.only),
                Stage::Checkpoint => None,
                Stage::Committing(sinks) if sinks.is_empty() => match failed(flush.only) {
                    // It failed before it had anything to commit.
                    Some(failed) if flush.snapshot.is_none() => Some(failed),
                    _ => return Some(Ok(())),
                },
                // What was prepared before a failure is committed all the same.
                Stage::Committing(sinks) => sinks.iter().find_map(|it| match sink(Some(*it)) {
                    Some(Obstacle::Failed(_)) => None,
                    other => other,
                }),
            };
            obstacle.and_then(|obstacle| flush.given_up(&obstacle, now)).map(Err)
        };
        // Each is looked at once: a sink may begin or end its work between two looks.
        for flush in std::mem::take(&mut self.flushes) {
            match answer(&flush) {
                Some(answer) => flush.answer(answer),
                None => self.flushes.push(flush),
            }
        }
    }

    /// True if none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.flushes.is_empty()
    }
}

#[cfg(test)]
mod tests;
