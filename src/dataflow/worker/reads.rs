//! The dataflow by which process 0 reads rows of other processes: requests there, answers back.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Exchange, Inspect};

use super::{Feed, Finished, ProcessShared, Worker};
use crate::dataflow::reads::{RowsChunk, RowsRequest};
use crate::error::{Result, caught};

/// Requests of process 0 and the answers, with the number of the request.
pub(super) struct Reads {
    /// What worker 0 asks, with the worker that is asked.
    requests: Feed<(u64, u64, RowsRequest)>,
    /// What this worker was asked.
    inbox: Rc<RefCell<VecDeque<(u64, RowsRequest)>>>,
    answers: Feed<(u64, Result<RowsChunk>)>,
}

impl Reads {
    /// Builds the dataflow; alike on all workers. One process needs none.
    pub(super) fn start(
        timely: &mut timely::worker::Worker,
        shared: &Arc<ProcessShared>,
    ) -> Option<Self> {
        if timely.peers() == shared.threads {
            return None;
        }
        let inbox = Rc::<RefCell<VecDeque<_>>>::default();
        let (mut requests, mut answers) = (Feed::new(), Feed::new());
        timely.dataflow_named("Reads", |scope| {
            let received = Rc::clone(&inbox);
            // As in the control dataflow, an operator behind the input flushes at once.
            requests
                .to_stream(scope)
                .map(|request: (u64, u64, RowsRequest)| request)
                .exchange(|(worker, _, _)| *worker)
                .inspect(move |(_, number, request)| {
                    received.borrow_mut().push_back((*number, request.clone()));
                });
            let rows = shared.remote_rows.clone();
            answers
                .to_stream(scope)
                .map(|answer: (u64, Result<RowsChunk>)| answer)
                .exchange(|_| 0)
                .inspect(move |(number, answer)| {
                    if let Some(rows) = &rows {
                        rows.answer(*number, answer.clone());
                    }
                });
        });
        Some(Self { requests, inbox, answers })
    }
}

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
