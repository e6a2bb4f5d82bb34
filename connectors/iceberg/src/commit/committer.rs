//! [`Committer`]: makes a committable visible, once, whatever the catalog answers.
//!
//! ```text
//! load ─► the table's last commit of the sink ─ newer fence, or unknown ─► error
//!           │ the one before       └─ this one ─► Committed
//!           ▼
//!         stage on that same metadata ─► swap ─ made ─────► Committed
//!                                         ├─ not made ────► Conflict: staged files are removed
//!                                         └─ no answer ───► Unknown: they stay
//! ```
//!
//! One call is one try; the engine calls again until it is `Committed`.
//! **Invariant:** the table's last commit is read from the same metadata that the swap is made on,
//! so that a late or lost reply cannot make changes visible twice; see [`crate::marker`].

use frazil_connector_api::{Committable, Result, Retry};
use iceberg::spec::TableMetadata;

use crate::catalog::{Catalog, CommitSink, LoadedTable};
use crate::committable::Payload;
use crate::error::target;
use crate::live_files::Manifests;
use crate::marker::{Standing, marker, standing};
use crate::relocate::{RowKey, as_vectors, has_old_deletes, relocated};
use crate::row_delta::{Staged, missing_targets, stage, telling_manifests};
use crate::table_name::TableName;
use crate::unused_files::remove_files;

const DELETE_OLD_METADATA: &str = "write.metadata.delete-after-commit.enabled";

/// How a try to commit ended.
#[derive(Debug)]
pub(crate) enum Tried {
    Landed(Landed),
    /// Another writer was faster.
    Conflict,
    /// The catalog has not answered; it may have made the swap.
    Unknown(String),
}

/// The state of a table that has a commit.
#[derive(Debug)]
pub(crate) struct Landed {
    /// The commit's snapshot.
    pub(crate) snapshot: String,
    pub(crate) table: LoadedTable,
    /// True if the table's rows may not be what the caller's index and this commit make them.
    pub(crate) foreign: bool,
    /// Files that this commit has taken the place of; nothing reads them any more.
    pub(crate) replaced: Vec<String>,
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
    /// Tries once; `known` is the snapshot that the caller's index was built on, if it has one.
    /// Nothing is taken for granted of the table: others may have rewritten, upgraded or compacted
    /// it since the files were written.
    ///
    /// # Errors
    /// `Fenced` if a newer process has committed; `Target` if the table does not take the files;
    /// `Unavailable` if the catalog or a file is out of reach: nothing is swapped then.
    pub(crate) async fn commit(
        &self,
        committable: &Committable,
        known: Option<Option<i64>>,
        manifests: &mut Manifests,
    ) -> Result<Tried> {
        let payload = Payload::parse(committable)?;
        let base = self.load().await?;
        let Payload { sink_id, previous, snapshot_id, .. } = payload;
        let landed = |table: LoadedTable, replaced| {
            let foreign = is_foreign(&table.metadata, snapshot_id, known);
            Tried::Landed(Landed { snapshot: snapshot_id.to_string(), table, foreign, replaced })
        };
        let standing = standing(self.table, &base.metadata, sink_id, previous, &committable.mark)?;
        if standing == Standing::Visible {
            return Ok(landed(base, Vec::new()));
        }
        let io = self.catalog.io();
        let staged = self.staged(&base, &payload, committable, manifests).await?;
        match self.door.swap(self.table, &base.location, &staged.table.location).await {
            Ok(true) => {}
            Ok(false) => {
                remove_files(io, &staged.files).await;
                return Ok(Tried::Conflict);
            }
            Err(error) if error.retry == Retry::Backoff => {
                return Ok(Tried::Unknown(error.to_string()));
            }
            Err(error) => return Err(error),
        }
        let Staged { table, manifests: list, expired, superseded, data, .. } = staged;
        manifests.add_home(data);
        manifests.keep(&list, iceberg::spec::ManifestContentType::Deletes);
        let mut replaced = superseded;
        let wanted = table.metadata.properties().get(DELETE_OLD_METADATA);
        if wanted.is_some_and(|value| value == "true") {
            replaced.extend(expired);
        }
        Ok(landed(table, replaced))
    }

    async fn load(&self) -> Result<LoadedTable> {
        self.catalog.load(self.table).await?.ok_or_else(|| {
            target(format!("table \"{}\" does not exist any more", self.table))
                .with_hint("drop the sink and create it again")
        })
    }

    /// The snapshot that the swap would make the table's newest.
    async fn staged(
        &self,
        base: &LoadedTable,
        payload: &Payload,
        committable: &Committable,
        manifests: &mut Manifests,
    ) -> Result<Staged> {
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
        stage(io, base, list, delta, &marker, manifests).await
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
