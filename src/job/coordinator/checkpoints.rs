//! Checkpoints in the coordinator: what workers write, the manifest, what sinks do with it.
//!
//! ```text
//! ordered ─► Gathering ─ all workers ─► a manifest is written ─► durable: answers, commits
//!                     what sinks have prepared ─┘ (also without a checkpoint)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::gathering::Gathering;
use super::{Coordinator, Life};
use crate::catalog::RelationId;
use crate::dataflow::SourceOffsets;
use crate::error::{Error, ErrorKind, Result};
use crate::job::checkpointer::{Parts, WrittenManifest};
use crate::job::done::{Done, in_background};
use crate::job::sink_problem::{Severity, SinkProblem};
use crate::job::sinks::Begin;
use crate::state::StoredSegments;

impl Coordinator {
    /// A checkpoint of `epoch`, which has been ordered: takes who waits for it.
    pub(super) fn cut(&mut self, epoch: u64) -> Gathering {
        Gathering {
            epoch,
            now_ms: self.now_ms,
            workers: 0,
            stored: Vec::new(),
            offsets: SourceOffsets::new(),
            sink_changes: BTreeMap::new(),
            problem: None,
            acks: std::mem::take(&mut self.acks),
            catalog: Arc::clone(&self.stored_catalog),
            next_relation: self.catalog.next_id(),
            created: std::mem::take(&mut self.created),
        }
    }

    pub(super) fn gathered(
        &mut self,
        epoch: u64,
        outcome: Result<StoredSegments>,
        offsets: SourceOffsets,
    ) {
        let Some(gathering) = self.gathering.as_mut().filter(|at| at.epoch == epoch) else {
            return;
        };
        gathering.workers += 1;
        match outcome {
            Ok(stored) => gathering.stored.push(stored),
            Err(error) => gathering.problem = Some(error),
        }
        for (relation, sources) in offsets {
            let known = gathering.offsets.entry(relation).or_default();
            for (source, splits) in sources {
                known.entry(source).or_default().extend(splits);
            }
        }
    }

    /// Starts writing a manifest: once all workers have written their parts of a checkpoint, or if
    /// sinks have prepared something that it can name.
    pub(super) fn write_manifest(&mut self) -> Result<()> {
        if self.writing {
            return Ok(());
        }
        let complete = self.gathering.as_ref().is_some_and(|at| at.workers == self.workers);
        if !complete {
            // What a statement drops is out of the manifest as soon as it is applied.
            if self.sinks.any_prepared() && !self.is_applying() {
                self.start_writing(None);
            }
            return Ok(());
        }
        let Some(mut gathering) = self.gathering.take() else { return Ok(()) };
        if let Some(problem) = gathering.problem {
            let error = Error::new(ErrorKind::Unavailable, "a checkpoint could not be written");
            let error = error.with_detail(problem.to_string());
            let error = Error { source: Some(Box::new(problem)), ..error };
            return Err(error.with_hint("look at the data directory's disk"));
        }
        self.undo_failed(&mut gathering);
        let parts = Parts {
            epoch: gathering.epoch,
            now_ms: gathering.now_ms,
            stored: gathering.stored,
            offsets: gathering.offsets,
            catalog: gathering.catalog,
            next_relation: gathering.next_relation,
            sink_changes: gathering.sink_changes,
            acks: gathering.acks,
            created: gathering.created,
        };
        self.start_writing(Some(parts));
        Ok(())
    }

    fn start_writing(&mut self, cut: Option<Parts>) {
        self.writing = true;
        let (checkpointer, slots) = (self.checkpointer.clone(), self.sinks.slots());
        let (prepared, state) = (self.sinks.take_prepared(), Arc::clone(&self.state));
        let work = async move { checkpointer.write(cut, prepared, slots, &state).await };
        in_background(work, &self.done.0, Done::Manifest);
    }

    /// Has sinks prepare what a durable manifest has of them, but not while a checkpoint adds
    /// to it.
    pub(super) fn begin_sinks(&mut self) {
        if self.writing {
            return;
        }
        let which = Begin {
            cut_at: self.cut_at.take(),
            is_quiet: !self.has_changed() && self.gathering.is_none(),
            wanted: self.flushes.wanted(),
            all: matches!(self.life, Life::LastOrdered(..)) && self.gathering.is_none(),
        };
        let now = self.env.elapsed();
        let done = &self.done.0;
        self.sinks.begin(&which, now, &self.checkpointer, &self.env, &self.state, done);
    }

    pub(super) fn take_done(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Manifest(written) => {
                self.writing = false;
                self.take_written(written?);
            }
            Done::Prepared(_, Ok(prepared)) => self.sinks.add_prepared(prepared),
            Done::Prepared(relation, Err(problem)) => self.could_not_prepare(relation, problem),
            Done::Commit(relation, checkpoint, Ok(outcome)) => {
                self.sinks.heard(relation);
                let outcome = outcome.as_ref();
                self.flushes.committed(relation, checkpoint, outcome, self.env.elapsed());
                self.forget_settled();
            }
            Done::Recovered(relation, Ok(())) => {
                self.sinks.heard(relation);
                self.forget_settled();
            }
            // A sink's error stops that sink alone. An older process is stopped by the manifests.
            Done::Commit(relation, _, Err(error)) | Done::Recovered(relation, Err(error)) => {
                tracing::error!(%relation, %error, "sink is stopped");
                self.sinks.heard(relation);
                self.set_failure(relation, error);
                self.forget_settled();
            }
        }
        Ok(())
    }

    /// A manifest is durable: answers who waited for it, and has its sinks commit.
    fn take_written(&mut self, written: WrittenManifest) {
        for ack in written.acks {
            let _ = ack.send(Ok(()));
        }
        self.answer_created(written.created);
        self.failures_changed |= self.has_failures;
        for sink in written.settled {
            self.sinks.heard(sink);
        }
        for (slot, sink, committable) in written.commits {
            self.sinks.commit(slot, sink, committable, &self.env, &self.state, &self.done.0);
        }
        if written.is_cut {
            self.cut_at = Some(self.checkpoint_at);
            let (state, sinks) = (&self.state, &self.sinks);
            let lacking = |only| sinks.lacking(only, written.checkpoint, state);
            self.flushes.begin_commits(written.checkpoint, lacking, self.env.elapsed());
        }
        self.forget_settled();
    }

    /// A sink could not prepare: it is tried again after a pause, or is stopped.
    fn could_not_prepare(&mut self, relation: RelationId, problem: SinkProblem) {
        self.sinks.prepare_failed(relation);
        let SinkProblem { severity, error } = problem;
        let catalog = self.state.catalog();
        let Some(sink) = catalog.by_id(relation) else { return };
        tracing::warn!(sink = sink.name, error, "sink could not prepare");
        match severity {
            Severity::Retried { attempts } => {
                let reason = format!("{} \"{}\": {error}", sink.definition.noun(), sink.name);
                self.flushes.could_not_prepare(relation, &reason);
                self.state.set_problem(relation, Some((attempts, error)));
            }
            Severity::Stopped | Severity::Lost => {
                self.set_failure(relation, Error::new(ErrorKind::JobFailed, error));
            }
        }
    }

    /// No flush waits for sinks that have nothing more to commit. One that has failed may lack what
    /// is not in its log: a flush tells that it has.
    fn forget_settled(&mut self) {
        let checkpoint = self.checkpointer.sequence();
        for sink in self.flushes.wanted() {
            let is_settled = !self.sinks.is_working(sink) && !self.sinks.lacks(sink, checkpoint);
            if is_settled && self.state.failure(sink).is_none() {
                self.flushes.committed(sink, checkpoint, None, self.env.elapsed());
            }
        }
    }
}
