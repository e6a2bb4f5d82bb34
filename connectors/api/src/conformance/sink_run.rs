//! [`SinkRun`]: drives a sink as the engine does, without the engine.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::{Int64Array, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::{
    ChangeBatch, CommitMark, CommitOutcome, Committable, ConnectorError, Fence, Fragment,
    LastCommit, Result, Resume, Retry, SinkCommitter, SinkMode, SinkStatus, SinkWriter,
};

/// Calls of commit after which a sink counts as stuck.
const COMMITS_MAX: usize = 20;

/// A committer, and the writers that share the changes of the next commit.
///
/// It follows the contract and adds nothing to it: rows go to a writer by their key, a commit is
/// repeated until it is `Committed`, and nothing happens after an error but `open`.
pub struct SinkRun {
    committer: Box<dyn SinkCommitter>,
    key: Vec<usize>,
    writers_count: usize,
    writers: Vec<Box<dyn SinkWriter>>,
}

impl fmt::Debug for SinkRun {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SinkRun").field("writers", &self.writers.len()).finish_non_exhaustive()
    }
}

impl SinkRun {
    /// Drives `committer` with so many writers per commit.
    pub fn new(committer: Box<dyn SinkCommitter>, mode: &SinkMode, writers: usize) -> Self {
        let key = match mode {
            SinkMode::AppendOnly => Vec::new(),
            SinkMode::Upsert { key } => key.clone(),
        };
        Self { committer, key, writers_count: writers.max(1), writers: Vec::new() }
    }

    /// Opens the sink; writers of before are aborted.
    ///
    /// # Errors
    /// As [`SinkCommitter::open`].
    pub async fn open(&mut self, resume: &Resume) -> Result<()> {
        for writer in self.writers.drain(..) {
            writer.abort().await;
        }
        self.committer.open(resume).await
    }

    /// Writes changes, shared by key; without a key, row by row in turn.
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    pub async fn write(&mut self, changes: ChangeBatch) -> Result<()> {
        while self.writers.len() < self.writers_count {
            self.writers.push(self.committer.writer()?);
        }
        let shares = self.shares(&changes);
        for (writer, share) in self.writers.iter_mut().zip(shares) {
            writer.write(share).await?;
        }
        Ok(())
    }

    fn shares(&self, changes: &ChangeBatch) -> Vec<ChangeBatch> {
        let options = FormatOptions::default().with_null("NULL");
        let column = |at: &usize| ArrayFormatter::try_new(changes.rows().column(*at), &options);
        let key: Vec<_> =
            self.key.iter().map(|at| column(at).expect("a key column has a text")).collect();
        let share_of = |row: usize| {
            if key.is_empty() {
                return row % self.writers_count;
            }
            let mut hasher = DefaultHasher::new();
            key.iter().for_each(|column| column.value(row).to_string().hash(&mut hasher));
            hasher.finish() as usize % self.writers_count
        };
        let mut rows = vec![Vec::new(); self.writers_count];
        (0..changes.num_rows()).for_each(|row| rows[share_of(row)].push(row as u32));
        let shares = rows.into_iter().map(|rows| {
            let rows = UInt32Array::from(rows);
            let part = take_record_batch(changes.rows(), &rows).expect("rows are in the batch");
            let Some(weights) = changes.weights() else { return ChangeBatch::inserts(part) };
            let weights = take(weights, &rows, None).expect("rows are in the batch");
            let weights = Int64Array::from(weights.to_data());
            ChangeBatch::try_new(part, weights).expect("weights fit the rows")
        });
        shares.collect()
    }

    /// Ends the writers.
    ///
    /// # Errors
    /// As [`SinkWriter::finish`].
    pub async fn finish(&mut self) -> Result<Vec<Fragment>> {
        let mut fragments = Vec::new();
        for writer in std::mem::take(&mut self.writers) {
            fragments.extend(writer.finish().await?);
        }
        Ok(fragments)
    }

    /// Ends the writers and merges what they made.
    ///
    /// # Errors
    /// As [`SinkWriter::finish`] and [`SinkCommitter::merge`].
    pub async fn prepare(&mut self, mark: CommitMark) -> Result<Option<Committable>> {
        let fragments = self.finish().await?;
        self.committer.merge(mark, fragments).await
    }

    /// Aborts the writers: their changes are not to be seen.
    ///
    /// # Errors
    /// As [`SinkCommitter::abort`].
    pub async fn abort(&mut self) -> Result<()> {
        for writer in self.writers.drain(..) {
            writer.abort().await;
        }
        self.abort_merge(Vec::new()).await
    }

    /// Aborts what writers have finished.
    ///
    /// # Errors
    /// As [`SinkCommitter::abort`].
    pub async fn abort_merge(&mut self, fragments: Vec<Fragment>) -> Result<()> {
        self.committer.abort(fragments).await
    }

    /// Calls commit once.
    ///
    /// # Errors
    /// As [`SinkCommitter::commit`].
    pub async fn try_commit(&mut self, committable: &Committable) -> Result<CommitOutcome> {
        self.committer.commit(committable).await
    }

    /// Commits until the changes are visible; gives the name of the commit in the target.
    ///
    /// # Errors
    /// As [`SinkCommitter::commit`]; `Unavailable` if it has not succeeded after some calls.
    pub async fn commit(&mut self, committable: &Committable) -> Result<String> {
        let mut last = String::new();
        for _ in 0..COMMITS_MAX {
            match self.committer.commit(committable).await {
                Ok(CommitOutcome::Committed { snapshot }) => {
                    self.committer.maintain().await?;
                    return Ok(snapshot);
                }
                Ok(CommitOutcome::Conflict { reason } | CommitOutcome::Unknown { reason }) => {
                    last = reason;
                }
                Err(error) if error.retry == Retry::Backoff => last = error.to_string(),
                Err(error) => return Err(error),
            }
        }
        Err(ConnectorError::unavailable(last))
    }

    /// As [`SinkCommitter::drop_target`].
    ///
    /// # Errors
    /// As there.
    pub async fn drop_target(&mut self) -> Result<()> {
        self.committer.drop_target().await
    }

    /// As [`SinkCommitter::status`].
    pub fn status(&self) -> SinkStatus {
        self.committer.status()
    }
}

/// What a data directory knows that has this as its newest commit, prepared.
pub(super) fn prepared(committable: &Committable, fence: Fence) -> Resume {
    Resume { is_new: false, fence, last: LastCommit::Prepared(committable.clone()) }
}

/// What a data directory knows that has committed this.
pub(super) fn visible(committable: &Committable, fence: Fence) -> Resume {
    Resume { is_new: false, fence, last: LastCommit::Visible(committable.mark) }
}
