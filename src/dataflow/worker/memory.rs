//! The memory of a worker: charged to the account, bounded by its limits.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use crate::catalog::{Definition, RelationId};
use crate::dataflow::fragment::Fragment;
use crate::env::{self, Resident};
use crate::error::{Error, caught};
use crate::state::{MemoryAccount, MovedRows, ToMove};

/// Shortest time between two looks at the memory.
const INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 5 });

/// Shortest time between two looks at what is resident of the process and of scratch files.
const RESIDENT_INTERVAL: Duration = Duration::from_millis(50);

/// Pause after the disk has refused rows.
const DISK_PAUSE: Duration = Duration::from_secs(1);

impl Worker {
    /// Charges what the fragments hold. If that is too much, rows are moved to scratch files; if it
    /// is too much for long, jobs fail.
    pub(super) fn account_memory(&mut self) {
        let now = self.shared.env.elapsed();
        if now.saturating_sub(self.accounted_at) < INTERVAL {
            return;
        }
        self.accounted_at = now;
        self.fragments.values_mut().for_each(|fragment| fragment.charge());
        let memory = Arc::clone(&self.shared.memory);
        // Not back and forth around the soft limit.
        env::return_freed_memory(memory.is_high());
        let looks = now >= self.resident_at;
        if looks {
            self.resident_at = now + RESIDENT_INTERVAL;
        }
        if looks && memory.is_high() {
            memory.note_resident(Resident::now().anonymous);
        }
        // The other workers of the process move their part.
        let to_move = memory.to_move(self.shared.threads);
        if let Some(to_move) = to_move.filter(|_| now >= self.move_at) {
            self.move_cold(&memory, to_move, now);
        }
        if let Some(scratch) = self.shared.env.scratch().filter(|_| looks) {
            scratch.trim();
        }
        let chosen = memory.to_fail(self.failed_for_memory, now);
        self.failed_for_memory += chosen.len();
        for relation in chosen {
            self.fail_with_dependents(relation, memory.exceeded("the job is out of memory"));
        }
    }

    /// Moves rows of the fragments with most bytes to scratch files, a part of what is too much.
    fn move_cold(&mut self, memory: &MemoryAccount, to_move: ToMove, now: Duration) {
        let Some(scratch) = self.shared.env.scratch().cloned() else { return };
        let ToMove { bytes: mut wanted, least } = to_move;
        let mut fragments: Vec<&mut Fragment> = self.fragments.values_mut().collect();
        fragments.sort_by_key(|fragment| std::cmp::Reverse(fragment.charged_state()));
        for fragment in fragments {
            for operator in &fragment.operators {
                let moved = caught("rows on their way to a scratch file", || {
                    operator.borrow_mut().move_cold(wanted, least, &scratch)
                });
                let moved = moved.unwrap_or_else(|error| {
                    tracing::warn!(%error, "rows cannot be moved to a scratch file");
                    self.move_at = now + DISK_PAUSE;
                    MovedRows::default()
                });
                if moved.bytes == 0 {
                    continue;
                }
                fragment.has_moved = true;
                memory.moved();
                self.shared.snapshots.follow(fragment.relation, self.index, &moved);
                wanted = wanted.saturating_sub(moved.bytes);
            }
            if wanted == 0 || self.move_at > now {
                break;
            }
        }
        self.fragments.values_mut().for_each(|fragment| fragment.charge());
    }

    /// True if a source must wait: memory is short, and what is under way will free some. Without
    /// that a batch is taken all the same, so that state that does not fit fails by name.
    pub(super) fn sources_wait_for_memory(&self) -> bool {
        self.shared.memory.surplus() > 0 && (!self.closed.is_empty() || self.held_bytes() > 0)
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
