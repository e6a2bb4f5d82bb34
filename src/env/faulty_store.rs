//! [`FaultyStore`]: an object store in memory whose calls can be made to fail, for tests.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use tokio::sync::RwLock;

/// Removed objects that are known, those of some checkpoints.
const REMOVED_KEPT: usize = 32;

/// Which calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreFault {
    /// Every put: the disk is full.
    Full,
    /// One call of any kind; the next ones are well.
    Once,
    /// Every call: the disk is gone.
    Gone,
}

/// An object store in memory; see the module.
#[derive(Debug, Default)]
pub(crate) struct FaultyStore {
    objects: Arc<InMemory>,
    /// Objects that were removed last: the disk may not know of it yet.
    removed: Arc<Mutex<VecDeque<(Path, Bytes)>>>,
    /// What fails, and the calls before it.
    fault: Mutex<Option<(StoreFault, usize)>>,
    /// Ranges that were read, and of which objects.
    reads: Mutex<Vec<(Path, Range<u64>)>>,
    /// Number of objects that were put.
    puts: AtomicUsize,
    /// Held by writers together, and by a crash alone.
    turn: RwLock<()>,
}

impl FaultyStore {
    /// A copy of all objects, whose calls are well.
    pub(crate) fn fork(&self) -> Self {
        Self { objects: Arc::new(self.objects.fork()), ..Self::default() }
    }

    /// What a disk has after its power has failed: all that was put, since that is synced; and
    /// every second of the objects that were removed last, since a removal is not.
    pub(crate) async fn after_power_loss(&self) -> Self {
        let after = self.fork();
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (path, content) in removed.into_iter().step_by(2) {
            // Of an object that was put again the new content is there.
            let options = PutOptions::from(PutMode::Create);
            let _ = after.objects.put_opts(&path, content.into(), options).await;
        }
        after
    }

    /// As [`FaultyStore::after_power_loss`]; at that moment and for ever all calls of this store
    /// begin to fail.
    pub(crate) async fn crash(&self) -> Self {
        let _turn = self.turn.write().await;
        self.fail_after(0, StoreFault::Gone);
        self.after_power_loss().await
    }

    /// Has calls fail after `calls` more.
    pub(crate) fn fail_after(&self, calls: usize, fault: StoreFault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some((fault, calls));
    }

    /// Ranges of objects that were read since the last call.
    pub(crate) fn take_reads(&self) -> Vec<(Path, Range<u64>)> {
        std::mem::take(&mut self.reads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Number of objects that were put so far.
    pub(crate) fn puts(&self) -> usize {
        self.puts.load(Ordering::SeqCst)
    }

    fn note_read(&self, location: &Path, range: &Range<u64>) {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.push((location.clone(), range.clone()));
    }

    fn call(&self, is_put: bool) -> Result<()> {
        let mut armed = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((fault, calls)) = armed.as_mut() else { return Ok(()) };
        if *fault == StoreFault::Full && !is_put {
            return Ok(());
        }
        if let Some(left) = calls.checked_sub(1) {
            *calls = left;
            return Ok(());
        }
        if *fault == StoreFault::Once {
            *armed = None;
        }
        Err(Error::Generic { store: "FaultyStore", source: "the test has this call fail".into() })
    }
}

async fn note_removed(objects: &InMemory, removed: &Mutex<VecDeque<(Path, Bytes)>>, path: &Path) {
    let Ok(object) = objects.get(path).await else { return };
    let Ok(content) = object.bytes().await else { return };
    let mut removed = removed.lock().unwrap_or_else(PoisonError::into_inner);
    if removed.len() >= REMOVED_KEPT {
        removed.pop_front();
    }
    removed.push_back((path.clone(), content));
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("FaultyStore")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let _turn = self.turn.read().await;
        self.call(true)?;
        let put = self.objects.put_opts(location, payload, options).await;
        self.puts.fetch_add(1, Ordering::SeqCst);
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let _turn = self.turn.read().await;
        self.call(true)?;
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.call(false)?;
        if let Some(GetRange::Bounded(range)) = &options.range {
            self.note_read(location, range);
        }
        self.objects.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.call(false)?;
        ranges.iter().for_each(|range| self.note_read(location, range));
        self.objects.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.call(false) {
            Ok(()) => {
                let (objects, removed) = (Arc::clone(&self.objects), Arc::clone(&self.removed));
                let noted = locations.then(move |location| {
                    let (objects, removed) = (Arc::clone(&objects), Arc::clone(&removed));
                    async move {
                        if let Ok(path) = &location {
                            note_removed(&objects, &removed, path).await;
                        }
                        location
                    }
                });
                self.objects.delete_stream(noted.boxed())
            }
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.call(false) {
            Ok(()) => self.objects.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.call(false)?;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let _turn = self.turn.read().await;
        self.call(true)?;
        self.objects.copy_opts(from, to, options).await
    }
}
