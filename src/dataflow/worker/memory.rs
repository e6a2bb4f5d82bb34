//! The memory of a worker: charged to the account, bounded by its limits.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use crate::catalog::{Definition, RelationId};
use crate::error::Error;

/// Shortest time between two looks at the memory.
const INTERVAL: Duration = Duration::from_millis(5);

impl Worker {
    /// Charges what the fragments hold. If that is too much for long, jobs fail.
    pub(super) fn account_memory(&mut self) {
        let now = self.shared.env.elapsed();
        if now.saturating_sub(self.accounted_at) < INTERVAL {
            return;
        }
        self.accounted_at = now;
        self.fragments.values_mut().for_each(|fragment| fragment.charge());
        let memory = Arc::clone(&self.shared.memory);
        let chosen = memory.to_fail(self.failed_for_memory, now);
        self.failed_for_memory += chosen.len();
        for relation in chosen {
            self.fail_with_dependents(relation, memory.exceeded("the job is out of memory"));
        }
    }

    /// True if a source must wait: memory is short, and what is under way will free some. Without
    /// that a batch is taken all the same, so that state that does not fit fails by name.
    pub(super) fn sources_wait_for_memory(&self) -> bool {
        let is_held = || self.fragments.values().any(|fragment| fragment.held_bytes > 0);
        self.shared.memory.surplus() > 0 && (!self.closed.is_empty() || is_held())
    }

    /// Fails a fragment, and those that read it: their state is of no use any more. The errors
    /// table stays, it may say why.
    fn fail_with_dependents(&mut self, relation: RelationId, error: Error) {
        let mut failing = vec![(relation, error)];
        while let Some((relation, error)) = failing.pop() {
            let Some(known) = self.catalog.by_id(relation).cloned() else { continue };
            let is_errors = matches!(*known.definition, Definition::Errors);
            let running = self.fragments.get(&relation).filter(|it| !it.context.has_failed());
            if is_errors || running.is_none() {
                continue;
            }
            let message = format!("\"{}\", which it reads, has failed", known.name);
            for dependent in self.catalog.dependents(relation) {
                failing.push((dependent.id, Error::job_failed(message.clone(), &error)));
            }
            self.fail(relation, error);
        }
    }
}
