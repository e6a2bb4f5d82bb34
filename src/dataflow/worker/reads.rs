//! The dataflow by which process 0 reads rows of other processes: requests there, answers back.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Exchange, Inspect};

use crate::dataflow::packet::Feed;
use crate::dataflow::reads::{RemoteRows, RowsChunk, RowsRequest};
use crate::error::Result;

/// Requests of process 0 and the answers, with the number of the request.
pub(super) struct Reads {
    /// What worker 0 asks, with the worker that is asked.
    pub(super) requests: Feed<(u64, u64, RowsRequest)>,
    /// What this worker was asked.
    pub(super) inbox: Rc<RefCell<VecDeque<(u64, RowsRequest)>>>,
    pub(super) answers: Feed<(u64, Result<RowsChunk>)>,
}

impl Reads {
    /// Builds the dataflow; alike on all workers. One process, with all the workers as `threads`,
    /// needs none. `rows` takes the answers in process 0.
    pub(super) fn start(
        timely: &mut timely::worker::Worker,
        threads: usize,
        rows: Option<Arc<RemoteRows>>,
    ) -> Option<Self> {
        if timely.peers() == threads {
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
