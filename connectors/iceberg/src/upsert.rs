//! [`UpsertState`]: what an upsert sink knows of its table: where each key is, and what is deleted.
//!
//! It holds no rows. It is built from the table itself, so there is no second copy of the truth.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::Array;
use frazil_connector_api::{ConnectorError, Result};
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::io::FileIO;
use iceberg::spec::{FormatVersion, Struct};
use roaring::RoaringTreemap;

use crate::columns::{Columns, Constants};
use crate::data_writer::{ClosedFile, DataFolder};
use crate::error::{target, unsupported};
use crate::key_index::{KeyEncoder, KeyIndex, Keys, Place};
use crate::live_files::LiveFile;
use crate::row_delta::{DeadFile, DeleteFile};
use crate::{deletion_vector, parquet_file, position_delete};

/// How many delete files are written at a time.
const WRITES_MAX: usize = 8;

/// A data file as the sink knows it.
#[derive(Debug)]
struct FileState {
    path: String,
    spec_id: i32,
    partition: Struct,
    rows: u64,
    /// Number of deleted rows.
    dead: u64,
    /// Deleted positions; kept in format version 3 only, where a vector replaces the one before.
    deleted: RoaringTreemap,
    /// Path of the vector that is in the table.
    vector: Option<String>,
}

/// The index and the files; see the module.
#[derive(Debug)]
pub(crate) struct UpsertState {
    version: FormatVersion,
    key: Vec<usize>,
    encoder: Arc<KeyEncoder>,
    index: KeyIndex,
    files: Vec<FileState>,
    /// Files from this number on are new since the last checkpoint.
    first_new: u32,
    /// Places that were deleted since the last checkpoint.
    marks: Vec<u64>,
}

/// What ends a checkpoint.
pub(crate) struct Deletes {
    pub(crate) files: Vec<DeleteFile>,
    /// Files of the table that have no live row any more.
    pub(crate) dead: Vec<DeadFile>,
    /// Paths of new files that never had one at the end of a checkpoint.
    pub(crate) unused: Vec<String>,
}

/// A file's number and positions in it, ascending.
type Marked = (u32, Vec<u64>);

/// The rows of one file, key columns only, that are live.
struct FileKeys {
    keys: Vec<(Keys, Vec<u32>)>,
}

impl UpsertState {
    /// Reads the keys of all live rows of a table; `key` are indexes of its `columns`, and
    /// `nullable` if rows of the sink may have NULL there.
    ///
    /// # Errors
    /// `Target` if two live rows have one key.
    pub(crate) async fn load(
        io: &FileIO,
        version: FormatVersion,
        columns: &Columns,
        (key, nullable): (Vec<usize>, bool),
        live: Vec<LiveFile>,
    ) -> Result<Self> {
        let wanted = columns.project(Some(&key))?;
        let types: Vec<_> =
            wanted.schema().fields().iter().map(|f| f.data_type().clone()).collect();
        let encoder = Arc::new(KeyEncoder::new(&types, nullable)?);
        let mut index = KeyIndex::new(&encoder);
        let rows: u64 = live.iter().map(LiveFile::row_count).sum();
        index.reserve(rows as usize);
        let reader = encoder.clone();
        let reads: Vec<_> = live.iter().map(KeySource::new).collect();
        let reads = reads.into_iter().map(|source| {
            tokio::spawn(read_keys(io.clone(), source, wanted.clone(), reader.clone()))
        });
        let parallel = std::thread::available_parallelism().map_or(2, |n| n.get());
        let mut reads = stream::iter(reads).buffered(parallel).enumerate();
        let mut doubles = 0_u64;
        while let Some((number, read)) = reads.next().await {
            let read = read.map_err(|source| {
                ConnectorError::internal("a task that reads keys failed").with_source(source)
            })??;
            for (keys, positions) in read.keys {
                let places = positions.into_iter().enumerate();
                let places = places.map(|(row, pos)| (row, Place { file: number as u32, pos }));
                index.insert(&keys, places, |_| doubles += 1);
            }
        }
        if doubles > 0 {
            return Err(target(format!(
                "{doubles} rows of the table repeat the key of another row"
            ))
            .with_hint("remove the duplicates, or choose another primary_key"));
        }
        let files = live.into_iter().map(|file| FileState {
            path: file.file.file_path().to_string(),
            spec_id: file.spec_id,
            partition: file.file.partition().clone(),
            rows: file.file.record_count(),
            dead: file.deleted.len(),
            deleted: match version {
                FormatVersion::V3 => Arc::unwrap_or_clone(file.deleted),
                _ => RoaringTreemap::new(),
            },
            vector: file.vector,
        });
        let files: Vec<_> = files.collect();
        let first_new = files.len() as u32;
        Ok(Self { version, key, encoder, index, files, first_new, marks: Vec::new() })
    }

    /// Number of files; the next new file has this number.
    pub(crate) fn next_number(&self) -> u32 {
        self.files.len() as u32
    }

    /// Number of live rows.
    pub(crate) fn row_count(&self) -> u64 {
        self.index.len() as u64
    }

    /// Whether nothing was deleted since the last checkpoint.
    pub(crate) fn is_unmarked(&self) -> bool {
        self.marks.is_empty()
    }

    /// Memory in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let files: usize = self
            .files
            .iter()
            .map(|file| size_of::<FileState>() + file.path.len() + file.deleted.serialized_size())
            .sum();
        (self.index.memory_bytes() + files + self.marks.capacity() * size_of::<u64>()) as u64
    }

    /// What encodes the keys of rows in the files' schema, and the indexes of their columns.
    pub(crate) fn key_encoder(&self) -> (Arc<KeyEncoder>, Vec<usize>) {
        (Arc::clone(&self.encoder), self.key.clone())
    }

    /// Forgets keys whose rows are retracted, and marks their places.
    pub(crate) fn remove(&mut self, keys: &Keys, rows: impl Iterator<Item = usize>) {
        let marks = &mut self.marks;
        self.index.remove(keys, rows, |place| marks.push(place.to_u64()));
    }

    /// Forgets the keys that a file holds at `positions`, and marks their places; the file itself
    /// need not be in the table any more.
    ///
    /// # Errors
    /// `Target` if the file cannot be read.
    pub(crate) async fn remove_rows_of(
        &mut self,
        io: &FileIO,
        path: &str,
        positions: &RoaringTreemap,
        columns: &Columns,
    ) -> Result<()> {
        let wanted = columns.project(Some(&self.key))?;
        let file = parquet_file::open(io, path).await?;
        let mut others = RoaringTreemap::new();
        others.insert_range(0..file.row_count());
        others -= positions;
        let mut batches = file.project(path, &wanted, &Arc::default(), &others)?;
        while let Some(batch) = batches.try_next().await? {
            let keys = self.encoder.encode(batch.columns())?;
            self.remove(&keys, 0..batch.num_rows());
        }
        Ok(())
    }

    /// Learns the places of new rows, and marks the older places of their keys.
    pub(crate) fn insert(&mut self, keys: &Keys, rows: impl Iterator<Item = (usize, Place)>) {
        let marks = &mut self.marks;
        self.index.insert(keys, rows, |place| marks.push(place.to_u64()));
    }

    /// Takes note of a new file; it is described by [`UpsertState::delete_files`]. Writers draw
    /// numbers without gaps, and take note of them in any order.
    pub(crate) fn open_file(&mut self, number: u32) {
        let count = self.files.len().max(number as usize + 1);
        self.files.resize_with(count, || FileState {
            path: String::new(),
            spec_id: 0,
            partition: Struct::empty(),
            rows: 0,
            dead: 0,
            deleted: RoaringTreemap::new(),
            vector: None,
        });
    }

    /// Ends a checkpoint: writes the marks as delete files, durable on return. New files none of
    /// whose rows is live are taken out of `closed`, and older ones get no deletes any more.
    pub(crate) async fn delete_files(
        &mut self,
        io: &FileIO,
        spec_id: i32,
        closed: &mut Vec<ClosedFile>,
        folder: &DataFolder,
    ) -> Result<Deletes> {
        let next = self.next_number();
        let first_new = std::mem::replace(&mut self.first_new, next);
        for ClosedFile { number, file } in closed.iter() {
            let state = &mut self.files[*number as usize];
            state.path = file.file_path().to_string();
            state.spec_id = spec_id;
            state.partition = file.partition().clone();
            state.rows = file.record_count();
        }
        let mut marked = self.take_marks();
        let (mut unused, mut dead) = (HashSet::new(), Vec::new());
        marked.retain(|(number, positions)| {
            let state = &mut self.files[*number as usize];
            state.dead += positions.len() as u64;
            if state.dead < state.rows {
                return true;
            }
            if *number >= first_new {
                unused.insert(state.path.clone());
                return false;
            }
            state.deleted = RoaringTreemap::new();
            dead.push(DeadFile {
                spec_id: state.spec_id,
                path: std::mem::take(&mut state.path),
                vector: state.vector.take(),
                deleted: positions.iter().copied().collect(),
            });
            false
        });
        closed.retain(|file| !unused.contains(file.file.file_path()));
        let files = match self.version {
            FormatVersion::V3 => self.write_vectors(io, marked, first_new, folder).await?,
            _ => self.write_positions(io, marked, first_new, folder).await?,
        };
        Ok(Deletes { files, dead, unused: unused.into_iter().collect() })
    }

    /// The marks by file, positions ascending.
    fn take_marks(&mut self) -> Vec<Marked> {
        let mut marks = std::mem::take(&mut self.marks);
        marks.sort_unstable();
        marks
            .chunk_by(|left, right| Place::from_u64(*left).file == Place::from_u64(*right).file)
            .map(|run| {
                let positions = run.iter().map(|&mark| u64::from(Place::from_u64(mark).pos));
                (Place::from_u64(run[0]).file, positions.collect())
            })
            .collect()
    }

    async fn write_vectors(
        &mut self,
        io: &FileIO,
        marked: Vec<Marked>,
        first_new: u32,
        folder: &DataFolder,
    ) -> Result<Vec<DeleteFile>> {
        let mut jobs = Vec::with_capacity(marked.len());
        for (number, positions) in marked {
            let state = &mut self.files[number as usize];
            let new = RoaringTreemap::from_sorted_iter(positions).map_err(|source| {
                ConnectorError::internal("positions of deletes repeat").with_source(source)
            })?;
            state.deleted |= new;
            let path = folder.new_path("puffin");
            let replaces = state.vector.replace(path.clone());
            jobs.push((number, path, replaces));
        }
        let files = &self.files;
        let writes = jobs.into_iter().map(|(number, path, replaces)| {
            let (io, state) = (io.clone(), &files[number as usize]);
            let (data_file, spec_id, partition) =
                (state.path.clone(), state.spec_id, state.partition.clone());
            let deleted = state.deleted.clone();
            tokio::spawn(async move {
                let file =
                    deletion_vector::write(&io, &path, &data_file, spec_id, partition, &deleted);
                let file = file.await?;
                let targets = if number < first_new { vec![data_file] } else { Vec::new() };
                Ok(DeleteFile { spec_id, replaces, targets, file })
            })
        });
        let writes = stream::iter(writes).buffered(WRITES_MAX).map(|joined| {
            joined.unwrap_or_else(|source| {
                Err(ConnectorError::internal("a task that writes deletes failed")
                    .with_source(source))
            })
        });
        writes.try_collect().await
    }

    async fn write_positions(
        &self,
        io: &FileIO,
        marked: Vec<Marked>,
        first_new: u32,
        folder: &DataFolder,
    ) -> Result<Vec<DeleteFile>> {
        let mut numbers: HashMap<(i32, &Struct), usize> = HashMap::new();
        let mut groups: Vec<((i32, &Struct), Vec<Marked>)> = Vec::new();
        for (number, positions) in marked {
            let state = &self.files[number as usize];
            let group = (state.spec_id, &state.partition);
            let at = *numbers.entry(group).or_insert_with(|| {
                groups.push((group, Vec::new()));
                groups.len() - 1
            });
            groups[at].1.push((number, positions));
        }
        let mut deletes = Vec::with_capacity(groups.len());
        for ((spec_id, partition), members) in groups {
            let path_of = |number: &u32| self.files[*number as usize].path.as_str();
            let targets = members.iter().filter(|(number, _)| *number < first_new);
            let targets = targets.map(|(number, _)| path_of(number).to_string()).collect();
            let mut rows: Vec<(&str, Vec<u64>)> = members
                .into_iter()
                .map(|(number, positions)| (path_of(&number), positions))
                .collect();
            rows.sort_by_key(|(path, _)| *path);
            let path = folder.new_path("parquet");
            let file = position_delete::write(io, &path, spec_id, partition.clone(), &rows).await?;
            deletes.push(DeleteFile { spec_id, replaces: None, targets, file });
        }
        Ok(deletes)
    }
}

/// What is needed of a live file to read its keys; the file itself, with all its bounds, is not
/// kept.
struct KeySource {
    path: String,
    rows: u64,
    deleted: Arc<RoaringTreemap>,
    constants: Arc<Constants>,
}

impl KeySource {
    fn new(live: &LiveFile) -> Self {
        Self {
            path: live.file.file_path().to_string(),
            rows: live.file.record_count(),
            deleted: Arc::clone(&live.deleted),
            constants: Arc::clone(&live.constants),
        }
    }
}

/// Reads the keys of a file's live rows.
async fn read_keys(
    io: FileIO,
    source: KeySource,
    wanted: Columns,
    encoder: Arc<KeyEncoder>,
) -> Result<FileKeys> {
    let KeySource { path, rows, deleted, constants } = &source;
    if *rows > u64::from(u32::MAX) {
        return Err(unsupported(format!("data file \"{path}\" has {rows} rows, more than 2^32")));
    }
    let file = parquet_file::open(&io, path).await?;
    let mut batches = file.project(path, &wanted, constants, deleted)?;
    let mut keys = Vec::new();
    let mut gone = deleted.iter().peekable();
    let mut next = 0_u64;
    while let Some(batch) = batches.try_next().await? {
        let mut positions = Vec::with_capacity(batch.num_rows());
        while positions.len() < batch.num_rows() {
            if gone.next_if_eq(&next).is_none() {
                positions.push(next as u32);
            }
            next += 1;
        }
        for column in batch.columns() {
            if column.null_count() > 0 && !encoder.takes_null() {
                return Err(target(format!("data file \"{path}\" has rows without a key")));
            }
        }
        keys.push((encoder.encode(batch.columns())?, positions));
    }
    Ok(FileKeys { keys })
}
