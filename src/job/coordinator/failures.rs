//! Failures of jobs in the coordinator.
//!
//! **Invariant:** a job that reads a failed one has failed, too, also if it was created after the
//! failure. Everything else continues.

use super::Coordinator;
use crate::catalog::{Definition, RelationId};
use crate::error::Error;
use crate::job::relation_errors::follows;

impl Coordinator {
    /// A job has failed for good; so have all that follow it.
    pub(super) fn fail(&mut self, relation: RelationId, error: Error) {
        let Some(failed) = self.catalog.by_id(relation).cloned() else {
            // It was dropped, or it is being created.
            if self.is_applying() && relation >= self.catalog.next_id() {
                self.early_failures.push((relation, error));
            }
            return;
        };
        // A sink that an error has stopped fails with its input as well, for good. What is resumed
        // is in the manifest as failed, and may fail again.
        if self.checkpointer.has_failed(relation) && self.state.failure(relation).is_some() {
            return;
        }
        tracing::error!(job = failed.name, %error, "job failed");
        self.releases.forget(relation);
        self.checkpointer.fail(relation, error.clone());
        self.set_failure(relation, error);
        self.dirty_since_checkpoint = true;
        for dependent in self.catalog.dependents(relation) {
            self.fail_with_inputs(dependent.id);
        }
    }

    /// Fails a relation if one that it reads has failed.
    pub(super) fn fail_with_inputs(&mut self, relation: RelationId) {
        let Some(relation) = self.catalog.by_id(relation).cloned() else { return };
        // The messages that a failed table could not decode may say why: they stay readable.
        if matches!(*relation.definition, Definition::Errors) {
            return;
        }
        let failed = relation.depends_on.iter().find_map(|input| {
            let error = self.state.failure(*input)?;
            Some(follows(&self.catalog.by_id(*input)?.name, &error))
        });
        if let Some(error) = failed {
            self.fail(relation.id, error);
        }
    }
}
