//! [`SinkCommitter`] and [`SinkWriter`]: a target that takes net changes and shows them once.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ChangeBatch, CheckpointNumber, Fence, Result};

/// What may arrive at a sink, see [`SinkWriter::write`].
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
    pub checkpoint: CheckpointNumber,
    /// The fence of the process that prepared it.
    pub fence: Fence,
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
    pub fence: Fence,
    /// The newest commit.
    pub last: LastCommit,
}

/// What a writer has made of its share of the changes: a part of a committable.
///
/// It is small and in text, so that it can travel from the writer to the committer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// The sink's own description, as JSON text.
    pub payload: String,
}

/// How a commit ended. Each outcome asks for another reaction of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The changes are visible, by this call or by an earlier one.
    Committed {
        /// The target's name for it, such as an Iceberg snapshot id.
        snapshot: String,
    },
    /// Nothing of it is visible: another writer has changed the target meanwhile. The same
    /// committable is committed again, soon.
    Conflict {
        /// What the target said.
        reason: String,
    },
    /// The request was sent, and there is no answer: the changes may be visible, or become so.
    /// Nothing of the committable may be removed. The next call looks before it sends anything.
    Unknown {
        /// Why there is no answer.
        reason: String,
    },
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

/// Makes the changes of writers visible, in two phases. There is one per sink.
///
/// ```text
/// open(resume) ─► { writer 0 ─ write* ─ finish ─┐
///                   writer 1 ─ write* ─ finish ─┴► merge(mark n) ─► [manifest n is durable]
///                   ─► commit(n), until it is Committed ─► maintain }*
/// ```
///
/// Law: after `commit(n)` the target equals the sum of all changes written up to checkpoint n,
/// however often a crash, a lost reply or a repeated call came between, and however many writers
/// shared them. `conformance::assert_exactly_once` checks it.
///
/// **Invariants:** writers are made only after `commit` of the checkpoint before is `Committed`. So
/// the target's last commit is either the one that the data directory knows as the newest, or the
/// one before it. No writer exists while the committer merges or commits.
#[async_trait]
pub trait SinkCommitter: Send {
    /// Makes the target if it is to be made, compares its last commit with what `resume` knows,
    /// commits what is prepared and not visible, and loads what writers must know. Called first,
    /// and again after any error and any [`SinkCommitter::abort`].
    ///
    /// # Errors
    /// `Config` or `Target` if the target does not fit, or has a commit that the data directory
    /// does not know; `Fenced` if that commit is of a newer process; `Unavailable` if the target is
    /// out of reach or did not take what is prepared.
    async fn open(&mut self, resume: &Resume) -> Result<()>;

    /// One more writer for the next merge.
    ///
    /// # Errors
    /// `Internal` if the sink is not open.
    fn writer(&mut self) -> Result<Box<dyn SinkWriter>>;

    /// Puts together what all writers made since the last merge, in any order, and makes it
    /// durable; `None` if there is nothing to commit. Nothing is visible yet.
    ///
    /// # Errors
    /// `Unavailable`. The caller aborts then.
    async fn merge(
        &mut self,
        mark: CommitMark,
        fragments: Vec<Fragment>,
    ) -> Result<Option<Committable>>;

    /// Tries once to make a committable visible. Calling it again, after any outcome or error or
    /// from another process, is harmless.
    ///
    /// # Errors
    /// `Fenced` if a newer process has committed; `Target` if the target has a commit that is
    /// neither this one nor the one before it; `Unavailable` if nothing was sent, since the target
    /// is out of reach.
    async fn commit(&mut self, committable: &Committable) -> Result<CommitOutcome>;

    /// Removes what fragments describe: they will not be merged, since a writer or the merge has
    /// failed. The sink is opened again before anything else.
    ///
    /// # Errors
    /// `Unavailable`: what is left is seen by nobody.
    async fn abort(&mut self, fragments: Vec<Fragment>) -> Result<()>;

    /// Removes what commits have replaced. Called after a commit; what a crash or an error leaves
    /// is seen by nobody.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn maintain(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes back a target that `open` has made and nothing was committed to: the CREATE SINK that
    /// opened the sink has failed.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn drop_target(&mut self) -> Result<()> {
        Ok(())
    }

    /// Figures.
    fn status(&self) -> SinkStatus;
}

/// Encodes one share of the changes between two commits. Writers of a sink work at the same time.
///
/// All changes of one key go to the same writer, in their order.
#[async_trait]
pub trait SinkWriter: Send {
    /// Takes changes.
    ///
    /// | mode | weight | meaning |
    /// |---|---|---|
    /// | append-only | n > 0 | n more rows like this |
    /// | upsert | +1 | this is the row of its key now, in the place of one that may be there |
    /// | upsert | -1 | its key has no row now; there may have been none |
    ///
    /// A batch for an upsert sink has each key once. Of a row with weight -1 only the columns of
    /// the key have a meaning.
    ///
    /// # Errors
    /// `Unavailable`; or `Target` if a retraction comes to an append-only sink.
    async fn write(&mut self, changes: ChangeBatch) -> Result<()>;

    /// Ends the writer and describes what it made; `None` if that is nothing.
    ///
    /// # Errors
    /// `Unavailable`; what was made is removed.
    async fn finish(self: Box<Self>) -> Result<Option<Fragment>>;

    /// Ends the writer and removes what it made, as far as that is possible.
    async fn abort(self: Box<Self>);
}
