//! [`Writers`]: the writers of one cut, which encode beside each other.

use std::any::Any;

use frazil_connector_api::{
    ChangeBatch, ConnectorError, Fragment, Result, SinkCommitter, SinkWriter,
};
use futures::future::join_all;

use crate::change::{batch_bytes, partition_by_key};
use crate::functions::in_target_types;

/// A cut gets one more writer for so many bytes: a small one makes no more files than it must.
const WRITER_BYTES: usize = if cfg!(test) { 256 } else { 8 << 20 };

/// The most writers of a cut; as many as there are cores, if those are fewer.
const WRITERS_MAX: usize = 16;

/// The writers of one cut.
///
/// Each has a thread while it encodes. Rows are shared by the hash of the sink's key, so that all
/// changes of a key come to one writer in their order; without a key, in runs of rows.
pub(super) struct Writers<'a> {
    key: &'a [usize],
    writers: Vec<Box<dyn SinkWriter>>,
}

/// Changes with their rows in the types that the connector was built for.
fn in_types_of_target(changes: ChangeBatch) -> Result<ChangeBatch> {
    let rows = in_target_types(changes.rows())?;
    match changes.weights() {
        Some(weights) => ChangeBatch::try_new(rows, weights.clone()),
        None => Ok(ChangeBatch::inserts(rows)),
    }
}

impl<'a> Writers<'a> {
    /// For a cut of so many bytes.
    ///
    /// # Errors
    /// What the sink says.
    pub(super) fn new(
        sink: &mut dyn SinkCommitter,
        key: &'a [usize],
        bytes: usize,
    ) -> Result<Self> {
        let cores = match cfg!(test) {
            true => 3,
            false => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        };
        let count = (bytes / WRITER_BYTES).clamp(1, cores.min(WRITERS_MAX));
        let writers = (0..count).map(|_| sink.writer()).collect::<Result<_>>()?;
        Ok(Self { key, writers })
    }

    /// Bytes of the copies that [`Writers::write`] makes: shares by key are copies, runs are not.
    pub(super) fn copied_bytes(&self, changes: &ChangeBatch) -> usize {
        match self.writers.len() > 1 && !self.key.is_empty() {
            true => batch_bytes(changes.rows()),
            false => 0,
        }
    }

    /// Has the writers encode net changes.
    ///
    /// # Errors
    /// The first error of a writer; a panic is one.
    pub(super) async fn write(&mut self, changes: ChangeBatch) -> Result<()> {
        let shares = self.shares(changes)?;
        let writers = std::mem::take(&mut self.writers);
        let work = writers.into_iter().zip(shares).map(|(mut writer, share)| {
            beside(async move {
                let written = match in_types_of_target(share) {
                    Ok(share) => writer.write(share).await,
                    Err(error) => Err(error),
                };
                (writer, written)
            })
        });
        let mut outcome = Ok(());
        for ended in join_all(work.collect::<Vec<_>>()).await {
            let written = match ended {
                Ok((writer, written)) => {
                    self.writers.push(writer);
                    written
                }
                Err(panic) => Err(panic),
            };
            outcome = outcome.and(written);
        }
        outcome
    }

    fn shares(&self, changes: ChangeBatch) -> Result<Vec<ChangeBatch>> {
        let count = self.writers.len();
        if count == 1 {
            return Ok(vec![changes]);
        }
        if !self.key.is_empty() {
            let shares = partition_by_key(&changes, self.key, count);
            return shares.map_err(|error| ConnectorError::internal(error.to_string()));
        }
        let bounds = (0..=count).map(|at| changes.num_rows() * at / count).collect::<Vec<_>>();
        let share = |range: &[usize]| changes.slice(range[0], range[1] - range[0]);
        Ok(bounds.windows(2).map(share).collect())
    }

    /// Ends the writers; gives what they made, and the first error.
    pub(super) async fn finish(self) -> (Vec<Fragment>, Result<()>) {
        let work = self.writers.into_iter().map(|writer| beside(writer.finish()));
        let (mut fragments, mut outcome) = (Vec::new(), Ok(()));
        for ended in join_all(work.collect::<Vec<_>>()).await {
            match ended.and_then(|finished| finished) {
                Ok(fragment) => fragments.extend(fragment),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        (fragments, outcome)
    }

    /// Ends the writers and has them remove what they made.
    pub(super) async fn abort(self) {
        let work = self.writers.into_iter().map(|writer| beside(writer.abort()));
        join_all(work.collect::<Vec<_>>()).await;
    }
}

/// Runs work of a connector on a thread where it may compute and wait for a disk.
async fn beside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let runtime = tokio::runtime::Handle::current();
    let ended = tokio::task::spawn_blocking(move || runtime.block_on(work)).await;
    ended.map_err(|error| match error.try_into_panic() {
        Ok(panic) => panicked(&*panic),
        Err(error) => ConnectorError::internal(format!("a writer's task ended early: {error}")),
    })
}

/// A panic as an error.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> ConnectorError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("no message");
    ConnectorError::internal(format!("the connector panicked: {text}"))
}
