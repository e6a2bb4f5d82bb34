//! [`relocated`]: deletes from data files that another writer has rewritten since.
//!
//! ```text
//! deleted positions of a file that is gone ─► keys there ─► places of these keys in the table now
//! ```

use std::collections::{HashMap, HashSet};

use frazil_connector_api::Result;
use iceberg::io::FileIO;
use iceberg::spec::{DataFileFormat, FormatVersion, TableMetadata};
use roaring::RoaringTreemap;

use crate::columns::Columns;
use crate::data_writer::DataFolder;
use crate::error::target;
use crate::live_files::{LiveFile, Manifests, live_files};
use crate::row_delta::{DeleteFile, RowDelta};
use crate::upsert::{Deletes, UpsertState};
use crate::{deletion_vector, position_delete};

/// The key by which a sink knows its rows; empty if it only appends.
#[derive(Debug, Clone)]
pub(crate) struct RowKey {
    /// Its columns.
    pub(crate) names: Vec<String>,
    /// Whether they may be NULL.
    pub(crate) nullable: bool,
}

/// The delta with its deletes from the files `gone` replaced, by key, by deletes from the files
/// that hold the rows now.
///
/// Law: committed on `metadata`, the result leaves the rows that the delta would have left, had
/// the files been rewritten after it. A row that the other writer has deleted stays deleted.
///
/// # Errors
/// `Target` if a file that is gone from the table cannot be read any more.
pub(crate) async fn relocated(
    io: &FileIO,
    metadata: &TableMetadata,
    key: &RowKey,
    mut delta: RowDelta,
    gone: &HashSet<String>,
    manifests: &mut Manifests,
) -> Result<RowDelta> {
    let columns = Columns::new(metadata)?;
    let key_columns = key.names.iter().map(|name| Ok(columns.schema().index_of(name)?));
    let key_columns = (key_columns.collect::<Result<Vec<_>>>()?, key.nullable);
    let version = metadata.format_version();
    let live = live_files(io, metadata, manifests).await?;
    let mut state = UpsertState::load(io, version, &columns, key_columns, live).await?;
    for (path, positions) in lost_deletes(io, &delta, gone).await? {
        state.remove_rows_of(io, &path, &positions, &columns).await.map_err(|error| {
            target(format!(
                "data file \"{path}\" is no longer in the table, and its deleted rows cannot be \
                 read any more"
            ))
            .with_hint("roll the table back to before the rewrite and start the engine again")
            .with_source(error)
        })?;
    }
    // A vector of a file that is gone goes with it. A file of positions may be about other files
    // as well; positions in a file that is gone mean nothing.
    if version >= FormatVersion::V3 {
        let is_lost = |delete: &mut DeleteFile| delete.targets.iter().any(|it| gone.contains(it));
        let lost = delta.deletes.extract_if(.., is_lost);
        delta.superseded.extend(lost.map(|delete| delete.file.file_path().to_string()));
    }
    for delete in &mut delta.deletes {
        delete.targets.retain(|path| !gone.contains(path));
    }
    delta.dead.retain(|dead| !gone.contains(&dead.path));
    let folder = DataFolder::new(metadata.location());
    let spec_id = metadata.default_partition_spec_id();
    let moved = state.delete_files(io, spec_id, &mut Vec::new(), &folder).await?;
    let Deletes { files: moved, dead, .. } = moved;
    delta.written.extend(moved.iter().map(|delete| delete.file.file_path().to_string()));
    if version >= FormatVersion::V3 {
        let targets = delta.deletes.iter().flat_map(|it| &it.targets);
        let kept: HashSet<&String> = targets.chain(delta.dead.iter().map(|it| &it.path)).collect();
        let moved = moved.iter().flat_map(|it| &it.targets);
        let mut moved = moved.chain(dead.iter().map(|it| &it.path));
        if let Some(path) = moved.find(|it| kept.contains(it)) {
            return Err(target(format!(
                "rows were moved into data file \"{path}\", from which the sink deletes as well"
            ))
            .with_hint("roll the table back to before the rewrite and start the engine again"));
        }
    }
    delta.deletes.extend(moved);
    delta.dead.extend(dead);
    Ok(delta)
}

/// True if the delta has position deletes that the table does not take any more: it was upgraded to
/// format version 3 since.
pub(crate) fn has_old_deletes(metadata: &TableMetadata, delta: &RowDelta) -> bool {
    let is_old = |delete: &DeleteFile| delete.file.file_format() != DataFileFormat::Puffin;
    metadata.format_version() >= FormatVersion::V3 && delta.deletes.iter().any(is_old)
}

/// The delta with its position deletes as deletion vectors. A vector has what was deleted before in
/// its file as well, since readers look at nothing else then.
///
/// # Errors
/// `Unavailable` if a file of deletes cannot be read.
pub(crate) async fn as_vectors(
    io: &FileIO,
    metadata: &TableMetadata,
    mut delta: RowDelta,
    manifests: &mut Manifests,
) -> Result<RowDelta> {
    let mut live: HashMap<String, LiveFile> = HashMap::new();
    for file in live_files(io, metadata, manifests).await? {
        live.insert(file.file.file_path().to_string(), file);
    }
    let folder = DataFolder::new(metadata.location());
    let mut deletes = Vec::new();
    for delete in std::mem::take(&mut delta.deletes) {
        if delete.file.file_format() == DataFileFormat::Puffin {
            deletes.push(delete);
            continue;
        }
        let new = delta.data.iter().map(|file| file.file_path().to_string());
        let mut positions: HashMap<String, RoaringTreemap> =
            new.chain(delete.targets).map(|path| (path, RoaringTreemap::new())).collect();
        position_delete::read_into(io, &delete.file, &mut positions).await?;
        let spec_id = delete.spec_id;
        for (data_file, mut deleted) in positions.into_iter().filter(|(_, it)| !it.is_empty()) {
            let before = live.get(&data_file);
            if let Some(before) = before {
                deleted |= &*before.deleted;
            }
            let is_new = delta.data.iter().any(|file| file.file_path() == data_file);
            let targets = if is_new { Vec::new() } else { vec![data_file.clone()] };
            let replaces = before.and_then(|before| before.vector.clone());
            let (path, partition) = (folder.new_path("puffin"), delete.file.partition().clone());
            let file =
                deletion_vector::write(io, &path, &data_file, spec_id, partition, &deleted).await?;
            delta.written.push(path);
            deletes.push(DeleteFile { spec_id, replaces, targets, file });
        }
        delta.superseded.push(delete.file.file_path().to_string());
    }
    delta.deletes = deletes;
    Ok(delta)
}

/// The positions that a delta newly deletes from files that are gone.
async fn lost_deletes(
    io: &FileIO,
    delta: &RowDelta,
    gone: &HashSet<String>,
) -> Result<HashMap<String, RoaringTreemap>> {
    let mut lost: HashMap<String, RoaringTreemap> = HashMap::new();
    for dead in delta.dead.iter().filter(|dead| gone.contains(&dead.path)) {
        *lost.entry(dead.path.clone()).or_default() |= &dead.deleted;
    }
    for DeleteFile { replaces, targets, file, .. } in &delta.deletes {
        let targets: Vec<&String> = targets.iter().filter(|path| gone.contains(*path)).collect();
        if targets.is_empty() {
            continue;
        }
        if file.file_format() != DataFileFormat::Puffin {
            let mut positions: HashMap<String, RoaringTreemap> =
                targets.into_iter().map(|path| (path.clone(), RoaringTreemap::new())).collect();
            position_delete::read_into(io, file, &mut positions).await?;
            for (path, positions) in positions {
                *lost.entry(path).or_default() |= positions;
            }
            continue;
        }
        let mut positions = deletion_vector::read(io, file).await?;
        for path in targets {
            if let Some(before) = replaces {
                positions -= deletion_vector::read_of(io, before, path).await?;
            }
            *lost.entry(path.clone()).or_default() |= &positions;
        }
    }
    Ok(lost)
}

#[cfg(test)]
mod tests;
