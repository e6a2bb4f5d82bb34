//! [`IcebergWriter`]: one share of the changes into data files.
//!
//! ```text
//! changes ─► keys ─► [index: places of retracted keys marked] ─► rows into Parquet
//!                                                      [index: places of new rows] ◄─┘
//! ```
//!
//! Writers of an upsert sink share one [`UpsertState`] and lock it for lookups alone; they encode
//! beside each other. So they are all in the process of the committer. Those of an append-only sink
//! share nothing but the table's folder.
//!
//! **Invariant:** retractions of a batch are taken before its insertions, so that an update, which
//! is both, ends as the insertion; batches are taken in the order in which they are written. All
//! changes of a key come to one writer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use async_trait::async_trait;
use frazil_connector_api::{ChangeBatch, ConnectorError, Fragment, Result, SinkWriter};
use iceberg::spec::{Schema, StructType};
use serde::{Deserialize, Serialize};

use crate::data_writer::{ClosedFile, DataWriter, Written};
use crate::error::target;
use crate::key_index::{KeyEncoder, Place};
use crate::partition::Partitioner;
use crate::schema::Conform;
use crate::stored_file::StoredFile;
use crate::table_name::TableName;
use crate::upsert::UpsertState;

/// The index of an upsert sink, as its committer and its writers share it.
#[derive(Debug, Clone)]
pub(crate) struct SharedState(Arc<Mutex<UpsertState>>);

impl SharedState {
    pub(crate) fn new(state: UpsertState) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// The index, for a lookup.
    pub(crate) fn lock(&self) -> MutexGuard<'_, UpsertState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index, for the committer alone.
    ///
    /// # Errors
    /// `Internal` if a writer is still at work.
    pub(crate) fn sole(&mut self) -> Result<&mut UpsertState> {
        let sole = Arc::get_mut(&mut self.0);
        let sole = sole.ok_or_else(|| ConnectorError::internal("a writer is still at work"))?;
        Ok(sole.get_mut().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a writer made: closed data files, which no snapshot names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilePart {
    /// Schema and partition spec of the files.
    pub(crate) schema_id: i32,
    pub(crate) spec_id: i32,
    files: Vec<NumberedFile>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberedFile {
    /// The number by which places in the index name the file.
    number: u32,
    file: StoredFile,
}

impl FilePart {
    /// Reads what a fragment says.
    pub(crate) fn parse(fragment: &Fragment) -> Result<Self> {
        serde_json::from_str(&fragment.payload).map_err(|source| {
            ConnectorError::internal("a fragment of an Iceberg sink cannot be read")
                .with_source(source)
        })
    }

    /// The files again.
    pub(crate) fn closed_files(
        &self,
        partition: &StructType,
        schema: &Schema,
    ) -> Result<Vec<ClosedFile>> {
        let closed = self.files.iter().map(|NumberedFile { number, file }| {
            let file = file.data_file(self.spec_id, partition, schema)?;
            Ok(ClosedFile { number: *number, file })
        });
        closed.collect()
    }

    /// Paths of the files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|numbered| numbered.file.path())
    }
}

/// Writes one share of the changes of a sink.
pub(crate) struct IcebergWriter {
    pub(crate) table: TableName,
    pub(crate) schema_id: i32,
    pub(crate) spec_id: i32,
    /// The type of the spec's partitions.
    pub(crate) partition: StructType,
    pub(crate) conform: Arc<Conform>,
    pub(crate) partitioner: Partitioner,
    pub(crate) data: DataWriter,
    /// Of an upsert sink: the index, and what encodes keys for it.
    pub(crate) index: Option<(SharedState, Arc<KeyEncoder>, Vec<usize>)>,
}

/// Rows of a batch that went into one file.
struct Appended {
    written: Written,
    /// Their numbers in the batch; none for all.
    rows: Option<UInt32Array>,
}

#[async_trait]
impl SinkWriter for IcebergWriter {
    async fn write(&mut self, changes: ChangeBatch) -> Result<()> {
        if changes.num_rows() == 0 {
            return Ok(());
        }
        let rows = self.conform.apply(changes.rows())?;
        if self.index.is_some() {
            return self.upsert(&changes, rows).await;
        }
        let Some(weights) = changes.weights() else {
            return self.append(&rows).await.map(drop);
        };
        if let Some(row) = weights.values().iter().position(|&weight| weight < 0) {
            return Err(target(format!(
                "row {row} of a batch retracts, but the sink into \"{}\" is append-only",
                self.table
            ))
            .with_hint("use type = 'upsert' with a primary_key"));
        }
        let repeats = weights.values().iter().enumerate();
        let repeats = repeats.flat_map(|(row, &n)| std::iter::repeat_n(row as u32, n as usize));
        let rows = take_record_batch(&rows, &UInt32Array::from_iter_values(repeats))?;
        self.append(&rows).await.map(drop)
    }

    async fn finish(mut self: Box<Self>) -> Result<Option<Fragment>> {
        let closed = match self.data.close().await {
            Ok(closed) => closed,
            Err(error) => {
                self.data.discard().await;
                return Err(error);
            }
        };
        if closed.is_empty() {
            return Ok(None);
        }
        let files = closed.iter().map(|ClosedFile { number, file }| {
            Ok(NumberedFile { number: *number, file: StoredFile::new(file, &self.partition)? })
        });
        let Self { schema_id, spec_id, .. } = *self;
        let part = FilePart { schema_id, spec_id, files: files.collect::<Result<_>>()? };
        let payload = serde_json::to_string(&part).map_err(|source| {
            ConnectorError::internal("a fragment cannot be written").with_source(source)
        })?;
        Ok(Some(Fragment { payload }))
    }

    async fn abort(mut self: Box<Self>) {
        self.data.discard().await;
    }
}

impl IcebergWriter {
    /// Writes rows, which are in the files' schema, into the files of their partitions.
    async fn append(&mut self, rows: &RecordBatch) -> Result<Vec<Appended>> {
        let mut appended = Vec::new();
        for part in self.partitioner.split(rows)? {
            let written = match &part.rows {
                None => self.data.write(&part.partition, rows).await?,
                Some(numbers) => {
                    let rows = take_record_batch(rows, numbers)?;
                    self.data.write(&part.partition, &rows).await?
                }
            };
            appended.push(Appended { written, rows: part.rows });
        }
        Ok(appended)
    }

    /// Takes net changes by key; `rows` are their rows in the files' schema.
    async fn upsert(&mut self, changes: &ChangeBatch, rows: RecordBatch) -> Result<()> {
        let Some((state, encoder, key)) = &self.index else {
            return Err(ConnectorError::internal("the sink has no index"));
        };
        let state = state.clone();
        let columns: Vec<_> = key.iter().map(|&at| rows.column(at).clone()).collect();
        let keys = encoder.encode(&columns)?;
        let (rows, kept) = match changes.weights() {
            None => (rows, None),
            Some(weights) => {
                let weights = weights.values();
                let retracted = (0..weights.len()).filter(|&row| weights[row] < 0);
                state.lock().remove(&keys, retracted);
                let kept = (0..weights.len() as u32).filter(|&row| weights[row as usize] > 0);
                let kept = UInt32Array::from_iter_values(kept);
                (take_record_batch(&rows, &kept)?, Some(kept))
            }
        };
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let appended = self.append(&rows).await?;
        let mut state = state.lock();
        for Appended { written, rows: part } in appended {
            if written.opened {
                state.open_file(written.number);
            }
            let count = part.as_ref().map_or(rows.num_rows(), |part| part.len());
            let places = (0..count).map(|at| {
                let row = part.as_ref().map_or(at, |part| part.value(at) as usize);
                let row = kept.as_ref().map_or(row, |kept| kept.value(row) as usize);
                (row, Place { file: written.number, pos: written.base + at as u32 })
            });
            state.insert(&keys, places);
        }
        Ok(())
    }
}
