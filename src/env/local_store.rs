//! [`LocalStore`]: an object store in a local folder whose objects outlive a power failure.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tempfile::TempPath;

/// Objects that one task removes: to start a task costs more than to remove a file.
const REMOVED_AT_ONCE: usize = 100;

/// A local folder as an object store.
///
/// **Law:** when `put` returns, the object is on the disk, whole, under its name; after a crash at
/// any line it is there whole or not at all. `LocalFileSystem`, which does all the rest, leaves
/// that to the kernel's time.
#[derive(Debug)]
pub(super) struct LocalStore {
    files: Arc<LocalFileSystem>,
    folders: Arc<Folders>,
}

impl LocalStore {
    /// The store of a folder that is there.
    ///
    /// # Errors
    /// If there is no such folder.
    pub(super) fn open(folder: &FilePath) -> Result<Self> {
        let files = LocalFileSystem::new_with_prefix(folder)?;
        // The paths of objects begin with the canonical one.
        let root = folder
            .canonicalize()
            .map_err(|source| Error::Generic { store: "LocalStore", source: Box::new(source) })?;
        Ok(Self { files: Arc::new(files), folders: Arc::new(Folders::new(root)) })
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(out)
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let may_replace = match options.mode {
            PutMode::Overwrite => true,
            PutMode::Create => false,
            // It refuses it.
            PutMode::Update(_) => return self.files.put_opts(location, payload, options).await,
        };
        let path = self.files.path_to_filesystem(location)?;
        let folders = Arc::clone(&self.folders);
        let put = move || put(&Files, &folders, &path, &payload, may_replace);
        let done = tokio::task::spawn_blocking(put).await?;
        done.map(|()| PutResult { e_tag: None, version: None }).map_err(|source| {
            let (path, source) = (location.to_string(), Box::new(source));
            match source.kind() {
                ErrorKind::AlreadyExists => Error::AlreadyExists { path, source },
                _ => Error::Generic { store: "LocalStore", source },
            }
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        // Asked with every checkpoint: a change of threads costs more than this call.
        if options.head && !self.files.path_to_filesystem(location)?.exists() {
            let source = Box::new(io::Error::from(ErrorKind::NotFound));
            return Err(Error::NotFound { path: location.to_string(), source });
        }
        self.files.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let files = Arc::clone(&self.files);
        let removed = locations.ready_chunks(REMOVED_AT_ONCE).then(move |locations| {
            let files = Arc::clone(&files);
            let remove = move || locations.into_iter().map(|it| remove(&files, it?)).collect();
            async move {
                let removed: Vec<Result<Path>> = match tokio::task::spawn_blocking(remove).await {
                    Ok(removed) => removed,
                    Err(error) => vec![Err(error.into())],
                };
                stream::iter(removed)
            }
        });
        removed.flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

/// What a put does to the file system, call by call; tests put a disk that loses power behind it.
trait Disk {
    /// True if a folder is there.
    fn is_folder(&self, path: &FilePath) -> bool;
    /// Makes a folder whose parent is there, unless it is there.
    fn make_folder(&self, path: &FilePath) -> io::Result<()>;
    /// Syncs the names in a folder.
    fn sync_folder(&self, path: &FilePath) -> io::Result<()>;
    /// Writes a new file and syncs its content.
    fn write_synced(&self, path: &FilePath, payload: &PutPayload) -> io::Result<()>;
    /// Gives a file another name, in the place of what has that name.
    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()>;
    /// Gives a file another name, unless that is taken.
    fn rename_new(&self, from: &FilePath, to: &FilePath) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, path: &FilePath) -> io::Result<()>;
}

/// The file system.
struct Files;

impl Disk for Files {
    fn is_folder(&self, path: &FilePath) -> bool {
        path.is_dir()
    }

    fn make_folder(&self, path: &FilePath) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn sync_folder(&self, path: &FilePath) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn write_synced(&self, path: &FilePath, payload: &PutPayload) -> io::Result<()> {
        let mut file = File::create_new(path)?;
        payload.iter().try_for_each(|bytes| file.write_all(bytes))?;
        file.sync_all()
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn rename_new(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        let staged = TempPath::try_from_path(from)?;
        staged.persist_noclobber(to).map_err(|failed| failed.error)
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// The folders of a store whose names are known to be synced.
#[derive(Debug)]
struct Folders {
    root: PathBuf,
    synced: Mutex<BTreeSet<PathBuf>>,
}

impl Folders {
    fn new(root: PathBuf) -> Self {
        Self { root, synced: Mutex::default() }
    }

    /// Makes a folder and those above it, if they are not there, and syncs their names.
    ///
    /// A folder that is there may have been made by another put, or by a process that was killed,
    /// which has not synced its name: so every store syncs each name once.
    fn make(&self, disk: &impl Disk, folder: &FilePath) -> io::Result<()> {
        let known = |synced: &BTreeSet<PathBuf>| synced.contains(folder);
        let is_synced = known(&self.synced.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(parent) = folder.parent().filter(|_| folder != self.root) else { return Ok(()) };
        if is_synced && disk.is_folder(folder) {
            return Ok(());
        }
        self.make(disk, parent)?;
        disk.make_folder(folder)?;
        disk.sync_folder(parent)?;
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        synced.insert(folder.to_path_buf());
        Ok(())
    }
}

/// Writes a file beside its place, syncs it, gives it its name, and syncs the folders.
fn put(
    disk: &impl Disk,
    folders: &Folders,
    path: &FilePath,
    payload: &PutPayload,
    may_replace: bool,
) -> io::Result<()> {
    let parent = path.parent().unwrap_or(&folders.root);
    folders.make(disk, parent).map_err(|error| {
        // Not as "already exists": that says that the object is there.
        io::Error::other(format!("folder {} cannot be made: {error}", parent.display()))
    })?;
    // Lists leave out names that end so.
    let number = uuid::Uuid::new_v4().as_u64_pair().0;
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!("#{number}"));
    let staged = PathBuf::from(staged);
    let written = disk.write_synced(&staged, payload).and_then(|()| match may_replace {
        true => disk.rename(&staged, path),
        false => disk.rename_new(&staged, path),
    });
    if written.is_err() {
        // What stays behind is only a waste of space.
        let _ = disk.remove(&staged);
    }
    written?;
    disk.sync_folder(parent)
}

/// Removes an object.
fn remove(files: &LocalFileSystem, location: Path) -> Result<Path> {
    let path = files.path_to_filesystem(&location)?;
    match std::fs::remove_file(path) {
        Ok(()) => Ok(location),
        Err(source) => {
            let (path, is_absent) = (location.into(), source.kind() == ErrorKind::NotFound);
            let source = Box::new(source);
            Err(match is_absent {
                true => Error::NotFound { path, source },
                false => Error::Generic { store: "LocalStore", source },
            })
        }
    }
}

#[cfg(test)]
mod tests;
