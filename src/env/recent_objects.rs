//! [`RecentObjects`]: small objects that were put lately are read from memory.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

/// Bytes of an object up to which it is kept.
const OBJECT_BYTES_MAX: usize = if cfg!(test) { 2 << 10 } else { 128 << 10 };
/// Bytes of all objects that are kept.
const BYTES_MAX: usize = if cfg!(test) { 20 << 10 } else { 4 << 20 };

/// An object store that keeps what this process has put lately.
///
/// Merges read what a few checkpoints have written a moment ago: from a local store a read costs
/// two changes of threads, from a remote one a request that is paid for.
///
/// **Law:** a read of a range gives what the store behind it would give, as long as no other
/// process replaces objects.
#[derive(Debug)]
pub(super) struct RecentObjects {
    store: Arc<dyn ObjectStore>,
    recent: InMemory,
    puts: Mutex<Puts>,
}

/// What is in memory, oldest first; some of it may have been deleted since.
#[derive(Debug, Default)]
struct Puts {
    objects: VecDeque<(Path, usize)>,
    bytes: usize,
}

impl RecentObjects {
    /// In front of a store.
    pub(super) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, recent: InMemory::new(), puts: Mutex::default() }
    }

    async fn keep(&self, location: &Path, payload: PutPayload) -> Result<()> {
        let bytes = payload.content_length();
        if bytes > OBJECT_BYTES_MAX {
            return self.recent.delete(location).await;
        }
        self.recent.put(location, payload).await?;
        let old = self.puts.lock().unwrap_or_else(PoisonError::into_inner).add(location, bytes);
        for old in old {
            self.recent.delete(&old).await?;
        }
        Ok(())
    }
}

impl Puts {
    /// Adds an object; gives those that are too many.
    fn add(&mut self, location: &Path, bytes: usize) -> Vec<Path> {
        self.objects.push_back((location.clone(), bytes));
        self.bytes += bytes;
        let mut old = Vec::new();
        while self.bytes > BYTES_MAX
            && let Some((location, bytes)) = self.objects.pop_front()
        {
            self.bytes -= bytes;
            old.push(location);
        }
        old
    }
}

impl fmt::Display for RecentObjects {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(out)
    }
}

#[async_trait]
impl ObjectStore for RecentObjects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let kept = payload.clone();
        let is_update = matches!(options.mode, PutMode::Update(_));
        let put = self.store.put_opts(location, payload, options).await;
        match &put {
            Ok(_) if !is_update => self.keep(location, kept).await?,
            // It may have replaced the object.
            _ => self.recent.delete(location).await?,
        }
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.recent.delete(location).await?;
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.range.is_some() {
            let kept = self.recent.get_opts(location, options.clone()).await;
            if !matches!(kept, Err(Error::NotFound { .. })) {
                return kept;
            }
        }
        self.store.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(self.recent.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.recent.delete(to).await?;
        self.store.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Law: every answer is that of the store behind it.
    #[tokio::test]
    async fn reads_as_the_store_behind_it() {
        let behind = Arc::new(InMemory::new());
        let store = RecentObjects::new(Arc::clone(&behind) as _);
        let mut random = StdRng::seed_from_u64(5);
        let mut from_memory = 0;
        for step in 0..3000_u32 {
            let path = Path::from(format!("o{}", random.random_range(0..30)));
            match random.random_range(0..4) {
                0 => {
                    let content = vec![step as u8; random.random_range(1..3000)];
                    let mode = match random.random_bool(0.5) {
                        true => PutMode::Create,
                        false => PutMode::Overwrite,
                    };
                    let options = PutOptions { mode, ..PutOptions::default() };
                    let _ = store.put_opts(&path, content.into(), options).await;
                }
                1 if random.random_ratio(1, 4) => store.delete(&path).await.unwrap(),
                _ => {
                    let range = random.random_range(0..9)..random.random_range(9..2000);
                    let (read, wanted) =
                        (store.get_range(&path, range.clone()), behind.get_range(&path, range));
                    assert_eq!(read.await.ok(), wanted.await.ok(), "step {step}");
                    from_memory += u32::from(store.recent.head(&path).await.is_ok());
                }
            }
            assert!(store.puts.lock().unwrap().bytes <= BYTES_MAX);
        }
        assert!(from_memory > 100, "{from_memory} reads");
    }
}
