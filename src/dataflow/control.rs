//! [`Command`] and [`Report`]: what the coordinator and the workers tell each other.
//!
//! ```text
//! coordinator ─► worker 0 ─broadcast─► every worker ─exchange─► worker 0 ─► coordinator
//! ```
//!
//! Both cross processes on Timely's own connections, so that a cluster needs no second network.
//! **Invariant:** commands reach every worker in the same order.

use std::collections::{BTreeMap, BTreeSet};

use frazil_connector_api::{Fence, Positions};
use serde::{Deserialize, Serialize};

use super::source::FieldNotice;
use crate::catalog::RelationId;
use crate::error::{Error, Result};
use crate::state::{ReadEpochs, SegmentRef, StoredSegments};
use crate::types::TypeForms;

/// Positions of the sources that feed fragments: by fragment, then by the relation read.
pub type SourceOffsets = BTreeMap<RelationId, BTreeMap<RelationId, Positions>>;

/// Epochs that belong to the backfill of new fragments: numbers need not be dense.
pub const BACKFILL_EPOCHS: u64 = 1 << 20;

/// What the coordinator tells every worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    /// Changes the catalog and builds or drops fragments. Fragments of a manifest begin with
    /// `epoch`; new ones are backfilled in the [`BACKFILL_EPOCHS`] from there on, which the open
    /// epoch skips.
    Apply {
        /// Number of the change: workers take it from [`CatalogChanges`](super::CatalogChanges).
        number: u64,
        /// The change, for processes that do not have it.
        steps: Vec<StepText>,
        /// First epoch of new fragments.
        epoch: u64,
        /// State to start from, after a restart.
        recovery: Option<Box<Recovery>>,
        /// Where new fragments begin to read, for sources that tell another place every moment.
        starts: BTreeMap<RelationId, Positions>,
    },
    /// No more input belongs to `epoch`.
    CloseEpoch {
        /// The epoch.
        epoch: u64,
        /// Its time, see [`EpochInfo`](super::operators::EpochInfo).
        now_ms: i64,
        /// Whether it becomes durable.
        checkpoint: bool,
        /// Relations with input and all that follow them: they alone take part in the epoch.
        touched: Vec<RelationId>,
        /// New relations that have caught up: they take part from this epoch on.
        admitted: Vec<RelationId>,
    },
    /// Readers report when they have handed over what their sources hold now.
    Flush {
        /// Number of the flush, growing.
        number: u64,
        /// The relations whose readers are asked.
        relations: Vec<RelationId>,
    },
    /// All readers of a fragment have answered a flush, and the epochs of its rows are closed:
    /// splits that were held back before it are read.
    Release {
        /// The fragment.
        relation: RelationId,
        /// Number of the flush.
        number: u64,
    },
    /// Process 0 reads these epochs: other processes keep their rows of them and no older ones.
    Reads(ReadEpochs),
    /// The worker ends.
    Shutdown,
}

/// A step of a change of the catalog, as other processes get it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum StepText {
    /// The statement that makes relations, the first of them with this id.
    Make {
        /// The id.
        id: RelationId,
        /// The statement.
        sql: String,
        /// The forms of its types.
        forms: TypeForms,
    },
    /// As [`super::Step::Drop`].
    Drop(RelationId),
    /// As [`super::Step::Resume`].
    Resume(RelationId),
    /// As [`super::Step::Stop`].
    Stop(RelationId),
}

/// What a manifest gives the workers: at a start for all relations, which take part from the first
/// epoch on; by RESUME for some that have failed, which catch up as new ones do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recovery {
    /// True for RESUME.
    pub resumes: bool,
    /// State, oldest segment first.
    pub segments: Vec<SegmentRef>,
    /// Where sources are read on.
    pub offsets: SourceOffsets,
    /// Views that are backfilled. At a start each keeps its rows and its first epoch emits the
    /// difference.
    pub rebuilt: BTreeSet<RelationId>,
    /// For RESUME: views among these that emit the difference to their stored rows once they are
    /// admitted.
    pub followed: BTreeSet<RelationId>,
    /// Relations that failed before and are not run.
    pub failed: Vec<RelationId>,
    /// Fence of the process that starts: new for every start.
    pub fence: Fence,
    /// The last epoch before, and its time.
    pub last_epoch: (u64, i64),
}

/// What a worker tells the coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Report {
    /// A change of the catalog is applied, or not.
    Applied {
        /// Why it is not; then the worker has nothing of it.
        error: Option<Error>,
    },
    /// Input has come for relations that had none since their last epoch was closed.
    Dirty {
        /// The relations.
        relations: Vec<RelationId>,
    },
    /// A new fragment has processed its backfill and what came meanwhile.
    CaughtUp {
        /// Its relation.
        relation: RelationId,
    },
    /// Rows that sessions can read from this worker, which is of another process than they are.
    Published(Vec<PublishedRows>),
    /// Everything of the epoch has been processed here.
    EpochDone {
        /// The epoch.
        epoch: u64,
    },
    /// What the worker has of a checkpoint is durable, or comes with the report if it is small.
    CheckpointDone {
        /// The epoch.
        epoch: u64,
        /// New segments, or why there are none.
        outcome: Result<StoredSegments>,
        /// Next offsets of the splits that this worker reads.
        offsets: SourceOffsets,
    },
    /// The worker's readers of some relations have answered a flush.
    Flushed {
        /// Its number.
        number: u64,
        /// The relations.
        relations: Vec<RelationId>,
    },
    /// A reader holds back splits that have appeared.
    Held {
        /// The fragment.
        relation: RelationId,
    },
    /// A bounded source has ended on this worker.
    SourceEnded {
        /// The fragment.
        relation: RelationId,
    },
    /// Figures since the last report.
    Progress(Vec<FragmentProgress>),
    /// A fragment has failed.
    Failed {
        /// Its relation.
        relation: RelationId,
        /// Why.
        error: Error,
    },
    /// A source is out of reach and tried again; `None`: it answers again.
    Retrying {
        /// The fragment.
        relation: RelationId,
        /// Tries so far and the last error.
        problem: Option<(u32, String)>,
    },
    /// How messages of the worker's splits differ from the declared columns now.
    Fields {
        /// The fragment.
        relation: RelationId,
        /// All that differs.
        notices: Vec<FieldNotice>,
    },
}

/// The number of rows that a worker has of a table or view at the end of an epoch.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct PublishedRows {
    /// The table or view.
    pub relation: RelationId,
    /// The epoch.
    pub epoch: u64,
    /// The number.
    pub row_count: usize,
}

/// Figures of one fragment on one worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FragmentProgress {
    /// Its relation.
    pub relation: RelationId,
    /// Rows read from outside, since the last report.
    pub rows_in: u64,
    /// Bytes read from outside, since the last report.
    pub bytes_in: u64,
    /// Messages that could not be decoded, since the last report.
    pub bad_messages: u64,
    /// State by operator, now.
    pub operator_bytes: Vec<(String, u64)>,
    /// How far it is, while it catches up.
    pub catching_up: Option<CatchUpProgress>,
}

/// How far a new fragment is on one worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUpProgress {
    /// Rows of its inputs that were fed.
    pub rows_done: u64,
    /// Rows of its inputs when it began.
    pub rows_total: u64,
    /// Epochs of its inputs that it has not processed.
    pub epochs_behind: u64,
}

impl FragmentProgress {
    /// Nothing yet.
    pub(crate) fn new(relation: RelationId) -> Self {
        Self {
            relation,
            rows_in: 0,
            bytes_in: 0,
            bad_messages: 0,
            operator_bytes: Vec::new(),
            catching_up: None,
        }
    }
}
