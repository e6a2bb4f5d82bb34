//! [`Ledger`]: sinks whose targets are maps in memory, which outlive the engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use frazil_connector_api::{
    ChangeBatch, CommitMark, CommitOutcome, Committable, ConnectorError, ConnectorErrorKind,
    Fragment, LastCommit, OptionSpec, Options, Result, Resume, SinkCommitter, SinkConnector,
    SinkMode, SinkStatus, SinkWriter,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rows::texts;

const OPTIONS: [OptionSpec; 2] = [
    OptionSpec::required("table", "the target"),
    OptionSpec::optional("commit_interval", "the engine's own"),
];

/// Changes of one batch, by key: the new row, or none.
type Batch = BTreeMap<String, Vec<Option<String>>>;

/// Targets by name, as one engine reaches them.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    targets: Arc<Mutex<Targets>>,
    /// Number of the engine that uses it.
    generation: u64,
}

#[derive(Debug, Clone, Default)]
struct Targets {
    /// Engines before this one are dead: what they send does not arrive.
    alive: u64,
    /// Commits that were asked for.
    requests: u64,
    by_name: BTreeMap<String, Target>,
}

#[derive(Debug, Clone, Default)]
struct Target {
    rows: Batch,
    last: Option<CommitMark>,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    previous: Option<Uuid>,
    batches: Vec<Batch>,
}

impl Ledger {
    /// The same targets for the next engine; nothing of the one before arrives any more.
    pub(super) fn cut(&self) -> Self {
        let mut targets = self.targets.lock().unwrap();
        targets.alive += 1;
        Self { targets: Arc::clone(&self.targets), generation: targets.alive }
    }

    /// A copy of all targets, for an engine that only tries something.
    pub(super) fn fork(&self) -> Self {
        let targets = self.targets.lock().unwrap().clone();
        Self { targets: Arc::new(Mutex::new(targets)), generation: self.generation }
    }

    /// The rows of a target as text, sorted.
    pub(super) fn rows(&self, name: &str) -> Vec<String> {
        let targets = self.targets.lock().unwrap();
        let rows = targets.by_name.get(name).into_iter().flat_map(|target| target.rows.values());
        let mut rows: Vec<String> = rows.flatten().flatten().cloned().collect();
        rows.sort_unstable();
        rows
    }
}

impl SinkConnector for Ledger {
    fn name(&self) -> &str {
        "ledger"
    }

    fn options(&self) -> &[OptionSpec] {
        &OPTIONS
    }

    fn build(
        &self,
        mut options: Options,
        _schema: SchemaRef,
        mode: SinkMode,
        _id: Uuid,
    ) -> Result<Box<dyn SinkCommitter>> {
        let name = options.require("table")?;
        options.take("commit_interval");
        options.finish(&OPTIONS)?;
        Ok(Box::new(Book { ledger: self.clone(), name, mode, batches: Vec::new() }))
    }
}

/// A sink into one target, and its writers.
#[derive(Debug, Clone)]
struct Book {
    ledger: Ledger,
    name: String,
    mode: SinkMode,
    /// What a writer has taken.
    batches: Vec<Batch>,
}

fn wrong(message: &str) -> ConnectorError {
    ConnectorError::new(ConnectorErrorKind::Target, message)
}

impl Book {
    /// The targets, unless the engine is dead.
    fn targets(&self) -> Result<MutexGuard<'_, Targets>> {
        let targets = self.ledger.targets.lock().unwrap();
        if targets.alive != self.ledger.generation {
            return Err(ConnectorError::unavailable("the process is dead"));
        }
        Ok(targets)
    }

    fn show(&self, committable: &Committable) -> Result<CommitOutcome> {
        let mut targets = self.targets()?;
        targets.requests += 1;
        let (request, mark) = (targets.requests, committable.mark);
        let snapshot = mark.id.to_string();
        let target = targets.by_name.entry(self.name.clone()).or_default();
        if target.last.is_some_and(|last| last.id == mark.id) {
            return Ok(CommitOutcome::Committed { snapshot });
        }
        if target.last.is_some_and(|last| last.fence > mark.fence) {
            return Err(ConnectorError::new(ConnectorErrorKind::Fenced, "an older process"));
        }
        let payload: Payload = serde_json::from_str(&committable.payload).unwrap();
        if target.last.map(|last| last.id) != payload.previous {
            return Err(wrong("a commit that does not follow the last one"));
        }
        // Some requests do not arrive, some replies do not, and some find another writer.
        let reason = "a fault of the law".to_string();
        match request % 24 {
            7 | 15 => return Ok(CommitOutcome::Conflict { reason }),
            20 => return Ok(CommitOutcome::Unknown { reason }),
            _ => {}
        }
        for batch in payload.batches {
            for (key, mut rows) in batch {
                // A key of all rows that have none keeps each of them.
                let kept = target.rows.entry(key).or_default();
                match &self.mode {
                    SinkMode::AppendOnly => kept.append(&mut rows),
                    SinkMode::Upsert { .. } => *kept = rows,
                }
            }
        }
        target.last = Some(mark);
        match request % 24 {
            11 => Ok(CommitOutcome::Unknown { reason }),
            _ => Ok(CommitOutcome::Committed { snapshot }),
        }
    }

    /// The changes of a batch, by key.
    fn batch(&self, changes: &ChangeBatch) -> Result<Batch> {
        let rows = texts(changes.rows());
        let keys = match &self.mode {
            SinkMode::AppendOnly => vec![String::new(); rows.len()],
            SinkMode::Upsert { key } => texts(&key_columns(changes.rows(), key)?),
        };
        let mut batch = Batch::new();
        for (at, (key, row)) in keys.into_iter().zip(rows).enumerate() {
            let weight = changes.weight(at);
            let is_append_only = self.mode == SinkMode::AppendOnly;
            let news = batch.entry(key).or_default();
            match weight {
                1.. if is_append_only => {
                    news.extend(std::iter::repeat_n(Some(row), weight as usize));
                }
                1 if news.iter().any(Option::is_some) => return Err(wrong("two rows of one key")),
                1 => *news = vec![Some(row)],
                -1 if !is_append_only && news.is_empty() => news.push(None),
                -1 if !is_append_only => {}
                _ => return Err(wrong("a change that this sink cannot get")),
            }
        }
        Ok(batch)
    }
}

fn key_columns(rows: &RecordBatch, key: &[usize]) -> Result<RecordBatch> {
    rows.project(key).map_err(|error| ConnectorError::internal(error.to_string()))
}

#[async_trait]
impl SinkCommitter for Book {
    async fn open(&mut self, resume: &Resume) -> Result<()> {
        if let LastCommit::Prepared(committable) = &resume.last {
            return match self.show(committable)? {
                CommitOutcome::Committed { .. } => Ok(()),
                _ => Err(ConnectorError::unavailable("not committed yet")),
            };
        }
        let mut targets = self.targets()?;
        let target = targets.by_name.entry(self.name.clone()).or_default();
        if target.last.is_some_and(|last| last.fence > resume.fence) {
            return Err(ConnectorError::new(ConnectorErrorKind::Fenced, "an older process"));
        }
        match target.last.map(|last| last.id) == resume.last.mark().map(|mark| mark.id) {
            true => Ok(()),
            false => Err(wrong("a commit that the data directory does not know")),
        }
    }

    fn writer(&mut self) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(self.clone()))
    }

    async fn merge(
        &mut self,
        mark: CommitMark,
        fragments: Vec<Fragment>,
    ) -> Result<Option<Committable>> {
        let batches = fragments.iter().flat_map(|fragment| {
            serde_json::from_str::<Vec<Batch>>(&fragment.payload).expect("a writer wrote it")
        });
        let batches: Vec<Batch> = batches.collect();
        if batches.is_empty() {
            return Ok(None);
        }
        let targets = self.targets()?;
        let target = targets.by_name.get(&self.name);
        let previous = target.and_then(|target| target.last).map(|last| last.id);
        let payload = serde_json::to_string(&Payload { previous, batches });
        Ok(Some(Committable { mark, payload: payload.expect("text is JSON") }))
    }

    async fn commit(&mut self, committable: &Committable) -> Result<CommitOutcome> {
        self.show(committable)
    }

    async fn abort(&mut self, _: Vec<Fragment>) -> Result<()> {
        Ok(())
    }

    async fn drop_target(&mut self) -> Result<()> {
        self.targets()?.by_name.remove(&self.name);
        Ok(())
    }

    fn status(&self) -> SinkStatus {
        SinkStatus {
            target: self.name.clone(),
            location: format!("ledger/{}", self.name),
            ..SinkStatus::default()
        }
    }
}

#[async_trait]
impl SinkWriter for Book {
    async fn write(&mut self, changes: ChangeBatch) -> Result<()> {
        self.batches.push(self.batch(&changes)?);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Option<Fragment>> {
        if self.batches.is_empty() {
            return Ok(None);
        }
        let payload = serde_json::to_string(&self.batches).expect("text is JSON");
        Ok(Some(Fragment { payload }))
    }

    async fn abort(self: Box<Self>) {}
}
