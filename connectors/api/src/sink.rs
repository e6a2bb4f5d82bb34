//! [`Sink`]: a target that takes net changes and shows them once.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{ChangeBatch, Result};

/// What may arrive at a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SinkMode {
    /// Inserts only.
    AppendOnly,
    /// Inserts, updates and deletes by the columns with these indexes.
    Upsert {
        /// Indexes of the primary key in the sink's schema.
        key: Vec<usize>,
    },
}

/// What a sink made durable for one checkpoint, visible to nobody yet.
///
/// It is written into the manifest, so that whoever recovers can make it visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committable {
    /// The checkpoint that it belongs to; grows within a sink.
    pub checkpoint: u64,
    /// The fence of the process that made it.
    pub fence: u64,
    /// The sink's own description, as JSON text.
    pub payload: String,
}

/// What a commit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The changes are visible now.
    Committed {
        /// The target's name for it, such as an Iceberg snapshot id.
        snapshot: String,
    },
    /// They were visible before the call.
    AlreadyVisible,
}

/// Figures for `SHOW SINKS` and the progress display.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Name of the target.
    pub target: String,
    /// Where it is: sinks of one location write into one target.
    pub location: String,
    /// Last visible snapshot, if any.
    pub snapshot: Option<String>,
    /// Rows in the target, if known.
    pub row_count: Option<u64>,
    /// Memory of the sink's index in bytes.
    pub state_bytes: u64,
}

/// Writes net changes into a target, in two phases.
///
/// ```text
/// open(pending) ─► { write* ─► prepare(n) ─► [manifest n is durable] ─► commit(n) }*
/// ```
///
/// Law: after `commit(n)` the target equals the sum of all changes written up to checkpoint n,
/// however often a crash, a lost reply or a repeated call came between.
/// **Invariant:** `prepare` of n+1 is called only after `commit` of n succeeded.
#[async_trait]
pub trait Sink: Send {
    /// Makes the target if it is to be made, commits `pending` if it is not visible yet, and loads
    /// what the writer must know. Called first, and again after any error.
    ///
    /// # Errors
    /// `Config` or `Target` if the target does not fit; `Unavailable` if it is out of reach.
    async fn open(&mut self, pending: Option<&Committable>) -> Result<()>;

    /// Takes changes, already net over the epochs between two checkpoints.
    ///
    /// # Errors
    /// `Unavailable`; or `Target` if a retraction comes to an append-only sink.
    async fn write(&mut self, changes: ChangeBatch) -> Result<()>;

    /// Makes all that was written durable; `None` if nothing was.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn prepare(&mut self, checkpoint: u64, fence: u64) -> Result<Option<Committable>>;

    /// Makes a committable visible. Calling it again, or from another process, is harmless.
    ///
    /// # Errors
    /// `Fenced` if a newer process has committed; `Unavailable` if the outcome is unknown.
    async fn commit(&mut self, committable: &Committable) -> Result<CommitOutcome>;

    /// Figures.
    fn status(&self) -> SinkStatus;
}
