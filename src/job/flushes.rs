//! [`Flushes`]: the flushes under way, each waiting until everything that has come is committed.
//!
//! ```text
//! start ─► Reading ─ caught up ─► Ready ─► Checkpoint ─ manifest n ─► Committing ─► answered
//! ```
//!
//! A flush is of one sink or of all. It asks the readers that these sinks follow; a flush of all
//! asks the other readers as well, but does without one that is out of reach. It ends when each of
//! its sinks has committed everything up to its checkpoint n, at whatever later checkpoint.
//!
//! An obstacle keeps a flush where it is, for [`WAIT`] at most; then it is answered by the reason.
//! A sink that has failed lacks rows: a flush waits for the other ones, and is then answered by the
//! reasons of all that have failed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use frazil_connector_api::{CheckpointNumber, CommitOutcome};

use super::message::{Flushed, Reply};
use crate::catalog::RelationId;
use crate::error::{Error, ErrorKind};

/// How long an obstacle keeps a flush, such as a target that does not answer.
const WAIT: Duration = Duration::from_secs(60);

/// A source is out of reach after so many failures in a row, or if it does not answer for so long:
/// a single failure may be an accident.
const FAILURES_BEFORE_LEFT_OUT: u32 = 3;
const WAIT_BEFORE_LEFT_OUT: Duration = Duration::from_secs(5);

/// What keeps a flush from going on.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// It may pass: a sink is at work, a source is out of reach.
    Busy(String),
    /// It will not: the job has failed.
    Failed(String),
}

/// What a flush waits for among the readers of one relation.
#[derive(Debug)]
pub(super) enum Readers {
    /// They catch up.
    Reading,
    /// The relation is gone or has failed: nothing more comes.
    Gone,
    /// Their source is out of reach for the n-th time.
    OutOfReach(u32, String),
}

/// What is flushed.
#[derive(Debug, Default)]
pub(super) struct FlushScope {
    /// One sink, or all that have a `commit_interval`.
    pub(super) only: Option<RelationId>,
    /// What the sinks follow, themselves included: the flush waits for all readers of these.
    pub(super) needed: BTreeSet<RelationId>,
    /// Other relations, whose readers are waited for unless their source is out of reach.
    pub(super) beside: BTreeSet<RelationId>,
}

struct Flush {
    scope: FlushScope,
    reply: Reply<Flushed>,
    stage: Stage,
    /// When the stage began, or went forward.
    since: Duration,
    done: Flushed,
    /// Why sinks do not commit.
    failed: Vec<String>,
}

/// What a flush waits for.
enum Stage {
    /// Readers of these relations.
    Reading(BTreeMap<RelationId, AskedReaders>),
    /// The next checkpoint.
    Ready,
    /// The manifest of the checkpoint under way.
    Checkpoint,
    /// Commits of these sinks that have everything of checkpoints `through` and before.
    Committing { through: CheckpointNumber, sinks: BTreeSet<RelationId> },
}

/// Readers of one relation that a flush has asked.
struct AskedReaders {
    /// The number under which they answer; `None`: splits are held back and have to be released
    /// before the readers are asked again.
    number: Option<u64>,
    /// The workers that have caught up.
    workers: BTreeSet<usize>,
}

impl AskedReaders {
    fn new(number: u64) -> Self {
        Self { number: Some(number), workers: BTreeSet::new() }
    }
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
        let _ = self.reply.send(answer.map(|()| self.done));
    }

    /// The reasons if the obstacle will not pass, or has been there for too long at `now`.
    fn given_up(&mut self, obstacle: Obstacle, now: Duration) -> Option<Error> {
        let (reason, retryable) = match obstacle {
            Obstacle::Failed(reason) => (reason, false),
            Obstacle::Busy(_) if now.saturating_sub(self.since) < WAIT => return None,
            Obstacle::Busy(reason) => (reason, true),
        };
        self.failed.push(reason);
        Some(Error { retryable, ..self.failure() })
    }

    /// The error that names all failed sinks. It is `JobFailed` for every cause: the statement has
    /// failed, and not the client's connection.
    fn failure(&self) -> Error {
        Error::new(ErrorKind::JobFailed, self.failed.join("; "))
            .with_hint("SHOW JOBS shows the state of all jobs")
    }

    /// Does not wait for sinks that have failed.
    fn leave_out_failed(&mut self, sink: &impl Fn(RelationId) -> Option<Obstacle>) {
        let Stage::Committing { sinks, .. } = &mut self.stage else { return };
        sinks.retain(|it| match sink(*it) {
            Some(Obstacle::Failed(reason)) => {
                self.failed.push(reason);
                false
            }
            _ => true,
        });
    }

    /// Looks at the readers that have not caught up: what keeps the flush, if anything does.
    fn look_at_readers(
        &mut self,
        readers: &impl Fn(RelationId) -> Readers,
        now: Duration,
    ) -> Option<Obstacle> {
        let Stage::Reading(waiting) = &mut self.stage else { return None };
        let is_late = now.saturating_sub(self.since) >= WAIT_BEFORE_LEFT_OUT;
        let mut obstacle = None;
        waiting.retain(|relation, _| match readers(*relation) {
            Readers::Reading => true,
            Readers::Gone => false,
            Readers::OutOfReach(_, reason) if self.scope.needed.contains(relation) => {
                obstacle = Some(Obstacle::Busy(reason));
                true
            }
            Readers::OutOfReach(failures, _) if failures < FAILURES_BEFORE_LEFT_OUT && !is_late => {
                true
            }
            Readers::OutOfReach(_, reason) => {
                self.done.left_out.push(reason);
                false
            }
        });
        if waiting.is_empty() {
            self.enter(Stage::Ready, now);
        }
        obstacle
    }
}

impl Flushes {
    /// Begins one; gives the number under which workers report that readers have caught up, and
    /// the relations whose readers are to be asked.
    pub(super) fn start(
        &mut self,
        scope: FlushScope,
        reply: Reply<Flushed>,
        now: Duration,
    ) -> (u64, Vec<RelationId>) {
        let number = self.next_number();
        let asked: Vec<RelationId> = scope.needed.union(&scope.beside).copied().collect();
        let waiting = asked.iter().map(|relation| (*relation, AskedReaders::new(number)));
        let stage = Stage::Reading(waiting.collect());
        let done = Flushed::default();
        let failed = Vec::new();
        self.flushes.push(Flush { scope, reply, stage, since: now, done, failed });
        (number, asked)
    }

    /// A number that readers have not been asked under.
    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Readers of one of `workers` have caught up with a flush; it is ready when all have, and none
    /// has splits that are `held` back.
    pub(super) fn readers_done(
        &mut self,
        worker: usize,
        (number, relations): (u64, &[RelationId]),
        workers: usize,
        held: impl Fn(RelationId) -> bool,
    ) {
        for flush in &mut self.flushes {
            let Stage::Reading(waiting) = &mut flush.stage else { continue };
            for relation in relations {
                let Some(readers) = waiting.get_mut(relation) else { continue };
                if readers.number != Some(number) {
                    continue;
                }
                readers.workers.insert(worker);
                match readers.workers.len() == workers {
                    true if held(*relation) => readers.number = None,
                    true => _ = waiting.remove(relation),
                    false => {}
                }
            }
        }
    }

    /// Splits of a relation are released; true if a flush is to cover them, for which the readers
    /// are to be asked under `number`.
    pub(super) fn ask_again(&mut self, relation: RelationId, number: u64) -> bool {
        let mut is_asked = false;
        for flush in &mut self.flushes {
            let Stage::Reading(waiting) = &mut flush.stage else { continue };
            if let Some(readers) = waiting.get_mut(&relation).filter(|it| it.number.is_none()) {
                *readers = AskedReaders::new(number);
                is_asked = true;
            }
        }
        is_asked
    }

    /// True if one waits for the next checkpoint only.
    pub(super) fn any_ready(&self) -> bool {
        self.flushes.iter().any(|flush| matches!(flush.stage, Stage::Ready))
    }

    /// Sinks whose commit a flush waits for: they are due.
    pub(super) fn wanted(&self) -> BTreeSet<RelationId> {
        let sinks = self.flushes.iter().filter_map(|flush| match &flush.stage {
            Stage::Committing { sinks, .. } => Some(sinks),
            _ => None,
        });
        sinks.flatten().copied().collect()
    }

    /// The next checkpoint begins: gives what the flushes that it serves want to be committed.
    pub(super) fn begin_checkpoint(&mut self, now: Duration) -> Vec<Option<RelationId>> {
        let ready = self.flushes.iter_mut().filter(|flush| matches!(flush.stage, Stage::Ready));
        let taken = ready.map(|flush| {
            flush.enter(Stage::Checkpoint, now);
            flush.scope.only
        });
        taken.collect()
    }

    /// Checkpoint `through` is durable. Each flush waits for its sinks among those that are
    /// `lacking` a commit.
    pub(super) fn begin_commits(
        &mut self,
        through: CheckpointNumber,
        lacking: impl Fn(Option<RelationId>) -> BTreeSet<RelationId>,
        now: Duration,
    ) {
        for flush in &mut self.flushes {
            if matches!(flush.stage, Stage::Checkpoint) {
                let sinks = lacking(flush.scope.only);
                flush.enter(Stage::Committing { through, sinks }, now);
            }
        }
    }

    /// A sink has committed everything up to `checkpoint`; without an outcome there was nothing
    /// that had to be made visible.
    pub(super) fn committed(
        &mut self,
        relation: RelationId,
        checkpoint: CheckpointNumber,
        outcome: Option<&CommitOutcome>,
        now: Duration,
    ) {
        for flush in &mut self.flushes {
            if let Stage::Committing { through, sinks } = &mut flush.stage
                && *through <= checkpoint
                && sinks.remove(&relation)
            {
                flush.since = now;
                if let Some(CommitOutcome::Committed { snapshot }) = outcome {
                    flush.done.snapshot = Some(snapshot.clone());
                }
            }
        }
    }

    /// A sink could not prepare and is tried again: those that wait for its commit get the reason.
    pub(super) fn could_not_prepare(&mut self, relation: RelationId, reason: &str) {
        let waits = |flush: &mut Flush| match &flush.stage {
            Stage::Committing { sinks, .. } => sinks.contains(&relation),
            _ => false,
        };
        for mut flush in self.flushes.extract_if(.., waits) {
            flush.failed.push(reason.to_string());
            let error = Error { retryable: true, ..flush.failure() };
            flush.answer(Err(error));
        }
    }

    /// Answers those whose sinks have committed or failed, and those that an obstacle has kept for
    /// too long: one of `readers`, or of the `sink` that a flush asked for.
    pub(super) fn settle(
        &mut self,
        now: Duration,
        readers: impl Fn(RelationId) -> Readers,
        sink: impl Fn(RelationId) -> Option<Obstacle>,
    ) {
        let failed =
            |only| Option::and_then(only, &sink).filter(|it| matches!(it, Obstacle::Failed(_)));
        let answer = |flush: &mut Flush| {
            let out_of_reach = flush.look_at_readers(&readers, now);
            flush.leave_out_failed(&sink);
            let obstacle = match &flush.stage {
                Stage::Reading(_) => failed(flush.scope.only).or(out_of_reach),
                Stage::Ready => failed(flush.scope.only),
                Stage::Checkpoint => None,
                Stage::Committing { sinks, .. } if sinks.is_empty() => match &flush.failed[..] {
                    [] => return Some(Ok(())),
                    _ => return Some(Err(flush.failure())),
                },
                Stage::Committing { sinks, .. } => sinks.iter().find_map(|it| sink(*it)),
            };
            obstacle.and_then(|obstacle| flush.given_up(obstacle, now)).map(Err)
        };
        // Each is looked at once: a sink may begin or end its work between two looks.
        for mut flush in std::mem::take(&mut self.flushes) {
            match answer(&mut flush) {
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
