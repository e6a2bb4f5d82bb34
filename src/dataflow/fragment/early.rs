//! [`EarlyState`]: state that a new fragment has written before a checkpoint takes it.
//!
//! ```text
//! operators ─ deposits ─► under way (tokio) ─► segments, oldest first ─► the first checkpoint
//!                                   └ the fragment fails or goes before that: removed
//! ```
//!
//! **Invariant:** no manifest names an object of it before [`EarlyState::take`]. What is not taken
//! is removed when it is dropped; what a crash leaves is removed by the next start.

use std::collections::{BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::sync::oneshot;

use crate::catalog::RelationId;
use crate::dataflow::context::{FragmentContext, OperatorDelta};
use crate::dataflow::segments::{self, Written};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::state::SegmentRef;

/// What one worker has written of a fragment's state; see the module.
pub(crate) struct EarlyState {
    context: FragmentContext,
    env: Env,
    tokio: tokio::runtime::Handle,
    parts: EarlyParts,
}

/// Segments of a fragment, oldest first, and then those whose writes are under way.
#[derive(Debug, Default)]
pub(crate) struct EarlyParts {
    segments: Vec<SegmentRef>,
    writes: VecDeque<Write>,
}

/// A write under way.
#[derive(Debug)]
struct Write {
    bytes: usize,
    outcome: oneshot::Receiver<Result<Written>>,
}

impl EarlyState {
    /// Nothing is written yet.
    pub(crate) fn new(context: FragmentContext, env: &Env, tokio: &tokio::runtime::Handle) -> Self {
        let (env, tokio) = (env.clone(), tokio.clone());
        Self { context, env, tokio, parts: EarlyParts::default() }
    }

    /// Writes deposits of the fragment beside the worker, whose thread is woken afterwards.
    pub(super) fn write(&mut self, worker: usize, deltas: Vec<OperatorDelta>) {
        let bytes = deltas.iter().map(|it| it.delta.bytes()).sum();
        let (env, thread) = (self.env.clone(), std::thread::current());
        let (done, outcome) = oneshot::channel();
        let epoch = self.context.start_epoch();
        self.parts.writes.push_back(Write { bytes, outcome });
        self.tokio.spawn(async move {
            let write = AssertUnwindSafe(segments::write(&env, worker, epoch, deltas));
            let written = write.catch_unwind().await;
            let written =
                written.unwrap_or_else(|panic| Err(Error::panicked("early state", panic.as_ref())));
            if written.is_ok() {
                env.reach("fragment.early_written");
            }
            let _ = done.send(written);
            thread.unpark();
        });
    }

    /// Takes note of writes that have ended. A write that failed fails the fragment: nothing of it
    /// is promised.
    pub(super) fn note_written(&mut self) {
        while let Some(Write { bytes, outcome }) = self.parts.writes.front_mut() {
            let outcome = match outcome.try_recv() {
                Ok(outcome) => outcome,
                Err(oneshot::error::TryRecvError::Empty) => break,
                Err(oneshot::error::TryRecvError::Closed) => Err(stopped()),
            };
            self.context.early_written(*bytes);
            self.parts.writes.pop_front();
            if let Some(error) = self.parts.add(outcome) {
                self.context.fail(error.within("state could not be written"));
            }
        }
    }

    /// True if a write is under way.
    pub(crate) fn is_writing(&self) -> bool {
        !self.parts.writes.is_empty()
    }

    /// Takes all for a checkpoint.
    pub(crate) fn take(&mut self) -> EarlyParts {
        std::mem::take(&mut self.parts)
    }

    /// Removes all, beside the worker.
    pub(crate) fn remove(&mut self) {
        let parts = self.take();
        if parts.is_empty() {
            return;
        }
        let env = self.env.clone();
        self.tokio.spawn(async move {
            let (segments, _) = parts.finish().await;
            let objects: BTreeSet<String> = segments.into_iter().map(|it| it.object).collect();
            env.remove(objects).await;
        });
    }
}

impl Drop for EarlyState {
    fn drop(&mut self) {
        self.remove();
    }
}

impl EarlyParts {
    /// True if nothing is written or under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.writes.is_empty()
    }

    /// Waits for the writes under way of some relations; gives all that is written.
    pub(crate) async fn finish_all(all: Vec<(RelationId, Self)>) -> Written {
        let mut written = Written::default();
        for (relation, parts) in all {
            let (segments, failure) = parts.finish().await;
            written.stored.segments.extend(segments);
            written.failures.extend(failure.map(|error| (relation, error)));
        }
        written
    }

    /// Waits for the writes under way; gives all segments, oldest first, and an error if the state
    /// is not whole.
    pub(crate) async fn finish(mut self) -> (Vec<SegmentRef>, Option<Error>) {
        let mut failure = None;
        while let Some(Write { outcome, .. }) = self.writes.pop_front() {
            let outcome = outcome.await.unwrap_or_else(|_| Err(stopped()));
            let error = self.add(outcome);
            failure = failure.or(error);
        }
        (self.segments, failure)
    }

    /// Adds the outcome of a write; gives the error of one that failed.
    fn add(&mut self, outcome: Result<Written>) -> Option<Error> {
        match outcome {
            Ok(Written { stored, failures }) => {
                self.segments.extend(stored.segments);
                failures.into_iter().next().map(|(_, error): (RelationId, _)| error)
            }
            Err(error) => Some(error),
        }
    }
}

impl Written {
    /// This, and what was written of newer deltas: of each table it is older.
    pub(crate) fn followed_by(mut self, newer: Self) -> Self {
        self.stored.segments.extend(newer.stored.segments);
        self.failures.extend(newer.failures);
        self
    }
}

/// The runtime has ended before a write.
fn stopped() -> Error {
    Error::internal("a write of early state was given up")
}
