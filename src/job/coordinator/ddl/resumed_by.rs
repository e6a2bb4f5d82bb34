//! Which statement starts a failed job again: published for SHOW JOBS and for errors of reads.
//!
//! **Invariant:** it is the RESUME that the coordinator would take now, see [`super::resume`].

use std::collections::BTreeMap;

use super::resume::{Group, resume_statement};
use crate::catalog::RelationId;
use crate::checkpoint::Manifest;
use crate::error::Error;
use crate::job::coordinator::Coordinator;

/// A RESUME that would be taken.
struct Restart<'a> {
    statement: String,
    /// What it starts; `None` for a sink that an error of its target has stopped.
    group: Option<Group<'a>>,
}

impl Restart<'_> {
    /// The statement, unless it leaves a job out.
    fn of(&self, job: RelationId) -> Option<String> {
        let leaves_out = self.group.as_ref().is_some_and(|group| group.leaves_out(job));
        (!leaves_out).then(|| self.statement.clone())
    }
}

impl Coordinator {
    /// Publishes that a job has failed, with what starts it again.
    pub(in crate::job) fn set_failure(&mut self, job: RelationId, error: Error) {
        let manifest = self.checkpointer.manifest();
        let restart = self.restart(self.root(job, &manifest), &manifest);
        self.state.set_failure(job, error, restart.and_then(|restart| restart.of(job)));
        // Those that follow it, or failed before it, may be started by another statement now.
        self.failures_changed = true;
    }

    /// Publishes what starts failed jobs again, if a failure or the manifest has changed.
    pub(in crate::job) fn publish_restarts(&mut self) {
        if !std::mem::take(&mut self.failures_changed) {
            return;
        }
        let manifest = self.checkpointer.manifest();
        let mut restarts = BTreeMap::new();
        let failed = self.state.failed();
        self.has_failures = !failed.is_empty();
        for job in failed {
            let root = self.root(job, &manifest);
            let restart = restarts.entry(root).or_insert_with(|| self.restart(root, &manifest));
            let statement = restart.as_ref().and_then(|restart| restart.of(job));
            self.state.set_resumed_by(job, statement);
        }
    }

    /// The first job that has failed among those that a failed one follows; itself if none has.
    fn root(&self, job: RelationId, manifest: &Manifest) -> RelationId {
        let mut root = job;
        while let Some(plan) = self.planned.get(&root).and_then(|checked| checked.fragment()) {
            match self.failed_among(&self.inputs(plan), manifest) {
                Some(input) => root = input.id,
                None => break,
            }
        }
        root
    }

    /// RESUME of a job that reads no failed one, unless it would be refused.
    fn restart<'a>(&self, root: RelationId, manifest: &'a Manifest) -> Option<Restart<'a>> {
        let statement = resume_statement(self.catalog.by_id(root)?);
        if !manifest.failed.contains_key(&root) {
            let is_stopped = self.sinks.is_stopped(root);
            return is_stopped.then_some(Restart { statement, group: None });
        }
        let group = self.group(root, manifest).ok()?;
        Some(Restart { statement, group: Some(group) })
    }
}
