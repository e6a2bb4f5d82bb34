//! [`LiveFile`]: the data files of one Iceberg snapshot with what is deleted in them.
//!
//! Built from the manifests alone, so that writer and reader cannot disagree. [`Manifests`] keeps
//! manifests that were read, since they never change.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use frazil_connector_api::{ConnectorError, Result};
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, Manifest, ManifestContentType, ManifestEntryRef,
    ManifestFile, ManifestList, ManifestStatus, TableMetadata,
};
use roaring::RoaringTreemap;

use crate::avro_names::with_avro_names;
use crate::columns::{Constants, identity_values};
use crate::error::{ErrorContext, unsupported};
use crate::{deletion_vector, position_delete};

/// How many small files are read at a time.
const READS_MAX: usize = 16;

/// A data file and its deleted rows.
#[derive(Debug, Clone)]
pub(crate) struct LiveFile {
    /// The manifest's entry.
    pub(crate) file: DataFile,
    /// The partition spec that it was written with.
    pub(crate) spec_id: i32,
    /// Path of its deletion vector, if it has one.
    pub(crate) vector: Option<String>,
    /// Its deleted positions; none is beyond its last row.
    pub(crate) deleted: Arc<RoaringTreemap>,
    /// The values of its identity partition, for columns that are not in the file.
    pub(crate) constants: Arc<Constants>,
}

impl LiveFile {
    /// Number of rows that are not deleted.
    pub(crate) fn row_count(&self) -> u64 {
        self.file.record_count() - self.deleted.len()
    }
}

/// Manifests by path, as far as they have been read, and where data files were seen.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    read: HashMap<String, Arc<Manifest>>,
    /// The manifest that has a data file as a live one. A manifest never changes, so the file is in
    /// every snapshot that lists it.
    homes: HashMap<String, Arc<str>>,
}

impl Manifests {
    /// A manifest, from memory if it was read before.
    pub(crate) async fn load(&mut self, io: &FileIO, file: &ManifestFile) -> Result<Arc<Manifest>> {
        if let Some(manifest) = self.read.get(&file.manifest_path) {
            return Ok(manifest.clone());
        }
        let manifest = Arc::new(read_manifest(io, file).await?);
        self.read.insert(file.manifest_path.clone(), manifest.clone());
        Ok(manifest)
    }

    /// The manifest in which a data file was last seen.
    pub(crate) fn home(&self, data_file: &str) -> Option<&str> {
        self.homes.get(data_file).map(|home| &**home)
    }

    /// Notes which live data files a manifest has.
    pub(crate) fn add_home(&mut self, data: impl IntoIterator<Item = (String, Vec<String>)>) {
        for (manifest, files) in data {
            let manifest: Arc<str> = manifest.into();
            self.homes.extend(files.into_iter().map(|file| (file, Arc::clone(&manifest))));
        }
    }

    /// Forgets manifests that are not of this content or not in the list.
    pub(crate) fn keep(&mut self, list: &[ManifestFile], content: ManifestContentType) {
        let listed = list.iter().filter(|file| file.content == content);
        let paths: HashSet<&str> = listed.map(|file| file.manifest_path.as_str()).collect();
        self.read.retain(|path, _| paths.contains(path.as_str()));
    }
}

/// Reads a manifest; its entries have the numbers that they inherit from the manifest list.
///
/// # Errors
/// `Unsupported` if it is encrypted, `Unavailable` if it cannot be read.
pub(crate) async fn read_manifest(io: &FileIO, file: &ManifestFile) -> Result<Manifest> {
    let what = || format!("cannot read manifest \"{}\"", file.manifest_path);
    if file.key_metadata.is_some() {
        return Err(unsupported(format!("manifest \"{}\" is encrypted", file.manifest_path)));
    }
    let bytes = async { io.new_input(&file.manifest_path)?.read().await };
    let bytes = with_avro_names(bytes.await.context(what)?)?;
    let (entries, metadata) = Manifest::parse_avro(&bytes).context(what)?.into_parts();
    let inherit = |entry: ManifestEntryRef| {
        let mut entry = Arc::unwrap_or_clone(entry);
        let is_new = entry.status == ManifestStatus::Added;
        let inherited = (is_new || file.sequence_number == 0).then_some(file.sequence_number);
        entry.snapshot_id = entry.snapshot_id.or(Some(file.added_snapshot_id));
        entry.sequence_number = entry.sequence_number.or(inherited);
        entry.file_sequence_number = entry.file_sequence_number.or(inherited);
        entry
    };
    Ok(Manifest::new(metadata, entries.into_iter().map(inherit).collect()))
}

/// The manifests of the current snapshot; none if the table has no snapshot.
pub(crate) async fn manifest_list(
    io: &FileIO,
    metadata: &TableMetadata,
) -> Result<Vec<ManifestFile>> {
    let Some(snapshot) = metadata.current_snapshot() else { return Ok(Vec::new()) };
    let path = snapshot.manifest_list();
    let read = async {
        let bytes = io.new_input(path)?.read().await?;
        ManifestList::parse_with_version(&bytes, metadata.format_version())
    };
    let list = read.await.context(|| format!("cannot read manifest list \"{path}\""))?;
    Ok(list.consume_entries().into_iter().collect())
}

/// All live data files of the current snapshot, with deletion vectors and position deletes read.
///
/// # Errors
/// `Unsupported` if the table has equality deletes.
pub(crate) async fn live_files(
    io: &FileIO,
    metadata: &TableMetadata,
    manifests: &mut Manifests,
) -> Result<Vec<LiveFile>> {
    let (mut data, mut deletes) = (Vec::new(), Vec::new());
    manifests.homes.clear();
    for file in manifest_list(io, metadata).await? {
        let manifest = manifests.load(io, &file).await?;
        let target = match file.content {
            ManifestContentType::Data => &mut data,
            ManifestContentType::Deletes => &mut deletes,
        };
        let live = || manifest.entries().iter().filter(|entry| entry.is_alive());
        if file.content == ManifestContentType::Data {
            let paths = live().map(|entry| entry.file_path().to_string()).collect();
            manifests.add_home([(file.manifest_path.clone(), paths)]);
        }
        target.extend(live().map(|entry| (entry.data_file.clone(), file.partition_spec_id)));
    }
    let (vectors, positions) = split_deletes(deletes)?;
    let mut deleted: HashMap<String, RoaringTreemap> = HashMap::new();
    for (file, _) in &data {
        deleted.insert(file.file_path().to_string(), RoaringTreemap::new());
    }
    let reads = vectors.clone().into_iter().map(|(path, vector)| {
        let io = io.clone();
        async move { Ok::<_, ConnectorError>((path, deletion_vector::read(&io, &vector).await?)) }
    });
    let reads: Vec<_> = reads.collect();
    let vectors_read: Vec<_> =
        stream::iter(reads).buffer_unordered(READS_MAX).try_collect().await?;
    for (path, vector) in vectors_read {
        if let Some(deleted) = deleted.get_mut(&path) {
            *deleted |= vector;
        }
    }
    for file in &positions {
        position_delete::read_into(io, file, &mut deleted).await?;
    }
    let live = data.into_iter().map(|(file, spec_id)| {
        let vector = vectors.get(file.file_path()).map(|vector| vector.file_path().to_string());
        let mut deleted = deleted.remove(file.file_path()).unwrap_or_default();
        // Deletes past the end of a file, whoever wrote them, delete nothing.
        deleted.remove_range(file.record_count()..);
        let constants = Arc::new(identity_values(metadata, spec_id, file.partition()));
        LiveFile { file, spec_id, vector, deleted: Arc::new(deleted), constants }
    });
    Ok(live.collect())
}

/// Deletion vectors by data file, and files of position deletes.
fn split_deletes(
    deletes: Vec<(DataFile, i32)>,
) -> Result<(HashMap<String, DataFile>, Vec<DataFile>)> {
    let (mut vectors, mut positions) = (HashMap::new(), Vec::new());
    for (file, _) in deletes {
        match (file.content_type(), file.file_format(), file.referenced_data_file()) {
            (DataContentType::EqualityDeletes, _, _) => {
                return Err(unsupported(format!(
                    "the table has equality deletes (\"{}\")",
                    file.file_path()
                ))
                .with_hint("rewrite them with another engine (compaction), then try again"));
            }
            (_, DataFileFormat::Puffin, Some(data_file)) => {
                vectors.insert(data_file, file);
            }
            _ => positions.push(file),
        }
    }
    Ok((vectors, positions))
}
