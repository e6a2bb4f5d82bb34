//! [`Committer`]: makes a committable visible, once, whatever the catalog answers.
//!
//! ```text
//! ┌─► load ─► visible? ─yes─► done
//! │             │ no ─► fenced? ─yes─► error
//! │             ▼ no
//! │           stage on that same metadata ─► swap ─ok─► done
//! └──────────── conflict, error, lost reply ◄──┘
//! ```
//!
//! **Invariant:** "is it visible?" is asked of the same metadata that the swap is made on,
//! so that a late or lost reply cannot make changes visible twice. The answer is in a table
//! property, which outlives snapshots that are expired or compacted away.

use std::collections::HashMap;
use std::time::Duration;

use frazil_connector_api::{
    CommitOutcome, Committable, ConnectorError, ConnectorErrorKind, Result, Retry,
};
use iceberg::spec::TableMetadata;
use uuid::Uuid;

use crate::catalog::{Catalog, CommitSink, LoadedTable, TableName};
use crate::committable::Payload;
use crate::error::target;
use crate::live_files::Manifests;
use crate::relocate::{RowKey, relocated};
use crate::row_delta::{self, Marker, Staged, missing_targets, stage};

const ATTEMPTS_MAX: u32 = 10;
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

const DELETE_OLD_METADATA: &str = "write.metadata.delete-after-commit.enabled";

/// The state of a table after a commit.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) outcome: CommitOutcome,
    pub(crate) table: LoadedTable,
    /// Whether the table has changes that neither this commit nor the caller knows.
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

/// Names of the properties that mark a sink's commits.
struct Names {
    checkpoint: String,
    fence: String,
}

impl Names {
    fn new(sink_id: Uuid) -> Self {
        Self {
            checkpoint: format!("frazil.{sink_id}.checkpoint"),
            fence: format!("frazil.{sink_id}.fence"),
        }
    }
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
            let found = base.metadata.current_snapshot_id();
            if is_visible(&base.metadata, &payload, committable)? {
                let foreign = found != Some(payload.snapshot_id) && known != Some(found);
                let outcome = match staged_before {
                    true => committed(&payload),
                    false => CommitOutcome::AlreadyVisible,
                };
                return Ok(Landed { outcome, table: base, foreign });
            }
            check_fence(&base.metadata, &payload, committable)?;
            let foreign = known != Some(found);
            match self.attempt(&base, &payload, committable, manifests, foreign).await {
                Ok(Some(table)) => {
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

    /// Stages and swaps once; `None` if someone else was faster. `verify` says that others may have
    /// changed the table since the files were written.
    async fn attempt(
        &self,
        base: &LoadedTable,
        payload: &Payload,
        committable: &Committable,
        manifests: &mut Manifests,
        verify: bool,
    ) -> Result<Option<LoadedTable>> {
        let mut delta = payload.delta(&base.metadata)?;
        let marker = marker(payload, committable);
        let io = self.catalog.io();
        if verify {
            let gone = missing_targets(io, &base.metadata, &delta, manifests).await?;
            if !gone.is_empty() {
                delta = relocated(io, &base.metadata, &self.key, delta, &gone, manifests).await?;
            }
        }
        let staged = stage(io, base, delta, &marker, manifests).await?;
        let moved = self.door.swap(self.table, &base.location, &staged.table.location).await?;
        if !moved {
            row_delta::remove_files(io, &staged.files).await;
            return Ok(None);
        }
        let Staged { table, manifests: list, expired, .. } = staged;
        let wanted = table.metadata.properties().get(DELETE_OLD_METADATA);
        if wanted.is_some_and(|value| value == "true") {
            row_delta::remove_files(io, &expired).await;
        }
        manifests.keep(&list, iceberg::spec::ManifestContentType::Deletes);
        Ok(Some(table))
    }
}

fn committed(payload: &Payload) -> CommitOutcome {
    CommitOutcome::Committed { snapshot: payload.snapshot_id.to_string() }
}

fn number(metadata: &TableMetadata, name: &str) -> Result<Option<u64>> {
    let Some(value) = metadata.properties().get(name) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| row_delta::bad_property(name, value))
}

fn is_visible(
    metadata: &TableMetadata,
    payload: &Payload,
    committable: &Committable,
) -> Result<bool> {
    let name = Names::new(payload.sink_id).checkpoint;
    let visible = number(metadata, &name)?.is_some_and(|done| done >= committable.checkpoint);
    Ok(visible || metadata.snapshot_by_id(payload.snapshot_id).is_some())
}

fn check_fence(
    metadata: &TableMetadata,
    payload: &Payload,
    committable: &Committable,
) -> Result<()> {
    match number(metadata, &Names::new(payload.sink_id).fence)? {
        Some(fence) if fence > committable.fence => Err(ConnectorError::new(
            ConnectorErrorKind::Fenced,
            format!(
                "a newer process (fence {fence}) writes the sink; this one has fence {}",
                committable.fence
            ),
        )),
        _ => Ok(()),
    }
}

fn marker(payload: &Payload, committable: &Committable) -> Marker {
    let names = Names::new(payload.sink_id);
    let checkpoint = committable.checkpoint.to_string();
    let fence = committable.fence.to_string();
    Marker {
        snapshot_id: payload.snapshot_id,
        summary: HashMap::from([
            ("frazil.sink-id".to_string(), payload.sink_id.to_string()),
            ("frazil.checkpoint".to_string(), checkpoint.clone()),
            ("frazil.fence".to_string(), fence.clone()),
        ]),
        properties: HashMap::from([(names.checkpoint, checkpoint), (names.fence, fence)]),
    }
}
