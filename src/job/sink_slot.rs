//! [`SinkSlot`]: a sink, the changes that wait for it, and its two phases.
//!
//! ```text
//! changes ─► pending ─► write + prepare ─► [manifest] ─► commit (tried until it succeeds)
//!               └─ not due, busy or out of reach: logged on the object store instead
//! ```
//!
//! **Invariant:** at every manifest each change is in exactly one of: the target, the committable,
//! the log of pending changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use frazil_connector_api::{
    ChangeBatch, CommitOutcome, Committable, ConnectorError, ConnectorErrorKind, Sink, SinkStatus,
};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::catalog::RelationId;
use crate::change::{concat, consolidate};
use crate::checkpoint::SinkRecord;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::state::{Packing, append_batches, read_batches};

const WEIGHT: &str = "$weight";
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Changes beyond this are not put together: a batch has at most 2 GiB of text.
const MERGE_BYTES_MAX: usize = 1 << 29;

/// A sink in use: locked while it writes or commits.
pub(super) type BusySink = OwnedMutexGuard<OpenSink>;

/// A sink, and whether it knows its target.
pub(super) struct OpenSink {
    sink: Box<dyn Sink>,
    opened: bool,
}

/// A sink, the changes that wait for it, and its two phases.
pub(super) struct SinkSlot {
    pub(super) relation: RelationId,
    pub(super) name: String,
    id: Uuid,
    schema: SchemaRef,
    sink: Arc<tokio::sync::Mutex<OpenSink>>,
    waiting: Mutex<Waiting>,
}

/// What waits.
#[derive(Default)]
struct Waiting {
    /// Changes that no committable has, in their order.
    pending: Vec<Pending>,
    /// Prepared and not known to be visible.
    committable: Option<Committable>,
    /// The first checkpoint that has changes of the committable.
    committable_first: u64,
    /// The last commit, as time since the start of the process.
    committed_at: Option<Duration>,
}

/// Changes that wait, net, and the object that holds them as of the last manifest.
struct Pending {
    changes: ChangeBatch,
    object: Option<String>,
    /// The first checkpoint that has some of them; 0 if that was before the process started.
    first: u64,
}

impl Pending {
    fn bytes(&self) -> usize {
        self.changes.rows().get_array_memory_size()
    }
}

/// What a sink brings into a manifest.
pub(super) struct Prepared {
    pub(super) record: SinkRecord,
    /// To commit once the manifest is durable.
    pub(super) commit: Option<(BusySink, Committable)>,
    /// Objects that the manifest does not need any more.
    pub(super) garbage: Vec<String>,
    /// Why it is not prepared, if it should have been.
    pub(super) problem: Option<ConnectorError>,
}

impl SinkSlot {
    pub(super) fn new(
        relation: RelationId,
        name: String,
        id: Uuid,
        schema: SchemaRef,
        sink: Box<dyn Sink>,
    ) -> Self {
        let sink = Arc::new(tokio::sync::Mutex::new(OpenSink { sink, opened: false }));
        Self { relation, name, id, schema, sink, waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what a manifest has of it.
    ///
    /// # Errors
    /// `Unavailable` or `Corrupt` if the log cannot be read.
    pub(super) async fn restore(&self, record: &SinkRecord, env: &Env) -> Result<()> {
        let mut pending = Vec::new();
        for object in &record.pending {
            let bytes = env.store().get(&Path::from(object.as_str())).await?.bytes().await?;
            let batches = read_batches(&bytes)?;
            let changes = batches.iter().map(decode).collect::<Result<Vec<_>>>()?;
            let changes = concat(Arc::clone(&self.schema), changes)?;
            pending.push(Pending { changes, object: Some(object.clone()), first: 0 });
        }
        let mut waiting = self.waiting();
        waiting.pending = pending;
        waiting.committable.clone_from(&record.committable);
        Ok(())
    }

    /// Opens the sink once; for CREATE, which tells the user what is wrong.
    ///
    /// # Errors
    /// What the connector says.
    pub(super) async fn open(&self) -> Result<SinkStatus> {
        let mut sink = Arc::clone(&self.sink).lock_owned().await;
        let committable = self.waiting().committable.clone();
        sink.sink.open(committable.as_ref()).await?;
        sink.opened = true;
        self.waiting().committable = None;
        Ok(sink.sink.status())
    }

    /// True if changes wait, at `now` the last commit is at least `interval` ago, and the sink is
    /// not at work.
    pub(super) fn is_due(&self, now: Duration, interval: Duration) -> bool {
        let waiting = self.waiting();
        let rested = waiting.committed_at.is_none_or(|at| now.saturating_sub(at) >= interval);
        rested && !self.is_busy()
    }

    /// True while it opens, writes or commits.
    pub(super) fn is_busy(&self) -> bool {
        self.sink.try_lock().is_err()
    }

    /// True if nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        let waiting = self.waiting();
        waiting.pending.is_empty() && waiting.committable.is_none() && !self.is_busy()
    }

    /// True if changes of a checkpoint up to `through` are not known to be visible.
    pub(super) fn lacks(&self, through: u64) -> bool {
        let waiting = self.waiting();
        let prepared = waiting.committable.is_some() && waiting.committable_first <= through;
        prepared || waiting.pending.iter().any(|pending| pending.first <= through)
    }

    /// True if changes wait.
    pub(super) fn has_pending(&self) -> bool {
        !self.waiting().pending.is_empty()
    }

    /// First phase of checkpoint `sequence`: takes the changes since the last one and prepares all
    /// that waits if the sink is `due`, or logs them.
    ///
    /// # Errors
    /// `Unavailable` if the changes cannot be logged.
    pub(super) async fn prepare(
        &self,
        changes: Vec<ChangeBatch>,
        due: bool,
        (sequence, fence): (u64, u64),
        env: &Env,
    ) -> Result<Prepared> {
        let fresh = consolidate(Arc::clone(&self.schema), changes)?;
        let mut garbage = Vec::new();
        if fresh.num_rows() > 0 {
            self.waiting().pending.push(Pending { changes: fresh, object: None, first: sequence });
        }
        let mut problem = None;
        if due
            && self.has_pending()
            && let Ok(mut sink) = Arc::clone(&self.sink).try_lock_owned()
        {
            match self.write(&mut sink, sequence, fence).await {
                Ok(committable) => {
                    env.reach("sink.prepared");
                    return Ok(self.prepared(sink, committable));
                }
                Err(error) => {
                    sink.opened = false;
                    problem = Some(error);
                }
            }
        }
        let fresh = {
            let mut waiting = self.waiting();
            merge_newest(&mut waiting.pending, &self.schema, &mut garbage)?;
            let fresh = waiting.pending.last().filter(|newest| newest.object.is_none());
            fresh.map(|fresh| fresh.changes.clone())
        };
        let object = match fresh {
            None => None,
            Some(fresh) => Some(log(&fresh, self.relation, sequence, env).await?),
        };
        let mut waiting = self.waiting();
        if let (Some(object), Some(newest)) = (object, waiting.pending.last_mut()) {
            newest.object = Some(object);
        }
        let record = self.record(&waiting);
        Ok(Prepared { record, commit: None, garbage, problem })
    }

    async fn write(
        &self,
        sink: &mut OpenSink,
        sequence: u64,
        fence: u64,
    ) -> frazil_connector_api::Result<Option<Committable>> {
        let (committable, pending, bytes) = {
            let waiting = self.waiting();
            let pending = waiting.pending.iter().map(|pending| pending.changes.clone());
            let bytes: usize = waiting.pending.iter().map(Pending::bytes).sum();
            (waiting.committable.clone(), pending.collect::<Vec<_>>(), bytes)
        };
        // Opening commits what is pending: no committable is ever put in the place of another.
        if !sink.opened || committable.is_some() {
            sink.sink.open(committable.as_ref()).await?;
            sink.opened = true;
        }
        // Each of them is consolidated already. What is too large for one batch is written in its
        // order, so that rows come and go that are in none of the snapshots.
        let net = match pending.len() {
            1 => pending,
            _ if bytes > MERGE_BYTES_MAX => pending,
            _ => {
                let net = consolidate(Arc::clone(&self.schema), pending);
                vec![net.map_err(|error| ConnectorError::internal(error.to_string()))?]
            }
        };
        for changes in net.into_iter().filter(|changes| changes.num_rows() > 0) {
            sink.sink.write(changes).await?;
        }
        sink.sink.prepare(sequence, fence).await
    }

    fn prepared(&self, sink: BusySink, committable: Option<Committable>) -> Prepared {
        let mut waiting = self.waiting();
        waiting.committable_first = waiting.pending.iter().map(|it| it.first).min().unwrap_or(0);
        let garbage = waiting.pending.drain(..).filter_map(|pending| pending.object).collect();
        waiting.committable.clone_from(&committable);
        let record = self.record(&waiting);
        let commit = committable.map(|committable| (sink, committable));
        Prepared { record, commit, garbage, problem: None }
    }

    fn record(&self, waiting: &Waiting) -> SinkRecord {
        SinkRecord {
            id: self.id,
            committable: waiting.committable.clone(),
            pending: waiting.pending.iter().filter_map(|it| it.object.clone()).collect(),
        }
    }

    /// Second phase: tries until the changes are visible. `tell` hears of each failure.
    ///
    /// # Errors
    /// `Fenced`, or what will never succeed.
    pub(super) async fn commit(
        &self,
        mut busy: BusySink,
        committable: &Committable,
        env: &Env,
        tell: impl Fn(u32, String),
    ) -> Result<(CommitOutcome, SinkStatus)> {
        let mut attempts = 0;
        loop {
            let outcome = match busy.opened {
                true => busy.sink.commit(committable).await,
                // Opening commits what is pending.
                false => busy.sink.open(Some(committable)).await.map(|()| {
                    busy.opened = true;
                    CommitOutcome::AlreadyVisible
                }),
            };
            let outcome = match env.fails("sink.reply_lost") {
                true => Err(ConnectorError::unavailable("the reply of the commit was lost")),
                false => outcome,
            };
            match outcome {
                Ok(outcome) => {
                    env.reach("sink.committed");
                    let mut waiting = self.waiting();
                    waiting.committable = None;
                    waiting.committed_at = Some(env.elapsed());
                    return Ok((outcome, busy.sink.status()));
                }
                Err(error) if error.kind == ConnectorErrorKind::Fenced => return Err(error.into()),
                Err(error) => {
                    attempts += 1;
                    tracing::warn!(sink = self.name, %error, attempts, "commit failed, again");
                    tell(attempts, error.to_string());
                    busy.opened = false;
                    let pause = PAUSE * 2_u32.pow(attempts.min(7));
                    tokio::time::sleep(pause.min(PAUSE_MAX)).await;
                }
            }
        }
    }

    /// Commits what the manifest of the last process left, in the background of a start.
    ///
    /// # Errors
    /// As [`SinkSlot::commit`].
    pub(super) async fn recover(
        &self,
        env: &Env,
        tell: impl Fn(u32, String),
    ) -> Result<Option<SinkStatus>> {
        let committable = self.waiting().committable.clone();
        let Some(committable) = committable else {
            return Ok(self.open().await.ok());
        };
        let busy = Arc::clone(&self.sink).lock_owned().await;
        let (_, status) = self.commit(busy, &committable, env, tell).await?;
        Ok(Some(status))
    }
}

/// Merges the newest changes with those before them, while these are not much more: of n changes
/// that wait there are about log2(n) objects, and each was written about as often.
fn merge_newest(
    pending: &mut Vec<Pending>,
    schema: &SchemaRef,
    garbage: &mut Vec<String>,
) -> Result<()> {
    while let [.., before, newest] = pending.as_slice() {
        let (rows, rows_before) = (newest.changes.num_rows(), before.changes.num_rows());
        let is_large = before.bytes() + newest.bytes() > MERGE_BYTES_MAX;
        if newest.object.is_some() || is_large || rows_before > rows.saturating_mul(2) {
            return Ok(());
        }
        let both = vec![before.changes.clone(), newest.changes.clone()];
        let first = before.first.min(newest.first);
        let changes = consolidate(Arc::clone(schema), both)?;
        pending.pop();
        garbage.extend(pending.pop().and_then(|before| before.object));
        if changes.num_rows() > 0 {
            pending.push(Pending { changes, object: None, first });
        }
    }
    Ok(())
}

async fn log(
    changes: &ChangeBatch,
    relation: RelationId,
    sequence: u64,
    env: &Env,
) -> Result<String> {
    let schema = changes.schema();
    let mut fields: Vec<Field> =
        schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(WEIGHT, DataType::Int64, false));
    let mut columns = changes.rows().columns().to_vec();
    columns.push(Arc::new(changes.weight_column()));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let mut bytes = Vec::new();
    append_batches(&mut bytes, &[batch], Packing::Fast)?;
    let name = Uuid::new_v4().simple();
    let object = format!("state/pending-{}-{sequence:012}-{name}.seg", relation.0);
    env.store().put(&Path::from(object.as_str()), PutPayload::from(bytes)).await?;
    Ok(object)
}

fn decode(batch: &RecordBatch) -> Result<ChangeBatch> {
    let width = batch.num_columns().saturating_sub(1);
    // A column of the sink may have its name.
    let weights = batch.columns().last();
    let weights = weights.and_then(|column| column.as_any().downcast_ref::<Int64Array>());
    let weights = weights.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "an object of pending changes has no weights")
    })?;
    let rows = batch.project(&(0..width).collect::<Vec<_>>())?;
    Ok(ChangeBatch::try_new(rows, weights.clone())?)
}

#[cfg(test)]
mod tests;
