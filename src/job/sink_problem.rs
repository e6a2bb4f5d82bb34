//! [`SinkProblem`]: why a sink does not commit, and what becomes of it.

/// Why a sink has not prepared or committed.
#[derive(Debug, Clone)]
pub(super) struct SinkProblem {
    pub(super) severity: Severity,
    pub(super) error: String,
}

/// What becomes of the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// It may heal, and is tried again.
    Retried {
        /// Failures in a row.
        attempts: u32,
    },
    /// The same call will fail again: the sink is stopped. Its changes are logged on, so that the
    /// next process can continue.
    Stopped,
    /// Its changes are lost: it has failed for good.
    Lost,
}
