//! [`Manifests`]: the chain of manifests on the object store, and the fence.

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::Manifest;
use super::manifest::VERSION;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

const MANIFESTS: &str = "manifest";
const FENCES: &str = "fence";
/// Where state objects lie.
const STATE: &str = "state";
/// Objects that are removed at the same time.
const DELETES_AT_ONCE: usize = 8;
/// Manifests kept behind the newest one.
const KEPT: u64 = 3;

/// The chain of manifests, as one process sees it.
///
/// How a zombie is refused: a starting process first puts `fence/n+1`, then reads the newest
/// manifest, then puts its own next one. An older process that puts a manifest afterwards either
/// loses the number, or finds the higher fence right after its put and stops before any sink
/// commits. One that put before is read by the newer process, which commits for it.
#[derive(Debug)]
pub struct Manifests {
    env: Env,
    fence: u64,
}

impl Manifests {
    /// Raises the fence and reads the newest manifest; an empty one for a new directory.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt` if the newest manifest cannot be read or is of another version.
    pub async fn open(env: Env) -> Result<(Self, Manifest)> {
        let mut fence = newest(&env, FENCES).await?.unwrap_or(0) + 1;
        while !put_if_absent(&env, &fence_path(fence), Vec::new()).await? {
            fence += 1;
        }
        let manifests = Self { env, fence };
        loop {
            let mut manifest = match newest(&manifests.env, MANIFESTS).await? {
                None => Manifest::empty(),
                Some(sequence) => manifests.read(sequence).await?,
            };
            // Taking over: from here on the older process loses the race for this number.
            match manifests.append(&mut manifest).await {
                Ok(()) => return Ok((manifests, manifest)),
                Err(error) if error.kind == ErrorKind::Fenced => {
                    manifests.check_fence().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The fence of this process.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    async fn read(&self, sequence: u64) -> Result<Manifest> {
        let path = Path::from(format!("{MANIFESTS}/{sequence:012}.json"));
        let bytes = self.env.store().get(&path).await?.bytes().await?;
        let corrupt = |detail: String| {
            Error::new(ErrorKind::Corrupt, format!("manifest {sequence} cannot be read"))
                .with_detail(detail)
        };
        let text: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        let version = text.get("version").and_then(serde_json::Value::as_u64);
        if version != Some(u64::from(VERSION)) {
            return Err(corrupt(format!(
                "its version is {version:?}, this program reads {VERSION}"
            ))
            .with_hint("open it with the program that wrote it"));
        }
        serde_json::from_value(text).map_err(|error| corrupt(error.to_string()))
    }

    /// Puts the next manifest of the chain: the commit point of a checkpoint. Sets the sequence and
    /// the fence in it.
    ///
    /// # Errors
    /// `Fenced` if another process has put this number or raised the fence; `Unavailable`.
    pub async fn append(&self, manifest: &mut Manifest) -> Result<()> {
        let sequence = manifest.sequence + 1;
        let next = Manifest { sequence, fence: self.fence, ..manifest.clone() };
        let bytes = serde_json::to_vec(&next).map_err(|error| {
            Error::internal(format!("a manifest could not be written: {error}"))
        })?;
        let path = format!("{MANIFESTS}/{sequence:012}.json");
        if !put_if_absent(&self.env, &path, bytes).await? {
            return Err(self.fenced());
        }
        self.check_fence().await?;
        *manifest = next;
        Ok(())
    }

    async fn check_fence(&self) -> Result<()> {
        // Every start puts the first fence that is not there, and none is ever removed: if there is
        // a higher one, then so is the next.
        let next = fence_path(self.fence + 1);
        match self.env.store().head(&Path::from(next)).await {
            Ok(_) => Err(self.fenced()),
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn fenced(&self) -> Error {
        Error::new(ErrorKind::Fenced, "another process has taken over the data directory")
            .with_detail(format!("this process has fence {}", self.fence))
            .with_hint("stop the other process, or give this one a data directory of its own")
    }

    /// State objects that the manifest does not name: what a crash left. To be asked before this
    /// process writes its first one; an older process has lost by then, whatever it still writes.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn unnamed(&self, manifest: &Manifest) -> Result<Vec<String>> {
        let named = manifest.objects();
        let found = self.env.store().list(Some(&Path::from(STATE)));
        let unnamed = found.try_filter_map(|object| {
            let name = object.location.to_string();
            futures::future::ready(Ok((!named.contains(name.as_str())).then_some(name)))
        });
        Ok(unnamed.try_collect().await?)
    }

    /// Removes manifests and objects that the newest manifest does not need any more. `before` are
    /// the objects of the manifest before it.
    pub async fn sweep(&self, manifest: &Manifest, garbage: Vec<String>) {
        let old = manifest.sequence.checked_sub(KEPT).filter(|sequence| *sequence > 0);
        let old = old.map(|sequence| format!("{MANIFESTS}/{sequence:012}.json"));
        let all = futures::stream::iter(garbage.into_iter().chain(old));
        let delete = |object: String| async move {
            // An object that cannot be removed is only a waste of space.
            if let Err(error) = self.env.store().delete(&Path::from(object.as_str())).await {
                tracing::debug!(%error, object, "an old object could not be removed");
            }
        };
        all.for_each_concurrent(DELETES_AT_ONCE, delete).await;
    }
}

fn fence_path(fence: u64) -> String {
    format!("{FENCES}/{fence:012}")
}

/// The highest number among the names in a folder.
async fn newest(env: &Env, folder: &str) -> Result<Option<u64>> {
    let numbers = env.store().list(Some(&Path::from(folder))).map(|object| {
        object.map(|object| {
            let name = object.location.filename().unwrap_or_default();
            name.split('.').next().and_then(|number| number.parse::<u64>().ok())
        })
    });
    let numbers: Vec<Option<u64>> = numbers.try_collect().await?;
    Ok(numbers.into_iter().flatten().max())
}

async fn put_if_absent(env: &Env, path: &str, bytes: Vec<u8>) -> Result<bool> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let put = env.store().put_opts(&Path::from(path), PutPayload::from(bytes), options).await;
    match put {
        Ok(_) => Ok(true),
        Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn env() -> Env {
        Env::real(Arc::new(object_store::memory::InMemory::new())).unwrap()
    }

    #[tokio::test]
    async fn newest_manifest_is_found_after_a_restart() {
        let env = env();
        let (manifests, mut manifest) = Manifests::open(env.clone()).await.unwrap();
        manifest.epoch = 7;
        manifests.append(&mut manifest).await.unwrap();
        let (restarted, found) = Manifests::open(env).await.unwrap();
        assert_eq!((found.epoch, restarted.fence()), (7, manifests.fence() + 1));
    }

    #[tokio::test]
    async fn older_process_is_refused_at_its_next_manifest() {
        let env = env();
        let (older, mut manifest) = Manifests::open(env.clone()).await.unwrap();
        let (newer, mut taken) = Manifests::open(env.clone()).await.unwrap();
        let refused = older.append(&mut manifest).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Fenced);
        newer.append(&mut taken).await.unwrap();
    }

    #[tokio::test]
    async fn older_process_is_refused_even_where_its_number_was_swept_away() {
        let env = env();
        let (older, mut stale) = Manifests::open(env.clone()).await.unwrap();
        let (newer, mut manifest) = Manifests::open(env.clone()).await.unwrap();
        for _ in 0..10 {
            newer.append(&mut manifest).await.unwrap();
            newer.sweep(&manifest, Vec::new()).await;
        }
        let refused = older.append(&mut stale).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Fenced);
        let (_, found) = Manifests::open(env).await.unwrap();
        assert_eq!(found.sequence, manifest.sequence + 1);
    }

    #[tokio::test]
    async fn a_start_finds_what_a_crash_has_left() {
        let env = env();
        let (manifests, mut manifest) = Manifests::open(env.clone()).await.unwrap();
        for name in ["state/named.seg", "state/left.seg"] {
            env.store().put(&Path::from(name), PutPayload::from_static(b"x")).await.unwrap();
        }
        manifest.segments.push(crate::state::SegmentRef {
            relation: crate::catalog::RelationId(1),
            operator: crate::state::OperatorId(uuid::Uuid::nil()),
            table: 0,
            shards: crate::change::ShardRange::ALL,
            key_columns: 0,
            object: "state/named.seg".to_string(),
            offset: 0,
            length: 1,
            directory: 0,
            rows: 1,
        });
        manifests.append(&mut manifest).await.unwrap();
        let (restarted, found) = Manifests::open(env).await.unwrap();
        assert_eq!(restarted.unnamed(&found).await.unwrap(), ["state/left.seg"]);
    }
}
