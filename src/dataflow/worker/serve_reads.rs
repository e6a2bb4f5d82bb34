//! How a worker serves reads: process 0 asks, the worker that has the rows answers.

use std::sync::Arc;

use super::{Finished, Worker};
use crate::dataflow::reads::{RowsChunk, RowsRequest};
use crate::error::{Result, caught};

impl Worker {
    /// Sends an answer to process 0.
    pub(super) fn answer(&mut self, number: u64, answer: Result<RowsChunk>) {
        if let Some(reads) = &mut self.reads {
            reads.answers.send((number, answer));
            reads.answers.flush();
        }
    }

    /// Passes requests of process 0 on, and has those answered that are for this worker; true if
    /// there were any.
    pub(super) fn serve_reads(&mut self) -> bool {
        let Some(reads) = &mut self.reads else { return false };
        let mut busy = false;
        if let Some(rows) = self.shared.remote_rows.as_ref().filter(|_| self.index == 0) {
            for (worker, number, request) in rows.take_asked() {
                reads.requests.send((worker as u64, number, request));
                busy = true;
            }
            if busy {
                reads.requests.flush();
            }
        }
        let asked: Vec<_> = reads.inbox.borrow_mut().drain(..).collect();
        busy |= !asked.is_empty();
        for (number, request) in asked {
            self.answer_beside(number, request);
        }
        busy
    }

    /// Answers on a thread of its own: to index rows for the first lookup takes long.
    fn answer_beside(&self, number: u64, request: RowsRequest) {
        let (shared, worker) = (Arc::clone(&self.shared), self.index);
        let (finished, thread) = (self.finished.0.clone(), std::thread::current());
        self.shared.tokio.spawn_blocking(move || {
            let answer = caught("a read", || request.answer(&shared.snapshots, worker));
            // The worker ends only when the engine does.
            let _ = finished.send(Finished::Read { number, answer });
            thread.unpark();
        });
    }
}
