//! [`Env`]: the one door to time, chance, disk, tasks and added connectors.

#[cfg(test)]
pub(crate) mod faulty_store;
mod folder_lock;
mod freed_memory;
mod local_store;
mod machine;
mod recent_objects;
mod scratch;

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use frazil_connector_api::Connectors;
use futures::stream::{self, StreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::{Builder, Uuid};

pub use self::folder_lock::FolderLock;
pub use self::freed_memory::return_freed_memory;
use self::local_store::LocalStore;
pub use self::machine::{Resident, memory_bytes};
use self::recent_objects::RecentObjects;
pub use self::scratch::{Scratch, ScratchReader, ScratchValues};
use crate::error::{Error, ErrorKind, Result};

/// The outside world of an engine: tests give another one.
#[derive(Clone)]
pub struct Env {
    store: Arc<dyn ObjectStore>,
    /// Where the store is a folder of this machine.
    folder: Option<PathBuf>,
    scratch: Option<Scratch>,
    connectors: Arc<Connectors>,
    crash: Option<Arc<CrashPoint>>,
    fault: Option<Arc<CrashPoint>>,
    /// None for true chance.
    seeded: Option<Arc<Mutex<StdRng>>>,
    /// Chooses when workers stall, in tests that ask for it.
    #[cfg(test)]
    stalls: Option<Arc<Mutex<StdRng>>>,
    start: Instant,
}

struct CrashPoint {
    name: String,
    countdown: AtomicU64,
}

impl fmt::Debug for Env {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Env {{ store: {} }}", self.store)
    }
}

impl Env {
    /// The real world over an object store. `FRAZIL_CRASH=point:n` kills the process when it
    /// reaches the named point for the n-th time, `FRAZIL_FAULT=point:n` makes a call fail there;
    /// for tests of recovery.
    ///
    /// # Errors
    /// `InvalidParameter` if one of them is not of that form.
    #[expect(clippy::disallowed_methods, reason = "Env is the door to the clock")]
    pub fn real(store: Arc<dyn ObjectStore>) -> Result<Self> {
        let point = |variable: &str| match std::env::var(variable) {
            Err(_) => Ok(None),
            Ok(text) => CrashPoint::parse(variable, &text).map(|point| Some(Arc::new(point))),
        };
        let (crash, fault) = (point("FRAZIL_CRASH")?, point("FRAZIL_FAULT")?);
        Ok(Self {
            store: Arc::new(RecentObjects::new(store)),
            folder: None,
            scratch: None,
            connectors: Arc::default(),
            crash,
            fault,
            seeded: None,
            #[cfg(test)]
            stalls: None,
            start: Instant::now(),
        })
    }

    /// As [`Env::real`], with a store in a local folder, which must exist.
    ///
    /// # Errors
    /// `Unavailable` if there is no such folder; as [`Env::real`].
    pub fn local(folder: &FilePath) -> Result<Self> {
        let store = LocalStore::open(folder)?;
        Ok(Self { folder: Some(folder.to_path_buf()), ..Self::real(Arc::new(store))? })
    }

    /// Takes the folder of the store for this process alone, until the lock is dropped; `None` for
    /// a store that cannot be locked. The fences of manifests hold without it: it keeps a process
    /// that is started by mistake from ending the one that runs.
    ///
    /// # Errors
    /// `Fenced` if another process has it; `Unavailable` if the lock's file cannot be made.
    pub fn lock_store(&self) -> Result<Option<FolderLock>> {
        match &self.folder {
            Some(folder) => FolderLock::take(folder),
            None => Ok(None),
        }
    }

    /// The same world with scratch files in a directory.
    #[must_use]
    pub fn with_scratch(self, directory: PathBuf) -> Self {
        Self { scratch: Some(Scratch::new(directory)), ..self }
    }

    /// The same world with connectors beside those that every engine has.
    #[must_use]
    pub fn with_connectors(self, connectors: Connectors) -> Self {
        Self { connectors: Arc::new(connectors), ..self }
    }

    /// The connectors that were added.
    pub fn connectors(&self) -> &Connectors {
        &self.connectors
    }

    /// Files for what does not fit into memory, if there are any.
    pub fn scratch(&self) -> Option<&Scratch> {
        self.scratch.as_ref()
    }

    /// The same world with ids that follow from a seed, for tests. Each process needs a seed of its
    /// own: an id that repeats in the next process is taken for that of the former one.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        Self { seeded: Some(Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))), ..self }
    }

    /// The same world with workers that stall now and then, as they do on a busy machine: commands
    /// and rows pile up in front of them.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with_stalls(self, seed: u64) -> Self {
        Self { stalls: Some(Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))), ..self }
    }

    /// A place where a worker may stall.
    #[cfg(test)]
    pub(crate) fn stall(&self) {
        let Some(stalls) = &self.stalls else { return };
        let pause = {
            let mut rng = stalls.lock().unwrap_or_else(PoisonError::into_inner);
            rng.random_ratio(1, 16).then(|| Duration::from_micros(rng.random_range(0..6000)))
        };
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
    }

    /// An id that nobody else has.
    pub fn random_id(&self) -> Uuid {
        let Some(seeded) = &self.seeded else { return Uuid::new_v4() };
        let mut rng = seeded.lock().unwrap_or_else(PoisonError::into_inner);
        Builder::from_random_bytes(rng.random()).into_uuid()
    }

    /// The object store of checkpoints and state.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Removes objects. One that cannot be removed is only a waste of space.
    pub async fn remove(&self, objects: impl IntoIterator<Item = String>) {
        let paths: Vec<_> = objects.into_iter().map(|object| Ok(Path::from(object))).collect();
        let mut removed = self.store.delete_stream(stream::iter(paths).boxed());
        while let Some(removed) = removed.next().await {
            if let Err(error) = removed {
                tracing::debug!(%error, "an old object could not be removed");
            }
        }
    }

    /// Time since the start of the process.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The time of day.
    #[expect(clippy::disallowed_methods, reason = "Env is the door to the clock")]
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from(SystemTime::now())
    }

    /// Milliseconds since 1970 in UTC.
    pub fn now_ms(&self) -> i64 {
        self.now().timestamp_millis()
    }

    /// Microseconds since 1970 in UTC.
    pub fn now_us(&self) -> i64 {
        self.now().timestamp_micros()
    }

    /// Marks a place where a crash is worth a test: kills the process with SIGKILL if it was asked
    /// to die here.
    pub fn reach(&self, point: &str) {
        let Some(crash) = &self.crash else { return };
        if crash.counts(point) {
            crash.die();
        }
    }

    /// The same world, in which a fault point is reached for a test: `point:n`.
    ///
    /// # Errors
    /// `InvalidParameter` if it is not of that form.
    #[cfg(test)]
    pub(crate) fn with_fault(self, text: &str) -> Result<Self> {
        Ok(Self { fault: Some(Arc::new(CrashPoint::parse("a fault", text)?)), ..self })
    }

    /// True if some call was asked to fail.
    pub fn has_fault(&self) -> bool {
        self.fault.is_some()
    }

    /// True if the call at this place was asked to fail.
    pub fn fails(&self, point: &str) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault.counts(point))
    }
}

impl CrashPoint {
    fn counts(&self, point: &str) -> bool {
        self.name == point && self.countdown.fetch_sub(1, Ordering::SeqCst) == 1
    }

    fn parse(variable: &str, text: &str) -> Result<Self> {
        let parsed = text.split_once(':').and_then(|(name, count)| {
            count.parse::<u64>().ok().filter(|count| *count > 0).map(|count| (name, count))
        });
        let (name, count) = parsed.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidParameter,
                format!("{variable} has a bad value \"{text}\""),
            )
            .with_hint("write point:n, such as sink.prepared:3")
        })?;
        Ok(Self { name: name.to_string(), countdown: AtomicU64::new(count) })
    }

    /// SIGKILL, as the kernel's OOM killer or `kill -9` would: no destructor and no buffer flush.
    fn die(&self) -> ! {
        let pid = std::process::id().to_string();
        let _ = std::process::Command::new("kill").args(["-9", &pid]).status();
        std::process::abort()
    }
}
