//! [`Snapshot`]: all tables and views at one epoch, wherever their rows are.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use futures::stream::{self, BoxStream, StreamExt};

use crate::catalog::RelationId;
use crate::change::{hash_rows, owner_of, shard_of};
use crate::dataflow::{AskedRows, RemoteRows, RowsRequest};
use crate::error::{Error, Result};
use crate::job::recent_writes::Reading;
use crate::state::{RowsSnapshot, ScanPlace, ShardRows, Snapshots};

/// All tables and views at one epoch.
#[derive(Debug, Clone)]
pub struct Snapshot {
    snapshots: Arc<Snapshots>,
    failed: Arc<BTreeMap<RelationId, Error>>,
    remote_rows: Option<Arc<RemoteRows>>,
}

impl Snapshot {
    pub(super) fn new(
        snapshots: Arc<Snapshots>,
        failed: BTreeMap<RelationId, Error>,
        remote_rows: Option<Arc<RemoteRows>>,
    ) -> Self {
        Self { snapshots, failed: Arc::new(failed), remote_rows }
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        *self.snapshots.epoch
    }

    /// One table or view; `None` if it has no rows to read (a source, a sink).
    pub fn relation(&self, id: RelationId) -> Option<RelationSnapshot> {
        let failed = self.failed.get(&id).cloned();
        let shards = self.snapshots.relations.get(&id).cloned();
        let shards = shards.or_else(|| failed.is_some().then(|| Arc::from([])))?;
        let of = self.remote_rows.clone().map(|rows| (rows, Arc::clone(&self.snapshots.epoch)));
        Some(RelationSnapshot { id, shards, failed, of })
    }
}

/// A snapshot from which a write is computed, see [`Engine::read_to_write`](super::Engine).
#[derive(Debug)]
pub struct ReadToWrite {
    snapshot: Snapshot,
    _reading: Reading,
}

impl ReadToWrite {
    pub(super) fn new(snapshot: Snapshot, reading: Reading) -> Self {
        Self { snapshot, _reading: reading }
    }

    /// What the statement reads.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// The rows of one table or view at one epoch.
#[derive(Debug, Clone)]
pub struct RelationSnapshot {
    id: RelationId,
    shards: Arc<[ShardRows]>,
    failed: Option<Error>,
    /// If there are other processes: who asks them for rows, and the epoch, of which they keep
    /// theirs as long as this is held.
    of: Option<(Arc<RemoteRows>, Arc<u64>)>,
}

impl RelationSnapshot {
    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.shards.iter().map(ShardRows::row_count).sum()
    }

    /// True if no other process has rows of it.
    pub fn is_here(&self) -> bool {
        self.workers_elsewhere().is_empty()
    }

    /// The rows whose `key` columns, the relation's upsert key, are equal to one of the rows of
    /// `wanted`, and perhaps a few others. See [`RowsSnapshot::lookup`]. Only the workers that own
    /// the shards of these keys are asked.
    ///
    /// # Errors
    /// As [`RelationSnapshot::batches_here`].
    pub async fn lookup(
        &self,
        key: &[usize],
        wanted: &[ArrayRef],
        projection: Option<&[usize]>,
    ) -> Result<Vec<RecordBatch>> {
        self.check()?;
        let mut batches = Vec::new();
        for rows in self.shards_here() {
            batches.extend(rows.lookup(key, wanted, projection)?);
        }
        let elsewhere = self.workers_elsewhere();
        if elsewhere.is_empty() {
            return Ok(batches);
        }
        let owners = self.owners(wanted)?;
        let asked = elsewhere.into_iter().filter(|worker| owners.contains(worker));
        let rows = AskedRows::of_keys(key, wanted)?;
        let asked = asked.map(|worker| self.ask(worker, rows.clone(), projection));
        for (rows, _) in futures::future::try_join_all(asked).await? {
            batches.push(rows);
        }
        Ok(batches)
    }

    /// The rows that this process keeps, a batch each of some thousand rows, with the columns of
    /// the projection.
    ///
    /// # Errors
    /// `JobFailed` if the job that keeps the rows has failed: they are not up to date.
    pub fn batches_here(&self, projection: Option<&[usize]>) -> Result<Vec<RecordBatch>> {
        self.check()?;
        let mut batches = Vec::new();
        for rows in self.shards_here() {
            batches.extend(rows.batches(projection)?);
        }
        Ok(batches)
    }

    /// The rows of all processes, in no order. Of each worker of another process a few megabytes
    /// are under way at most.
    ///
    /// # Errors
    /// As [`RelationSnapshot::batches_here`].
    pub fn rows(
        &self,
        projection: Option<&[usize]>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let here = stream::iter(self.batches_here(projection)?.into_iter().map(Ok));
        let elsewhere = self.workers_elsewhere().into_iter();
        let elsewhere = elsewhere.map(|worker| self.clone().scan(worker, projection).boxed());
        Ok(here.chain(stream::select_all(elsewhere)).boxed())
    }

    /// The rows of a worker of another process, asked for as they are taken.
    fn scan(
        self,
        worker: usize,
        projection: Option<&[usize]>,
    ) -> impl futures::Stream<Item = Result<RecordBatch>> + Send + use<> {
        let projection = projection.map(<[usize]>::to_vec);
        let start = (self, Some(ScanPlace::default()));
        stream::try_unfold(start, move |(rows, place)| {
            let projection = projection.clone();
            async move {
                let Some(place) = place else { return Ok(None) };
                let asked = rows.ask(worker, AskedRows::From(place), projection.as_deref());
                let (batch, next) = asked.await?;
                Ok(Some((batch, (rows, next))))
            }
        })
    }

    async fn ask(
        &self,
        worker: usize,
        rows: AskedRows,
        projection: Option<&[usize]>,
    ) -> Result<(RecordBatch, Option<ScanPlace>)> {
        let no_other = || Error::internal("rows of another process in the only one");
        let (remote_rows, epoch) = self.of.as_ref().ok_or_else(no_other)?;
        let (relation, epoch) = (self.id, **epoch);
        let projection = projection.map(<[usize]>::to_vec);
        let request = RowsRequest { relation, epoch, projection, rows };
        let chunk = remote_rows.ask(worker, request).await?;
        let next = chunk.next;
        Ok((chunk.into_rows()?, next))
    }

    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn shards_here(&self) -> impl Iterator<Item = &RowsSnapshot> {
        self.shards.iter().filter_map(|shard| match shard {
            ShardRows::Here(rows) => Some(rows),
            ShardRows::There { .. } => None,
        })
    }

    /// Workers of other processes that have rows.
    fn workers_elsewhere(&self) -> Vec<usize> {
        let there = self.shards.iter().filter_map(|shard| match shard {
            ShardRows::There { worker, row_count } if *row_count > 0 => Some(*worker),
            _ => None,
        });
        there.collect()
    }

    /// The workers that own the shards of keys.
    fn owners(&self, keys: &[ArrayRef]) -> Result<Vec<usize>> {
        let workers = self.of.as_ref().map_or(1, |(rows, _)| rows.workers());
        let hashes = hash_rows(keys, keys.first().map_or(0, |column| column.len()))?;
        Ok(hashes.into_iter().map(|hash| owner_of(shard_of(hash), workers)).collect())
    }
}
