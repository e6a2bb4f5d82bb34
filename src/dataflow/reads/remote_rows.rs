//! [`RemoteRows`]: asks workers of other processes for rows.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use tokio::sync::oneshot;

use super::{RowsChunk, RowsRequest};
use crate::error::{Error, ErrorKind, Result};

/// Asks workers of other processes for rows, on behalf of the sessions of process 0.
#[derive(Debug)]
pub struct RemoteRows {
    /// Workers of all processes.
    workers: usize,
    /// Worker 0's thread, which passes requests on.
    thread: OnceLock<Thread>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Number of the last request.
    last: u64,
    /// Requests that worker 0 has not taken: the worker, and what it is asked.
    asked: Vec<(usize, u64, RowsRequest)>,
    /// Requests without an answer.
    waiting: HashMap<u64, oneshot::Sender<Result<RowsChunk>>>,
    is_closed: bool,
}

/// A request that is forgotten when this is dropped: a statement has been cancelled.
struct Asked<'a> {
    rows: &'a RemoteRows,
    number: u64,
}

impl RemoteRows {
    /// For a cluster of so many workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, thread: OnceLock::new(), inner: Mutex::default() }
    }

    /// Worker 0 is this thread.
    pub fn start(&self, thread: Thread) {
        let _ = self.thread.set(thread);
    }

    /// Number of workers of all processes.
    pub fn workers(&self) -> usize {
        self.workers
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a worker; nothing is left of the request if this is given up.
    ///
    /// # Errors
    /// What the worker says; `Shutdown` when the workers end.
    pub(crate) async fn ask(&self, worker: usize, request: RowsRequest) -> Result<RowsChunk> {
        let (reply, answer) = oneshot::channel();
        let asked = {
            let mut inner = self.lock();
            if inner.is_closed {
                return Err(gone());
            }
            inner.last += 1;
            let number = inner.last;
            inner.asked.push((worker, number, request));
            inner.waiting.insert(number, reply);
            Asked { rows: self, number }
        };
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        let answered = answer.await;
        drop(asked);
        answered.map_err(|_| gone())?
    }

    /// Number of requests so far.
    #[cfg(test)]
    pub(crate) fn asked_count(&self) -> u64 {
        self.lock().last
    }

    /// Requests to pass on: the worker, and the number of the request.
    pub(crate) fn take_asked(&self) -> Vec<(usize, u64, RowsRequest)> {
        std::mem::take(&mut self.lock().asked)
    }

    /// An answer has come.
    pub(crate) fn answer(&self, number: u64, answer: Result<RowsChunk>) {
        if let Some(reply) = self.lock().waiting.remove(&number) {
            // The statement may be given up at this moment.
            let _ = reply.send(answer);
        }
    }

    /// No answer comes any more.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.asked.clear();
        inner.waiting.clear();
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut inner = self.rows.lock();
        inner.waiting.remove(&self.number);
        inner.asked.retain(|(_, number, _)| *number != self.number);
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Shutdown, "the engine is going down")
}
