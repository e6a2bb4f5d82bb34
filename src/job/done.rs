//! [`Done`]: work beside the coordinator, and what it hears of it.

use frazil_connector_api::{CheckpointNumber, CommitOutcome};
use tokio::sync::mpsc::UnboundedSender;

use super::checkpointer::WrittenManifest;
use super::sink_problem::{Severity, SinkProblem};
use super::sink_slot::Prepared;
use super::uncancelled::uncancelled;
use crate::catalog::RelationId;
use crate::error::{Error, Result};

/// What the coordinator's own tasks tell it.
pub(super) enum Done {
    /// A manifest is durable, or will never be.
    Manifest(Result<WrittenManifest>),
    /// A sink has prepared all changes that it began with, or has failed.
    Prepared(RelationId, std::result::Result<Prepared, SinkProblem>),
    /// A sink has committed all changes up to a checkpoint, or was dropped meanwhile (`None`), or
    /// is stopped by an error.
    Commit(RelationId, CheckpointNumber, Result<Option<CommitOutcome>>),
    /// A sink is opened and has committed what the last process left, or is stopped by an error.
    Recovered(RelationId, Result<()>),
}

/// Does work as a task of its own and has the coordinator hear of its outcome, also if it panics.
pub(super) fn in_background<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
    done: &UnboundedSender<Done>,
    outcome: impl FnOnce(Result<T>) -> Done + Send + 'static,
) {
    let done = done.clone();
    tokio::spawn(async move {
        let _ = done.send(outcome(uncancelled(work).await));
    });
}

/// As [`in_background`], of a sink's work: on a thread where it may compute and wait for a disk.
pub(super) fn on_own_thread<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
    done: &UnboundedSender<Done>,
    outcome: impl FnOnce(Result<T>) -> Done + Send + 'static,
) {
    let runtime = tokio::runtime::Handle::current();
    let work = tokio::task::spawn_blocking(move || runtime.block_on(work));
    let work = async move {
        work.await
            .map_err(|error| Error::internal(format!("a sink's task ended early: {error}")))?
    };
    in_background(work, done, outcome);
}

/// A sink whose task has panicked outside of the connector.
pub(super) fn lost(error: &Error) -> SinkProblem {
    SinkProblem { severity: Severity::Stopped, error: error.to_string() }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_told() {
        let (done, mut told) = mpsc::unbounded_channel();
        let work = async { panic!("a fault of ours") };
        in_background::<()>(work, &done, |outcome| Done::Recovered(RelationId(1), outcome));
        let Some(Done::Recovered(_, Err(error))) = told.recv().await else { panic!("nothing") };
        assert!(error.message.contains("ended early"), "{error}");
    }
}
