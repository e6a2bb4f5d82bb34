//! [`uncancelled`]: a step that is not left half done.

use crate::error::{Error, Result};

/// Runs a step to its end also if nobody waits for it any more: a client that cancels gives up the
/// answer, not the locks that keep others from what is half done.
///
/// # Errors
/// What the step says; `Internal` if it panics.
pub async fn uncancelled<T: Send + 'static>(
    step: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let done = tokio::spawn(step).await;
    done.map_err(|error| Error::internal(format!("a statement ended early: {error}")))?
}
