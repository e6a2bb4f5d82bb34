//! [`Workers`]: the worker threads of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::Result;
use crate::job::schedule::Records;

/// The worker threads of this process.
pub(in crate::job) struct Workers {
    /// Workers of all processes.
    pub(in crate::job) peers: usize,
    pub(in crate::job) pipelines: Records,
    pub(in crate::job) ended: Arc<AtomicBool>,
}

impl Workers {
    /// Waits until all threads have ended.
    pub(in crate::job) async fn wait(&self) -> Result<()> {
        while !self.ended.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}
