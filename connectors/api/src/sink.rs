//! [`Sink`]: a target that takes net changes and shows them once.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

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

/// What tells one commit of a sink from all others.
///
/// Checkpoints are numbered by the data directory. If an older copy of it is put back, numbers
/// repeat and mean other changes; the random `id` never repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitMark {
    /// The checkpoint whose changes are committed; grows within a sink.
    pub checkpoint: u64,
    /// The fence of the process that prepared it.
    pub fence: u64,
    /// Random, drawn for each prepare.
    pub id: Uuid,
}

/// What a sink made durable for one checkpoint, visible to nobody yet.
///
/// It is written into the manifest, so that whoever recovers can make it visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committable {
    /// Which commit it is.
    pub mark: CommitMark,
    /// The sink's own description, as JSON text.
    pub payload: String,
}

/// The newest commit of a sink that the data directory knows of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LastCommit {
    /// There was none.
    #[default]
    None,
    /// Prepared, and not known to be visible.
    Prepared(Committable),
    /// Known to be visible.
    Visible(CommitMark),
}

impl LastCommit {
    /// Which commit it is.
    pub fn mark(&self) -> Option<CommitMark> {
        match self {
            Self::None => None,
            Self::Prepared(committable) => Some(committable.mark),
            Self::Visible(mark) => Some(*mark),
        }
    }

    /// What is still to be made visible.
    pub fn committable(&self) -> Option<&Committable> {
        match self {
            Self::Prepared(committable) => Some(committable),
            Self::None | Self::Visible(_) => None,
        }
    }
}

/// What the data directory knows of a sink when the sink is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// True at CREATE: what the options say of the target must be so. Later it may have changed.
    pub is_new: bool,
    /// The fence of this process.
    pub fence: u64,
    /// The newest commit.
    pub last: LastCommit,
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
/// open(resume) ─► { write* ─► prepare(mark n) ─► [manifest n is durable] ─► commit(n) }*
/// ```
///
/// Law: after `commit(n)` the target equals the sum of all changes written up to checkpoint n,
/// however often a crash, a lost reply or a repeated call came between.
/// **Invariant:** `prepare` of n+1 is called only after `commit` of n succeeded. So the target's
/// last commit is either the one that the data directory knows as the newest, or the one before it.
#[async_trait]
pub trait Sink: Send {
    /// Makes the target if it is to be made, compares its last commit with what `resume` knows,
    /// commits what is prepared and not visible, and loads what the writer must know. Called
    /// first, and again after any error.
    ///
    /// # Errors
    /// `Config` or `Target` if the target does not fit, or has a commit that the data directory
    /// does not know; `Fenced` if that commit is of a newer process; `Unavailable` if the target is
    /// out of reach.
    async fn open(&mut self, resume: &Resume) -> Result<()>;

    /// Takes changes, already net over the epochs between two checkpoints.
    ///
    /// # Errors
    /// `Unavailable`; or `Target` if a retraction comes to an append-only sink.
    async fn write(&mut self, changes: ChangeBatch) -> Result<()>;

    /// Makes all that was written durable; `None` if nothing was.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn prepare(&mut self, mark: CommitMark) -> Result<Option<Committable>>;

    /// Makes a committable visible. Calling it again, after an error or from another process, is
    /// harmless.
    ///
    /// # Errors
    /// `Fenced` if a newer process has committed; `Target` if the target has a commit that is
    /// neither this one nor the one before it; `Unavailable` if the outcome is unknown.
    async fn commit(&mut self, committable: &Committable) -> Result<CommitOutcome>;

    /// Takes back a target that `open` has made and nothing was committed to: the CREATE SINK that
    /// opened the sink has failed.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn undo_open(&mut self) -> Result<()> {
        Ok(())
    }

    /// Figures.
    fn status(&self) -> SinkStatus;
}
