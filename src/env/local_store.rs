//! [`LocalStore`]: an object store in a local folder whose objects outlive a power failure.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path as FilePath, PathBuf};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A local folder as an object store.
///
/// **Law:** when `put` returns, the object is on the disk, whole, under its name; after a crash at
/// any line it is there whole or not at all. `LocalFileSystem`, which does all the rest, leaves
/// that to the kernel's time.
#[derive(Debug)]
pub struct LocalStore {
    files: LocalFileSystem,
    folder: PathBuf,
}

impl LocalStore {
    /// The store of a folder that is there.
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn open(folder: &FilePath) -> Result<Self> {
        let files = LocalFileSystem::new_with_prefix(folder)?;
        Ok(Self { files, folder: folder.to_path_buf() })
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
        let (path, folder) = (self.files.path_to_filesystem(location)?, self.folder.clone());
        let put = move || put(&path, &folder, &payload, may_replace);
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
        self.files.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
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

/// Writes a file beside its place, syncs it, gives it its name, and syncs the folders.
fn put(
    path: &FilePath,
    root: &FilePath,
    payload: &PutPayload,
    may_replace: bool,
) -> std::io::Result<()> {
    let parent = path.parent().unwrap_or(root);
    if !parent.is_dir() {
        // Not as "already exists": that says that the object is there.
        std::fs::create_dir_all(parent).map_err(|error| {
            std::io::Error::other(format!("folder {} cannot be made: {error}", parent.display()))
        })?;
        File::open(root)?.sync_all()?;
    }
    // Lists leave out names that end so.
    let number = uuid::Uuid::new_v4().as_u64_pair().0;
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!("#{number}"));
    let staged = PathBuf::from(staged);
    let written = write(&staged, payload).and_then(|()| match may_replace {
        true => std::fs::rename(&staged, path),
        false => std::fs::hard_link(&staged, path),
    });
    if written.is_err() || !may_replace {
        // What stays behind is only a waste of space.
        let _ = std::fs::remove_file(&staged);
    }
    written?;
    File::open(parent)?.sync_all()
}

fn write(path: &FilePath, payload: &PutPayload) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    payload.iter().try_for_each(|bytes| file.write_all(bytes))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn puts_once_where_asked_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path()).unwrap();
        let path = Path::from("a/b");
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&path, "one".into(), create()).await.unwrap();
        let again = store.put_opts(&path, "two".into(), create()).await.unwrap_err();
        assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one");
        store.put(&path, "three".into()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "three");
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(std::fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
    }
}
