//! [`RowDelta`]: data files and deletes of one checkpoint, staged as ONE Iceberg snapshot.
//!
//! ```text
//! base metadata ─► manifests (data | deletes) ─► manifest list ─► snapshot ─► staged metadata
//! ```
//!
//! **Invariant:** staging reads and extends exactly the metadata it is given; nothing is visible
//! until the catalog swaps that metadata's location for the staged one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use frazil_connector_api::{ConnectorError, Result};
use iceberg::io::FileIO;
use iceberg::spec::{
    DataFile, FormatVersion, MAIN_BRANCH, Manifest, ManifestContentType, ManifestEntryRef,
    ManifestFile, ManifestListWriter, ManifestStatus, Operation, Snapshot, Summary, TableMetadata,
};
use iceberg::{MetadataLocation, TableUpdate};
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::catalog::{LoadedTable, sync_folder, write_metadata};
use crate::deletion_vector;
use crate::error::{ErrorContext, target};
use crate::live_files::{Manifests, manifest_list};
use crate::manifest_writer::{Entry, ManifestHead, write_manifest};
use crate::partition::spec_and_schema;
use crate::summary;

/// Delete manifests are merged when a snapshot would have more than this many.
const DELETE_MANIFESTS_MAX: usize = 16;

/// A delete file of a checkpoint.
#[derive(Debug)]
pub(crate) struct DeleteFile {
    /// Partition spec of the data files it deletes from.
    pub(crate) spec_id: i32,
    /// The deletion vector that it takes the place of, by path.
    pub(crate) replaces: Option<String>,
    /// Older data files that it deletes from.
    pub(crate) targets: Vec<String>,
    /// The file.
    pub(crate) file: DataFile,
}

/// A data file of the table none of whose rows is live any more.
#[derive(Debug)]
pub(crate) struct DeadFile {
    /// Partition spec of the file.
    pub(crate) spec_id: i32,
    /// The file.
    pub(crate) path: String,
    /// Its deletion vector in the table.
    pub(crate) vector: Option<String>,
    /// The rows that this checkpoint deletes; the others were deleted before.
    pub(crate) deleted: RoaringTreemap,
}

/// What one checkpoint adds to a table, and removes.
#[derive(Debug)]
pub(crate) struct RowDelta {
    /// Partition spec of the data files.
    pub(crate) spec_id: i32,
    /// Schema of the data files.
    pub(crate) schema_id: i32,
    /// New data files.
    pub(crate) data: Vec<DataFile>,
    /// New deletes, in older and in the new data files.
    pub(crate) deletes: Vec<DeleteFile>,
    /// Older data files that are taken out of the table.
    pub(crate) dead: Vec<DeadFile>,
    /// Files of deletes that were written for this attempt of a commit, to be removed if it fails.
    pub(crate) written: Vec<String>,
    /// Files that others have taken the place of, to be removed if it succeeds.
    pub(crate) superseded: Vec<String>,
}

/// What marks the snapshot as this sink's.
#[derive(Debug)]
pub(crate) struct Marker {
    /// The snapshot's id.
    pub(crate) snapshot_id: i64,
    /// Properties of the snapshot's summary.
    pub(crate) summary: HashMap<String, String>,
    /// Properties of the table, set in the same commit.
    pub(crate) properties: HashMap<String, String>,
}

/// A commit that only lacks the swap.
#[derive(Debug)]
pub(crate) struct Staged {
    /// The new metadata.
    pub(crate) table: LoadedTable,
    /// Its manifests.
    pub(crate) manifests: Vec<ManifestFile>,
    /// Files written by staging, to be removed if the swap is lost.
    pub(crate) files: Vec<String>,
    /// Metadata files that the new metadata no longer lists.
    pub(crate) expired: Vec<String>,
    /// Files that no snapshot will name once the swap is made.
    pub(crate) superseded: Vec<String>,
    /// The new manifests of data files, and the live files of each.
    pub(crate) data: Vec<(String, Vec<String>)>,
}

/// Stages one snapshot; see [`stage`].
struct Stage<'a> {
    io: &'a FileIO,
    base: &'a TableMetadata,
    snapshot_id: i64,
    files: Vec<String>,
    superseded: Vec<String>,
    summary: summary::Totals,
}

/// Stages `delta` on top of `base`.
///
/// `list` are the base's [`telling_manifests`]. The data files that the delta deletes from are in
/// the table, see [`missing_targets`]; deletion vectors of others are united with ours.
///
/// # Errors
/// `Target` if the table's manifests cannot be read.
pub(crate) async fn stage(
    io: &FileIO,
    base: &LoadedTable,
    mut list: Vec<ManifestFile>,
    delta: RowDelta,
    marker: &Marker,
    manifests: &mut Manifests,
) -> Result<Staged> {
    let mut stage = Stage {
        io,
        base: &base.metadata,
        snapshot_id: marker.snapshot_id,
        files: delta.written,
        superseded: delta.superseded,
        summary: summary::Totals::default(),
    };
    let data_files = delta.data.iter().map(|file| file.file_path().to_string()).collect();
    let removes = !delta.deletes.is_empty() || !delta.dead.is_empty();
    let operation = match (delta.data.is_empty(), !removes) {
        (_, true) => Operation::Append,
        (true, false) => Operation::Delete,
        (false, false) => Operation::Overwrite,
    };
    let added = stage.data_manifest(delta.spec_id, delta.data).await?;
    let mut data = stage.remove_data(&mut list, &delta.dead, manifests).await?;
    stage.delete_manifests(&mut list, delta.deletes, &delta.dead, manifests).await?;
    data.extend(added.as_ref().map(|added| (added.manifest_path.clone(), data_files)));
    list.extend(added);
    // Deletes that this attempt has written are as durable as the prepared files.
    let metadata = format!("{}/metadata/", base.metadata.location());
    if let Some(path) = stage.files.iter().find(|path| !path.starts_with(&metadata)) {
        sync_folder(path)?;
    }
    let staged = stage.metadata(base, list, operation, marker).await?;
    Ok(Staged { data, ..staged })
}

/// The manifests of a table; not those that only tell what older snapshots removed.
pub(crate) async fn telling_manifests(
    io: &FileIO,
    metadata: &TableMetadata,
) -> Result<Vec<ManifestFile>> {
    let all = manifest_list(io, metadata).await?.into_iter();
    Ok(all.filter(|file| file.has_added_files() || file.has_existing_files()).collect())
}

/// The data files that a delta deletes from and that are not in the table any more.
///
/// A file is in the table as long as the manifest that was seen to have it is in the `list`;
/// manifests are read only for files of which that is not known.
pub(crate) async fn missing_targets(
    io: &FileIO,
    list: &[ManifestFile],
    delta: &RowDelta,
    manifests: &mut Manifests,
) -> Result<HashSet<String>> {
    let listed: HashSet<&str> = list.iter().map(|file| file.manifest_path.as_str()).collect();
    let targets = delta.deletes.iter().flat_map(|delete| &delete.targets);
    let targets = targets.chain(delta.dead.iter().map(|dead| &dead.path));
    let unsure =
        targets.filter(|path| !manifests.home(path).is_some_and(|home| listed.contains(home)));
    let mut missing: HashSet<String> = unsure.cloned().collect();
    for file in list.iter().filter(|file| file.content == ManifestContentType::Data) {
        if missing.is_empty() {
            break;
        }
        let manifest = manifests.load(io, file).await?;
        let live = manifest.entries().iter().filter(|entry| entry.is_alive());
        let found: Vec<String> = live.filter_map(|entry| missing.take(entry.file_path())).collect();
        manifests.add_home([(file.manifest_path.clone(), found)]);
    }
    Ok(missing)
}

impl Stage<'_> {
    fn new_path(&mut self, name: &str) -> String {
        let path = format!("{}/metadata/{}{name}", self.base.location(), Uuid::new_v4());
        self.files.push(path.clone());
        path
    }

    /// Writes a manifest under a partition spec, which need not be the table's default.
    async fn manifest(
        &mut self,
        spec_id: i32,
        content: ManifestContentType,
        entries: &[Entry],
    ) -> Result<ManifestFile> {
        let path = self.new_path("-m.avro");
        let (spec, schema) = spec_and_schema(self.base, spec_id)?;
        let head = ManifestHead {
            version: self.base.format_version(),
            content,
            spec: &spec,
            schema: &schema,
            snapshot_id: self.snapshot_id,
        };
        write_manifest(self.io, &path, &head, entries).await
    }

    fn added(&mut self, file: DataFile) -> Entry {
        self.summary.add(&file);
        Entry {
            status: ManifestStatus::Added,
            snapshot_id: self.snapshot_id,
            sequence: None,
            file,
            first_row_id: None,
        }
    }

    /// The manifest of the new data files; none without files.
    async fn data_manifest(
        &mut self,
        spec_id: i32,
        files: Vec<DataFile>,
    ) -> Result<Option<ManifestFile>> {
        if files.is_empty() {
            return Ok(None);
        }
        let entries: Vec<Entry> = files.into_iter().map(|file| self.added(file)).collect();
        self.manifest(spec_id, ManifestContentType::Data, &entries).await.map(Some)
    }

    /// Takes dead files out of `list`: the manifests that have them are rewritten. Gives the new
    /// ones with their live files.
    ///
    /// Files that stay keep their row ids, instead of getting new ones from the rewritten manifest.
    async fn remove_data(
        &mut self,
        list: &mut [ManifestFile],
        dead: &[DeadFile],
        manifests: &mut Manifests,
    ) -> Result<Vec<(String, Vec<String>)>> {
        let dead: HashSet<&str> = dead.iter().map(|dead| dead.path.as_str()).collect();
        let homes: HashSet<String> =
            dead.iter().filter_map(|path| manifests.home(path)).map(str::to_string).collect();
        let mut rewritten = Vec::new();
        for file in list.iter_mut().filter(|file| homes.contains(&file.manifest_path)) {
            let manifest = manifests.load(self.io, file).await?;
            let (mut entries, mut live) = (Vec::new(), Vec::new());
            let row_ids = first_row_ids(file, &manifest);
            for (entry, first_row_id) in manifest.entries().iter().zip(row_ids) {
                if !entry.is_alive() {
                    continue;
                }
                let is_dead = dead.contains(entry.file_path());
                if is_dead {
                    self.summary.remove(entry.data_file());
                } else {
                    live.push(entry.file_path().to_string());
                }
                entries.push(self.kept(entry, is_dead, first_row_id)?);
            }
            let new =
                self.manifest(file.partition_spec_id, ManifestContentType::Data, &entries).await?;
            rewritten.push((new.manifest_path.clone(), live));
            *file = new;
        }
        Ok(rewritten)
    }

    /// An entry that is carried over, or marked as deleted.
    fn kept(
        &self,
        entry: &ManifestEntryRef,
        is_dead: bool,
        first_row_id: Option<i64>,
    ) -> Result<Entry> {
        let odd = || target("a manifest entry has no sequence number or snapshot");
        let data = entry.sequence_number().ok_or_else(odd)?;
        let of_file = entry.file_sequence_number.ok_or_else(odd)?;
        let (status, snapshot_id) = match is_dead {
            true => (ManifestStatus::Deleted, self.snapshot_id),
            false => (ManifestStatus::Existing, entry.snapshot_id().ok_or_else(odd)?),
        };
        let file = entry.data_file().clone();
        Ok(Entry { status, snapshot_id, sequence: Some((data, of_file)), file, first_row_id })
    }

    /// Puts the new deletes into `list`: manifests that lose an entry are rewritten together with
    /// the new entries, one for each partition spec.
    async fn delete_manifests(
        &mut self,
        list: &mut Vec<ManifestFile>,
        deletes: Vec<DeleteFile>,
        dead: &[DeadFile],
        manifests: &mut Manifests,
    ) -> Result<()> {
        let mut added: BTreeMap<i32, Vec<DeleteFile>> = BTreeMap::new();
        let dead_files: HashSet<&str> = dead.iter().map(|dead| dead.path.as_str()).collect();
        for dead in dead {
            added.entry(dead.spec_id).or_default();
        }
        for delete in deletes {
            added.entry(delete.spec_id).or_default().push(delete);
        }
        for (spec_id, mut added) in added {
            let vectors = added.iter().filter_map(|delete| delete.file.referenced_data_file());
            let data_files: HashSet<String> = match self.base.format_version() {
                FormatVersion::V3 => vectors.collect(),
                _ => HashSet::new(),
            };
            let of_spec = |file: &ManifestFile| {
                file.content == ManifestContentType::Deletes && file.partition_spec_id == spec_id
            };
            let merge = list.iter().filter(|file| of_spec(file)).count() >= DELETE_MANIFESTS_MAX;
            let (mut kept, mut gone) = (Vec::new(), Vec::new());
            for file in std::mem::take(list) {
                if !of_spec(&file) {
                    list.push(file);
                    continue;
                }
                let manifest = manifests.load(self.io, &file).await?;
                let live = manifest.entries().iter().filter(|entry| entry.is_alive()).cloned();
                let (replaced, stay): (Vec<_>, Vec<_>) = live.partition(|entry| {
                    is_vector_of(entry, &data_files) || is_about(entry, &dead_files)
                });
                if replaced.is_empty() && !merge {
                    list.push(file);
                    continue;
                }
                gone.extend(replaced);
                kept.extend(stay);
            }
            self.unite_foreign_vectors(&mut added, &gone).await?;
            if added.len() + kept.len() + gone.len() > 0 {
                list.push(self.delete_manifest(spec_id, added, kept, gone).await?);
            }
        }
        Ok(())
    }

    async fn delete_manifest(
        &mut self,
        spec_id: i32,
        added: Vec<DeleteFile>,
        kept: Vec<ManifestEntryRef>,
        gone: Vec<ManifestEntryRef>,
    ) -> Result<ManifestFile> {
        let added: Vec<Entry> = added.into_iter().map(|delete| self.added(delete.file)).collect();
        let mut entries = added;
        for entry in kept {
            entries.push(self.kept(&entry, false, None)?);
        }
        for entry in gone {
            self.summary.remove(entry.data_file());
            entries.push(self.kept(&entry, true, None)?);
        }
        self.manifest(spec_id, ManifestContentType::Deletes, &entries).await
    }

    /// A vector in the table that ours does not build upon was written by someone else: the new
    /// vector must have the deletes of both.
    async fn unite_foreign_vectors(
        &mut self,
        added: &mut [DeleteFile],
        gone: &[ManifestEntryRef],
    ) -> Result<()> {
        let found: HashMap<String, &ManifestEntryRef> = gone
            .iter()
            .filter_map(|entry| Some((entry.data_file().referenced_data_file()?, entry)))
            .collect();
        for delete in added {
            let Some(data_file) = delete.file.referenced_data_file() else { continue };
            let Some(foreign) = found.get(&data_file) else { continue };
            if delete.replaces.as_deref() == Some(foreign.file_path()) {
                continue;
            }
            let theirs = deletion_vector::read(self.io, foreign.data_file()).await?;
            let ours = deletion_vector::read(self.io, &delete.file).await?;
            let both: RoaringTreemap = theirs | ours;
            let path = format!("{}/data/{}.puffin", self.base.location(), Uuid::new_v4());
            self.files.push(path.clone());
            self.superseded.push(delete.file.file_path().to_string());
            let partition = delete.file.partition().clone();
            delete.file = deletion_vector::write(
                self.io,
                &path,
                &data_file,
                delete.spec_id,
                partition,
                &both,
            )
            .await?;
        }
        Ok(())
    }

    async fn metadata(
        mut self,
        base: &LoadedTable,
        list: Vec<ManifestFile>,
        operation: Operation,
        marker: &Marker,
    ) -> Result<Staged> {
        let what = || "cannot stage an Iceberg snapshot".to_string();
        let parent = self.base.current_snapshot();
        let sequence = self.base.next_sequence_number();
        let path = self.new_path(&format!("-snap-{}.avro", self.snapshot_id));
        let parent_id = parent.map(|parent| parent.snapshot_id());
        let first_row = self.base.next_row_id();
        let written = async {
            let output = self.io.new_output(&path)?.writer().await?;
            let mut writer = match self.base.format_version() {
                FormatVersion::V3 => ManifestListWriter::v3(
                    output,
                    self.snapshot_id,
                    parent_id,
                    sequence,
                    Some(first_row),
                ),
                _ => ManifestListWriter::v2(output, self.snapshot_id, parent_id, sequence),
            };
            writer.add_manifests(list.iter().cloned())?;
            let next_row = writer.next_row_id();
            writer.close().await?;
            Ok::<_, iceberg::Error>(next_row)
        };
        let next_row = written.await.context(what)?;
        let mut properties = self.summary.summary(parent.map(|parent| parent.summary()));
        properties.extend(marker.summary.clone());
        let snapshot = Snapshot::builder()
            .with_snapshot_id(self.snapshot_id)
            .with_parent_snapshot_id(parent_id)
            .with_sequence_number(sequence)
            .with_timestamp_ms(now_ms().max(self.base.last_updated_ms()))
            .with_manifest_list(path)
            .with_summary(Summary { operation, additional_properties: properties })
            .with_schema_id(self.base.current_schema_id());
        let snapshot = match next_row {
            Some(next) => snapshot.with_row_range(first_row, next - first_row).build(),
            None => snapshot.build(),
        };
        let builder = self.base.clone().into_builder(Some(base.location.clone()));
        let built = builder
            .set_branch_snapshot(snapshot, MAIN_BRANCH)
            .and_then(|builder| {
                TableUpdate::SetProperties { updates: marker.properties.clone() }.apply(builder)
            })
            .and_then(|builder| builder.build())
            .context(what)?;
        let place = MetadataLocation::from_str(&base.location)
            .context(what)?
            .with_next_version()
            .with_new_metadata(&built.metadata);
        let location = place.to_string();
        self.files.push(location.clone());
        write_metadata(self.io, &built.metadata, &place).await?;
        let expired = built.expired_metadata_logs.into_iter().map(|log| log.metadata_file);
        Ok(Staged {
            expired: expired.collect(),
            table: LoadedTable { metadata: built.metadata.into(), location },
            manifests: list,
            files: self.files,
            superseded: self.superseded,
            data: Vec::new(),
        })
    }
}

/// True for deletes in nothing but one of some data files.
fn is_about(entry: &ManifestEntryRef, data_files: &HashSet<&str>) -> bool {
    let referenced = entry.data_file().referenced_data_file();
    referenced.is_some_and(|path| data_files.contains(path.as_str()))
}

/// The first row id of each file of a manifest, as far as it has one: its own, or the next one of
/// the manifest.
pub(crate) fn first_row_ids(file: &ManifestFile, manifest: &Manifest) -> Vec<Option<i64>> {
    let mut next = file.first_row_id.map(|first| first as i64);
    let ids = manifest.entries().iter().map(|entry| {
        let own = entry.data_file().first_row_id();
        if own.is_some() || !entry.is_alive() {
            return own;
        }
        let inherited = next;
        next = next.map(|next| next + entry.record_count() as i64);
        inherited
    });
    ids.collect()
}

fn is_vector_of(entry: &ManifestEntryRef, data_files: &HashSet<String>) -> bool {
    entry.data_file().content_offset().is_some()
        && entry.data_file().referenced_data_file().is_some_and(|path| data_files.contains(&path))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// The error of a number in a property that is not a number.
pub(crate) fn bad_property(name: &str, value: &str) -> ConnectorError {
    target(format!("table property \"{name}\" has a bad value \"{value}\""))
}
