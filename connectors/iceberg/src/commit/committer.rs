//! [`Committer`]: makes a committable visible, once, whatever the catalog answers.
//!
//! ```text
//! ┌─► load ─► the table's last commit of the sink ─ newer fence, or unknown ─► error
//! │             │ the one before       └─ this one ─► done
//! │             ▼
//! │           stage on that same metadata ─► swap ─ok─► done
//! └──────────── conflict, error, lost reply ◄──┘
//! ```
//!
//! **Invariant:** the table's last commit is read from the same metadata that the swap is made on,
//! so that a late or lost reply cannot make changes visible twice; see [`crate::marker`].

use std::time::Duration;

use frazil_connector_api::{CommitOutcome, Committable, ConnectorError, Result, Retry};
use iceberg::spec::TableMetadata;

use crate::catalog::{Catalog, CommitSink, LoadedTable, TableName};
use crate::committable::Payload;
use crate::error::target;
use crate::live_files::Manifests;
use crate::marker::{Standing, marker, standing};
use crate::relocate::{RowKey, as_vectors, has_old_deletes, relocated};
use crate::row_delta::{self, Staged, missing_targets, stage, telling_manifests};

const ATTEMPTS_MAX: u32 = 10;
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

const DELETE_OLD_METADATA: &str = "write.metadata.delete-after-commit.enabled";

/// The state of a table after a commit.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) outcome: CommitOutcome,
    pub(crate) table: LoadedTable,
    /// True if the table's rows may not be what the caller's index and this commit make them.
    pub(crate) foreign: bool,
}

/// Commits to one table.
pub(crate) struct Committer<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) door: &'a dyn CommitSink,
    pub(crate) table: &'a TableName,
    /// By which deletes are found again in files that another writer has rewritten.
    pub(crate) key: RowKey,
}

impl Committer<'_> {
    /// Commits; `known` is the snapshot that the caller's index was built on, if it has one.
    ///
    /// # Errors
    /// `Fenced` if a newer process has committed; `Target` if the table does not take the files;
    /// `Unavailable` if the catalog stays out of reach or busy.
    pub(crate) async fn commit(
        &self,
        committable: &Committable,
        known: Option<Option<i64>>,
        manifests: &mut Manifests,
    ) -> Result<Landed> {
        let payload = Payload::parse(committable)?;
        let mut staged_before = false;
        let mut last: Option<ConnectorError> = None;
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                tokio::time::sleep((PAUSE_MIN * 2_u32.pow(attempt - 1)).min(PAUSE_MAX)).await;
            }
            let base = match self.load().await {
                Ok(base) => base,
                Err(error) if error.retry == Retry::Backoff => {
                    last = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Payload { sink_id, previous, .. } = payload;
            let standing =
                standing(self.table, &base.metadata, sink_id, previous, &committable.mark)?;
            if standing == Standing::Visible {
                let foreign = is_foreign(&base.metadata, payload.snapshot_id, known);
                let outcome = match staged_before {
                    true => committed(&payload),
                    false => CommitOutcome::AlreadyVisible,
                };
                return Ok(Landed { outcome, table: base, foreign });
            }
            match self.attempt(&base, &payload, committable, manifests).await {
                Ok(Some(table)) => {
                    let foreign = is_foreign(&table.metadata, payload.snapshot_id, known);
                    return Ok(Landed { outcome: committed(&payload), table, foreign });
                }
                Ok(None) => last = None,
                Err(error) if error.retry == Retry::Backoff => last = Some(error),
                Err(error) => return Err(error),
            }
            staged_before = true;
        }
        let message = format!("cannot commit to table \"{}\"", self.table);
        Err(match last {
            Some(cause) => ConnectorError::unavailable(message).with_source(cause),
            None => ConnectorError::unavailable(format!("{message}: others commit all the time")),
        })
    }

    async fn load(&self) -> Result<LoadedTable> {
        self.catalog.load(self.table).await?.ok_or_else(|| {
            target(format!("table \"{}\" does not exist any more", self.table))
                .with_hint("drop the sink and create it again")
        })
    }

    /// Stages and swaps once; `None` if someone else was faster. Nothing is taken for granted of
    /// the table: others may have rewritten, upgraded or compacted it since the files were written.
    async fn attempt(
        &self,
        base: &LoadedTable,
        payload: &Payload,
        committable: &Committable,
        manifests: &mut Manifests,
    ) -> Result<Option<LoadedTable>> {
        let marker = marker(payload.sink_id, payload.snapshot_id, &committable.mark);
        let io = self.catalog.io();
        let list = telling_manifests(io, &base.metadata).await?;
        let mut delta = payload.delta(&base.metadata)?;
        if has_old_deletes(&base.metadata, &delta) {
            delta = as_vectors(io, &base.metadata, delta, manifests).await?;
        }
        let gone = missing_targets(io, &list, &delta, manifests).await?;
        if !gone.is_empty() {
            delta = relocated(io, &base.metadata, &self.key, delta, &gone, manifests).await?;
        }
        let staged = stage(io, base, list, delta, &marker, manifests).await?;
        let moved = self.door.swap(self.table, &base.location, &staged.table.location).await?;
        if !moved {
            row_delta::remove_files(io, &staged.files).await;
            return Ok(None);
        }
        let Staged { table, manifests: list, expired, superseded, data, .. } = staged;
        row_delta::remove_files(io, &superseded).await;
        manifests.add_home(data);
        let wanted = table.metadata.properties().get(DELETE_OLD_METADATA);
        if wanted.is_some_and(|value| value == "true") {
            row_delta::remove_files(io, &expired).await;
        }
        manifests.keep(&list, iceberg::spec::ManifestContentType::Deletes);
        Ok(Some(table))
    }
}

/// False if the newest snapshot is `known`, on which the caller's index was built, or `ours` right
/// on top of it. The table itself tells it, so that no attempt has to remember what another found.
fn is_foreign(metadata: &TableMetadata, ours: i64, known: Option<Option<i64>>) -> bool {
    let Some(known) = known else { return true };
    match metadata.current_snapshot() {
        Some(newest) if known == Some(newest.snapshot_id()) => false,
        Some(newest) if newest.snapshot_id() == ours => newest.parent_snapshot_id() != known,
        _ => true,
    }
}

fn committed(payload: &Payload) -> CommitOutcome {
    CommitOutcome::Committed { snapshot: payload.snapshot_id.to_string() }
}
