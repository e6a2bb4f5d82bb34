//! [`Manifests`]: the chain of manifests on the object store, and the fence.
//!
//! ```text
//! manifest object = [segments of small deltas][manifest as JSON][length of the JSON, CRC-32 of it]
//! ```
//!
//! A checkpoint of few rows is one object: its segments lie in front of the manifest that is the
//! first to name them. Later manifests name them there, and such an object stays as long as one
//! does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use frazil_connector_api::{CheckpointNumber, Fence};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::Manifest;
use super::earlier_form::manifest_of_version_4;
use super::manifest::{MANIFESTS, VERSION, manifest_path, manifest_sequence};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::state::{SegmentRef, StoredSegments};

const FENCES: &str = "fence";
/// Where state objects lie.
const STATE: &str = "state";
/// Manifests that are read at the same time.
const READS_AT_ONCE: usize = 8;
/// Manifests kept behind the newest one.
const KEPT: u64 = 3;
/// Bytes at the end of a manifest's object: length and checksum of the JSON in front of them.
const TRAILER: usize = 12;

/// The chain of manifests, as one process sees it.
///
/// How a zombie is refused: a starting process first puts `fence/n+1`, then reads the newest
/// manifest, then puts its own next one. An older process that puts a manifest afterwards either
/// loses the number, or finds the higher fence right after its put and stops before any sink
/// commits. One that put before is read by the newer process, which commits for it.
#[derive(Debug)]
pub struct Manifests {
    env: Env,
    fence: Fence,
}

/// Segments that are to lie in the object of the next manifest.
#[derive(Debug)]
pub struct ManifestBody {
    path: String,
    bytes: Vec<u8>,
}

impl ManifestBody {
    /// Of the manifest that follows `before`.
    pub fn after(before: &Manifest) -> Self {
        Self { path: manifest_path(before.sequence.next()), bytes: Vec::new() }
    }

    /// The segments with the place where they lie: those that have no object get one here.
    pub fn place(&mut self, stored: StoredSegments) -> Vec<SegmentRef> {
        let StoredSegments { mut segments, body } = stored;
        if let Some(body) = body {
            for segment in &mut segments {
                segment.object.clone_from(&self.path);
                segment.offset += self.bytes.len() as u64;
            }
            self.bytes.extend(body);
        }
        segments
    }
}

impl Manifests {
    /// Raises the fence and reads the newest manifest; an empty one for a new directory.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt` if the newest manifest cannot be read or is of another version.
    pub async fn open(env: Env) -> Result<(Self, Manifest)> {
        let newest_fence = newest(&env, FENCES).await?.map_or(0, |(fence, _)| fence);
        let mut fence = Fence(newest_fence).next();
        while !put_if_absent(&env, &fence_path(fence), Vec::new()).await? {
            fence = fence.next();
        }
        let manifests = Self { env, fence };
        loop {
            let mut manifest = match newest(&manifests.env, MANIFESTS).await? {
                None => Manifest::empty(),
                Some((_, Reverse(path))) => manifests.read_whole(&path).await?,
            };
            // The first manifest of each start has all parts, so that few earlier ones are kept.
            manifest.write_again();
            // Taking over: from here on the older process loses the race for this number.
            let body = ManifestBody::after(&manifest);
            match manifests.append(&mut manifest, body).await {
                Ok(()) => return Ok((manifests, manifest)),
                Err(error) if error.kind == ErrorKind::Fenced => {
                    manifests.check_fence().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads manifests of another process.
    #[cfg(test)]
    pub(crate) fn reader(env: Env) -> Self {
        Self { env, fence: Fence::default() }
    }

    /// The fence of this process.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Reads a manifest, and the earlier ones that have parts of it.
    pub(super) async fn read_whole(&self, path: &Path) -> Result<Manifest> {
        let mut manifest = self.read(path).await?;
        let earlier: BTreeSet<CheckpointNumber> = manifest.earlier().collect();
        let reads = earlier.into_iter().map(|sequence| async move {
            let path = Path::from(manifest_path(sequence));
            Ok::<_, Error>((sequence, self.read(&path).await?))
        });
        let reads = futures::stream::iter(reads).buffer_unordered(READS_AT_ONCE);
        let earlier: BTreeMap<CheckpointNumber, Manifest> = reads.try_collect().await?;
        match manifest.resolve(&earlier) {
            None => Ok(manifest),
            Some(sequence) => {
                let lacking = format!("manifest {sequence} does not have what is looked for in it");
                Err(corrupt(path, lacking))
            }
        }
    }

    async fn read(&self, path: &Path) -> Result<Manifest> {
        let bytes = match self.env.store().get(path).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(corrupt(path, "it is missing".to_string()));
            }
            answer => answer?.bytes().await?,
        };
        // Version 4 was JSON alone.
        let text = match path.extension() {
            Some(_) => Some(&*bytes),
            None => text_of(&bytes),
        };
        let text = text.ok_or_else(|| corrupt(path, "its checksum is another one".to_string()))?;
        let value: serde_json::Value =
            serde_json::from_slice(text).map_err(|error| corrupt(path, error.to_string()))?;
        let version = value.get("version").and_then(serde_json::Value::as_u64);
        let manifest = match version {
            Some(4) => manifest_of_version_4(value),
            Some(version) if version == u64::from(VERSION) => serde_json::from_value(value),
            _ => {
                let other = format!("its version is {version:?}, this program reads {VERSION}");
                return Err(
                    corrupt(path, other).with_hint("open it with the program that wrote it")
                );
            }
        };
        manifest.map_err(|error| corrupt(path, error.to_string()))
    }

    /// Puts the next manifest of the chain: the commit point of a checkpoint. Sets the sequence and
    /// the fence in it. A manifest that could not be put is of no more use.
    ///
    /// # Errors
    /// `Fenced` if another process has put this number or raised the fence; `Unavailable`.
    pub async fn append(&self, manifest: &mut Manifest, body: ManifestBody) -> Result<()> {
        manifest.sequence = manifest.sequence.next();
        manifest.fence = self.fence;
        let path = manifest_path(manifest.sequence);
        if path != body.path {
            return Err(Error::internal("segments were placed in another manifest"));
        }
        let mut bytes = body.bytes;
        let start = bytes.len();
        serde_json::to_writer(&mut bytes, manifest).map_err(|error| {
            Error::internal(format!("a manifest could not be written: {error}"))
        })?;
        let (length, checksum) = (bytes.len() - start, crc32fast::hash(&bytes[start..]));
        bytes.extend((length as u64).to_le_bytes());
        bytes.extend(checksum.to_le_bytes());
        if !put_if_absent(&self.env, &path, bytes).await? {
            return Err(self.fenced());
        }
        self.check_fence().await?;
        manifest.is_written();
        Ok(())
    }

    async fn check_fence(&self) -> Result<()> {
        // Every start puts the first fence that is not there, and none is ever removed: if there is
        // a higher one, then so is the next.
        let next = fence_path(self.fence.next());
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

    /// Objects that the manifest does not name: what a crash left. To be asked before this process
    /// writes its first one; an older process has lost by then, whatever it still writes.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn unnamed(&self, manifest: &Manifest) -> Result<Vec<String>> {
        let named: BTreeSet<String> = manifest.objects().collect();
        let found = [STATE, MANIFESTS].map(|folder| self.env.store().list(Some(&folder.into())));
        let unnamed = futures::stream::iter(found).flatten().try_filter_map(|object| {
            let name = object.location.to_string();
            let is_needed = named.contains(&name) || is_recent(manifest, &name);
            futures::future::ready(Ok((!is_needed).then_some(name)))
        });
        Ok(unnamed.try_collect().await?)
    }
}

/// What can be removed once a manifest is the newest: `garbage`, but for manifests that are recent,
/// and the manifest that is not recent from this one on.
pub fn removable(manifest: &Manifest, mut garbage: Vec<String>) -> Vec<String> {
    garbage.retain(|object| !is_recent(manifest, object));
    let old = manifest.sequence.0.checked_sub(KEPT).filter(|old| *old > 0).map(CheckpointNumber);
    garbage.extend(old.filter(|old| !manifest.needs_manifest(*old)).map(manifest_path));
    garbage
}

/// True for one of the last manifests. The newest is looked for by its number, so the last ones
/// stay, whatever they hold.
fn is_recent(manifest: &Manifest, object: &str) -> bool {
    let sequence = manifest_sequence(object);
    sequence.is_some_and(|sequence| sequence.0 + KEPT > manifest.sequence.0)
}

/// The JSON in the bytes of a manifest's object, if its checksum is right.
fn text_of(bytes: &[u8]) -> Option<&[u8]> {
    let (rest, trailer) = bytes.split_at_checked(bytes.len().checked_sub(TRAILER)?)?;
    let (length, checksum) = trailer.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let text = rest.get(rest.len().checked_sub(length)?..)?;
    (crc32fast::hash(text).to_le_bytes() == checksum).then_some(text)
}

fn corrupt(path: &Path, detail: String) -> Error {
    let message = format!("\"{path}\" cannot be read");
    Error::new(ErrorKind::Corrupt, message).with_detail(detail)
}

fn fence_path(fence: Fence) -> String {
    format!("{FENCES}/{fence:012}")
}

/// The highest number among the names in a folder, and the object that has it. Of two forms of one
/// number it is that without an extension.
pub(super) async fn newest(env: &Env, folder: &str) -> Result<Option<(u64, Reverse<Path>)>> {
    let numbered = env.store().list(Some(&Path::from(folder))).try_filter_map(|object| {
        let name = object.location.filename().unwrap_or_default();
        let number = name.split('.').next().and_then(|number| number.parse::<u64>().ok());
        futures::future::ready(Ok(number.map(|number| (number, Reverse(object.location)))))
    });
    Ok(numbered.try_fold(None, |most, it| async move { Ok(most.max(Some(it))) }).await?)
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
    use std::sync::Arc;

    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::catalog::RelationId;
    use crate::checkpoint::StatementRecord;
    use crate::types::TypeForms;

    #[test]
    fn types_of_a_statement_of_before_are_text() {
        let record = serde_json::from_str::<StatementRecord>(r#"{"id": 1, "sql": "x"}"#);
        assert_eq!(record.unwrap().forms, TypeForms::Text);
    }

    fn env() -> Env {
        Env::real(Arc::new(object_store::memory::InMemory::new())).unwrap()
    }

    async fn append(manifests: &Manifests, manifest: &mut Manifest) -> Result<()> {
        let body = ManifestBody::after(manifest);
        manifests.append(manifest, body).await
    }

    #[tokio::test]
    async fn newest_manifest_is_found_after_a_restart() {
        let env = env();
        let (manifests, mut manifest) = Manifests::open(env.clone()).await.unwrap();
        manifest.epoch = 7;
        append(&manifests, &mut manifest).await.unwrap();
        let (restarted, found) = Manifests::open(env).await.unwrap();
        assert_eq!((found.epoch, restarted.fence()), (7, manifests.fence().next()));
    }

    #[tokio::test]
    async fn older_process_is_refused_at_its_next_manifest() {
        let env = env();
        let (older, mut manifest) = Manifests::open(env.clone()).await.unwrap();
        let (newer, mut taken) = Manifests::open(env.clone()).await.unwrap();
        let refused = append(&older, &mut manifest).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Fenced);
        append(&newer, &mut taken).await.unwrap();
    }

    #[tokio::test]
    async fn older_process_is_refused_even_where_its_number_was_swept_away() {
        let env = env();
        let (older, mut stale) = Manifests::open(env.clone()).await.unwrap();
        let (newer, mut manifest) = Manifests::open(env.clone()).await.unwrap();
        for _ in 0..10 {
            append(&newer, &mut manifest).await.unwrap();
            env.remove(removable(&manifest, Vec::new())).await;
        }
        let refused = append(&older, &mut stale).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Fenced);
        let (_, found) = Manifests::open(env).await.unwrap();
        assert_eq!(found.sequence, manifest.sequence.next());
    }

    fn segment(relation: u32, object: &str) -> SegmentRef {
        SegmentRef {
            relation: RelationId(relation),
            operator: crate::state::OperatorId(uuid::Uuid::nil()),
            table: 0,
            shards: crate::change::ShardRange::ALL,
            key_columns: 0,
            object: object.to_string(),
            offset: 0,
            length: 1,
            directory: 0,
            rows: 1,
            crc: None,
        }
    }

    #[tokio::test]
    async fn a_start_finds_what_a_crash_has_left() {
        let env = env();
        let (manifests, mut manifest) = Manifests::open(env.clone()).await.unwrap();
        for name in ["state/named.seg", "state/left.seg"] {
            env.store().put(&Path::from(name), PutPayload::from_static(b"x")).await.unwrap();
        }
        manifest.add_segments([segment(1, "state/named.seg")]);
        for _ in 0..5 {
            // A process that is killed before it removes old manifests.
            append(&manifests, &mut manifest).await.unwrap();
        }
        let (restarted, found) = Manifests::open(env).await.unwrap();
        let mut left = restarted.unnamed(&found).await.unwrap();
        left.sort_unstable();
        // The newest manifest is the seventh; the second has the segments of the sixth.
        let expected = ["manifest/000000000001", "manifest/000000000002", "manifest/000000000003"];
        assert_eq!(left[..3], expected);
        assert_eq!(left[3..], ["manifest/000000000004", "state/left.seg"]);
    }

    /// Law: whatever is added, replaced and dropped, a start finds the parts as they are, and the
    /// store has the needed objects and no others.
    #[tokio::test]
    async fn parts_are_found_in_earlier_manifests_and_these_are_kept_for_as_long() {
        let env = env();
        let (mut manifests, mut manifest) = Manifests::open(env.clone()).await.unwrap();
        let mut dice = rand::rngs::StdRng::seed_from_u64(5);
        for step in 0..400 {
            let before = manifest.clone();
            let relation = dice.random_range(1..8);
            let mut body = ManifestBody::after(&manifest);
            match dice.random_range(0..10) {
                0 => manifest.retain_segments(RelationId(relation), |_| false),
                1 => manifest.retain_segments(RelationId(relation), |it| it.offset % 2 == 0),
                2 => manifest.catalog.edit().statements.push(StatementRecord {
                    id: RelationId(relation),
                    sql: format!("CREATE {step}"),
                    forms: TypeForms::Own,
                }),
                _ => {
                    let segments = vec![SegmentRef { offset: 0, ..segment(relation, "") }];
                    let bytes = vec![0; dice.random_range(0..9)];
                    let stored = StoredSegments { segments, body: Some(bytes) };
                    manifest.add_segments(body.place(stored));
                }
            }
            manifests.append(&mut manifest, body).await.unwrap();
            let garbage = manifest.garbage(&before, Vec::new());
            env.remove(removable(&manifest, garbage)).await;
            if step % 10 == 9 {
                let (restarted, mut found) = Manifests::open(env.clone()).await.unwrap();
                assert_eq!(found.catalog.statements, manifest.catalog.statements);
                assert!(found.segments().eq(manifest.segments()));
                env.remove(restarted.unnamed(&found).await.unwrap()).await;
                let objects = env.store().list(Some(&Path::from(MANIFESTS)));
                let objects: Vec<_> = objects.try_collect().await.unwrap();
                let needed: BTreeSet<String> = found.objects().collect();
                let is_needed = |name: &str| needed.contains(name) || is_recent(&found, name);
                for object in objects {
                    assert!(is_needed(object.location.as_ref()), "{}", object.location);
                }
                found.catalog.edit();
                (manifests, manifest) = (restarted, found);
            }
        }
    }

    #[tokio::test]
    async fn a_damaged_manifest_is_noticed() {
        let env = env();
        let (manifests, mut manifest) = Manifests::open(env.clone()).await.unwrap();
        append(&manifests, &mut manifest).await.unwrap();
        let path = Path::from(manifest_path(manifest.sequence));
        let bytes = env.store().get(&path).await.unwrap().bytes().await.unwrap();
        for place in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[place] ^= 0x10;
            env.store().put(&path, PutPayload::from(damaged)).await.unwrap();
            let error = manifests.read(&path).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Corrupt, "byte {place}");
        }
    }
}
