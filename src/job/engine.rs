//! [`Engine`]: the handle of a running engine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use frazil_connector_api::{ChangeBatch, Decoded, Positions, SinkMode, SinkStatus};
use tokio::sync::{mpsc, oneshot, watch};

use self::start_offsets::start_offsets;
use super::message::{Applied, Message};
use super::recent_writes::WrittenKeys;
use super::relation_errors::{being_resumed, dropped, input_failed};
use super::schedule::Records;
use super::sink_slot::SinkSlot;
use super::state::EngineState;
use super::uncancelled::uncancelled;
use super::{JobStatus, PipelineRun, WorkerSilence};
use crate::catalog::{Catalog, Definition, Relation, RelationId, SinkDef};
use crate::change::hash_rows;
use crate::config::Config;
use crate::dataflow::{
    CatalogChange, CheckedRelation, RemoteRows, Step, build_sink, build_source, check_catalog,
};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{self, Bound, Statement, StatementKind};
use crate::state::MemoryAccount;

mod snapshot;
mod start_offsets;
mod workers;

pub use snapshot::{ReadToWrite, RelationSnapshot, Snapshot};
pub(super) use workers::Workers;

/// The handle of a running engine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) config: Config,
    pub(super) env: Env,
    pub(super) state: Arc<EngineState>,
    /// To the coordinator; none in a process that only lends its workers.
    pub(super) messages: Option<mpsc::Sender<Message>>,
    pub(super) workers: Workers,
    /// Rows that other processes keep.
    pub(super) remote_rows: Option<Arc<RemoteRows>>,
    /// One statement at a time is checked and applied.
    pub(super) ddl: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Engine {
    pub(super) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// True in process 0.
    pub(super) fn coordinates(&self) -> bool {
        self.inner.messages.is_some()
    }

    pub(super) fn state(&self) -> &EngineState {
        &self.inner.state
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The engine's door to the outside world.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    pub(super) fn downgrade(&self) -> std::sync::Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    pub(super) fn upgrade(inner: &std::sync::Weak<Inner>) -> Option<Self> {
        inner.upgrade().map(|inner| Self { inner })
    }

    /// The catalog as of now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.inner.state.catalog()
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T>>) -> Message,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.post(message(reply)).await?;
        self.answer(answer).await
    }

    /// Sends the coordinator a message.
    async fn post(&self, message: Message) -> Result<()> {
        let Some(messages) = &self.inner.messages else {
            return Err(Error::unsupported("this process only lends its workers")
                .with_hint("connect to process 0"));
        };
        match messages.send(message).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.gone().await),
        }
    }

    async fn answer<T>(&self, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.gone().await),
        }
    }

    /// Why nobody answers. Whoever was to answer may give up before the coordinator has heard why:
    /// the reason is known when that has ended, at the latest.
    async fn gone(&self) -> Error {
        let mut fatal = self.inner.state.fatal();
        let ended = async {
            if let Some(messages) = &self.inner.messages {
                messages.closed().await;
            }
        };
        tokio::select! {
            _ = fatal.wait_for(Option::is_some) => {}
            () = ended => {}
        }
        let error = self.inner.state.fatal().borrow().clone();
        error.unwrap_or_else(|| Error::new(ErrorKind::Shutdown, "the engine is going down"))
    }

    /// Applies the text of CREATE and DROP statements: installed on all workers, backfilled,
    /// durable. Each is bound to the catalog that the ones before it leave, and all are checked
    /// before the first is applied. Returns what was made or dropped; nothing if IF [NOT] EXISTS
    /// left nothing to do.
    ///
    /// # Errors
    /// What binding or the connector says.
    pub async fn apply(&self, sql: &str) -> Result<Vec<Arc<Relation>>> {
        let (engine, sql) = (self.clone(), sql.to_string());
        // If the caller gives up, this end is dropped, and the coordinator takes a CREATE back.
        let (reply, answer) = oneshot::channel();
        match uncancelled(async move { engine.begin(&sql, reply).await }).await? {
            false => Ok(Vec::new()),
            true => Ok(self.answer(answer).await?.relations),
        }
    }

    /// Starts a failed relation again, and what failed along with it; returns when all that can be
    /// resumed is up to date and durable. Gives a line for each that cannot.
    ///
    /// # Errors
    /// `JobFailed` if it has not failed or cannot be resumed; what it meets while it catches up.
    pub async fn resume(&self, relation: RelationId) -> Result<Vec<String>> {
        let (mut waiting, mut notices) = (VecDeque::from([relation]), Vec::new());
        while let Some(root) = waiting.pop_front() {
            let applied = async {
                let lock = self.inner.ddl.lock().await;
                let (begun, has_begun) = oneshot::channel();
                let (reply, answer) = oneshot::channel();
                self.post(Message::Resume { root, begun, reply }).await?;
                let _ = has_begun.await;
                drop(lock);
                self.answer(answer).await
            };
            match applied.await {
                Ok(applied) => {
                    waiting.extend(applied.later);
                    notices.extend(applied.notices);
                }
                Err(error) if root == relation => return Err(error),
                Err(error) => {
                    let name = self.catalog().by_id(root).map(|it| it.name.clone());
                    let name = name.unwrap_or_else(|| root.to_string());
                    notices.push(format!("\"{name}\" is not resumed: {error}"));
                }
            }
        }
        Ok(notices)
    }

    /// Checks statements and has the workers begin with them; false if there is nothing to do.
    async fn begin(&self, sql: &str, reply: oneshot::Sender<Result<Applied>>) -> Result<bool> {
        loop {
            let mut changed = self.inner.state.starting_changed();
            let lock = self.inner.ddl.lock().await;
            let starting = self.inner.state.starting();
            let catalog = self.inner.state.ddl_catalog();
            let statements = sql::parse(sql)?;
            // As in PostgreSQL, a statement waits for one that makes what it names.
            if statements.iter().any(|statement| concerns(&catalog, statement, &starting)) {
                drop(lock);
                self.wait_for(&mut changed).await?;
                continue;
            }
            let Some(checked) = self.check_all(&catalog, &statements).await? else {
                return Ok(false);
            };
            let Checked { change, sink, starts } = checked;
            let reads = change.made().flat_map(|made| &made.relation().depends_on);
            if reads.into_iter().any(|input| starting.contains(input)) {
                drop(lock);
                if let Some(sink) = sink {
                    sink.undo_open().await;
                }
                self.wait_for(&mut changed).await?;
                continue;
            }
            let (change, (begun, has_begun)) = (Arc::new(change), oneshot::channel());
            self.post(Message::Apply { change, sink, starts, begun, reply }).await?;
            let _ = has_begun.await;
            return Ok(true);
        }
    }

    /// Waits until a relation is not created or resumed any more, or another one is.
    async fn wait_for(&self, changed: &mut watch::Receiver<u64>) -> Result<()> {
        let Some(messages) = &self.inner.messages else { return Err(self.gone().await) };
        tokio::select! {
            _ = changed.changed() => Ok(()),
            () = messages.closed() => Err(self.gone().await),
        }
    }

    /// Binds, plans and checks statements, each over the catalog that the ones before it leave;
    /// `None` if nothing is to be done.
    async fn check_all(
        &self,
        catalog: &Catalog,
        statements: &[Statement],
    ) -> Result<Option<Checked>> {
        let mut catalog = catalog.clone();
        let (mut sink, mut starts) = (None, BTreeMap::new());
        let mut change = CatalogChange::default();
        for statement in statements {
            match sql::bind(&catalog, statement)? {
                Bound::Create(new) => {
                    let mut entered = catalog.clone();
                    let made = new.enter(&mut entered, &statement.text)?.into_iter();
                    let made: Vec<_> = made.map(CheckedRelation::try_new).collect::<Result<_>>()?;
                    if let Some(named) = made.first() {
                        starts = start_offsets(self.env(), &catalog, named.relation()).await?;
                        sink = self.check(&catalog, named.relation()).await?;
                    }
                    change.steps.extend(made.into_iter().map(|made| Step::Make(Arc::new(made))));
                    catalog = entered;
                }
                Bound::Drop(removal) => {
                    let dropped = catalog.drop_relations(&removal)?;
                    change.steps.extend(dropped.iter().map(|relation| Step::Drop(relation.id)));
                }
                // IF [NOT] EXISTS is decided here, where no other statement comes between.
                Bound::AlreadyExists { .. } | Bound::NothingToDrop { .. } => {}
                _ => {
                    let message = format!("{} is no definition", statement.kind.tag());
                    return Err(Error::new(ErrorKind::InvalidSql, message));
                }
            }
        }
        Ok((!change.steps.is_empty()).then_some(Checked { change, sink, starts }))
    }

    /// Checks with the connector what binding cannot know; opens a sink.
    async fn check(&self, catalog: &Catalog, new: &Relation) -> Result<Option<Arc<SinkSlot>>> {
        for id in &new.depends_on {
            if let Some(error) = self.inner.state.failure(*id) {
                return Err(input_failed(&new.name, &error));
            }
        }
        match &*new.definition {
            definition @ (Definition::Table(_) | Definition::Source(_)) => {
                build_source(self.env(), definition)?;
                Ok(None)
            }
            Definition::Sink(sink) => self.open_sink(catalog, new, sink).await.map(Some),
            Definition::Pipeline(pipeline) => {
                self.open_sink(catalog, new, &pipeline.sink).await.map(Some)
            }
            Definition::Catalog(catalog) => {
                let mut options = catalog.options.clone();
                options.take("type");
                check_catalog(options).await?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn open_sink(
        &self,
        catalog: &Catalog,
        new: &Relation,
        def: &SinkDef,
    ) -> Result<Arc<SinkSlot>> {
        let id = uuid::Uuid::new_v4();
        let schema = Arc::clone(&new.schema);
        let mode = def.mode.clone();
        let sink = build_sink(self.env(), &def.connector, Arc::clone(&schema), mode, id)?;
        let slot = SinkSlot::new(new.id, new.name.clone(), id, schema, &def.mode, sink);
        slot.charge_to(self.memory());
        let status = slot.open().await?;
        self.check_target(catalog, def, &status)?;
        self.inner.state.set_sink(slot.relation, status);
        Ok(Arc::new(slot))
    }

    /// Checks that a new sink will have its target for itself: an upsert sink takes every row there
    /// for one of its own.
    fn check_target(&self, catalog: &Catalog, def: &SinkDef, status: &SinkStatus) -> Result<()> {
        let target = &status.target;
        let is_upsert = |def: &SinkDef| matches!(def.mode, SinkMode::Upsert { .. });
        let others = self.inner.state.sinks_at(&status.location);
        for other in others.iter().filter(|other| catalog.by_id(other.id).is_some()) {
            let Some(other_def) = other.definition.sink() else { continue };
            if is_upsert(def) || is_upsert(other_def) {
                let message =
                    format!("sink \"{}\" writes into table \"{target}\" already", other.name);
                return Err(Error::new(ErrorKind::InvalidParameter, message)
                    .with_hint("write into another table, or combine both by UNION ALL"));
            }
        }
        let keeps = match def.connector.get("existing_rows") {
            None => false,
            Some("keep") => true,
            Some(other) => {
                let message = format!("option \"existing_rows\" has a bad value \"{other}\"");
                return Err(Error::new(ErrorKind::InvalidParameter, message)
                    .with_hint("use 'keep' for an upsert sink into a table with rows"));
            }
        };
        let rows = status.row_count.unwrap_or(0);
        if is_upsert(def) && rows > 0 && !keeps {
            let message = format!("table \"{target}\" has {rows} rows already");
            return Err(Error::new(ErrorKind::InvalidParameter, message).with_hint(
                "drop the table, or add existing_rows = 'keep': rows with keys that the sink \
                 writes are replaced, the others stay",
            ));
        }
        Ok(())
    }

    /// Writes changes that depend on no row into an own table, all or none of them; returns when
    /// they are durable and visible in every view.
    ///
    /// # Errors
    /// `UndefinedTable`, `JobFailed`, `Unavailable`, `Shutdown`.
    pub async fn write(&self, table: RelationId, changes: Vec<ChangeBatch>) -> Result<()> {
        self.write_keys(table, changes, None).await
    }

    /// Begins a statement that reads a table and then writes what follows from it.
    pub fn read_to_write(&self) -> ReadToWrite {
        let reading = self.inner.state.writes.begin();
        ReadToWrite::new(self.snapshot(), reading)
    }

    /// Writes changes that were computed from a read, as [`Engine::write`] does.
    ///
    /// # Errors
    /// As [`Engine::write`]; `SerializationFailure` if another statement has written one of the
    /// rows since the read. Nothing is written then, and a new read sees that statement's rows.
    pub async fn write_after(
        &self,
        read: ReadToWrite,
        table: RelationId,
        changes: Vec<ChangeBatch>,
    ) -> Result<()> {
        self.write_keys(table, changes, Some(read.snapshot().epoch())).await
    }

    async fn write_keys(
        &self,
        table: RelationId,
        changes: Vec<ChangeBatch>,
        read_epoch: Option<u64>,
    ) -> Result<()> {
        let catalog = self.catalog();
        let relation = catalog.by_id(table).ok_or_else(dropped)?;
        self.memory().check_room()?;
        let mut hashes = Vec::new();
        for changes in &changes {
            let columns = match &*relation.definition {
                Definition::Table(table) if !table.primary_key.is_empty() => {
                    let columns = table.primary_key.iter();
                    columns.map(|column| Arc::clone(changes.rows().column(*column))).collect()
                }
                // Of equal rows any one may be meant.
                _ => changes.rows().columns().to_vec(),
            };
            hashes.extend(hash_rows(&columns, changes.num_rows())?);
        }
        let keys = WrittenKeys::new(hashes);
        let changes = changes.into_iter().map(Decoded::Changes).collect();
        self.ask(|reply| Message::Write { table, changes, keys, read_epoch, reply }).await
    }

    /// A consistent snapshot of all tables and views at the newest finished epoch.
    pub fn snapshot(&self) -> Snapshot {
        // A job that had failed before the start of the process has no rows at all.
        let catalog = self.catalog();
        let why = |id: &RelationId, error: Option<Error>| {
            let it = catalog.by_id(*id).filter(|it| keeps_rows(&it.definition))?;
            let Some(error) = error else { return Some(being_resumed(it)) };
            let message = format!("the job that keeps the rows of \"{}\" has failed", it.name);
            let hint = match self.inner.state.resumed_by(it.id) {
                Some(resume) => format!("look at SHOW JOBS; {resume} starts it again"),
                None => "look at SHOW JOBS; drop it, and create it again".to_string(),
            };
            Some(Error::job_failed(message, &error).with_hint(hint))
        };
        let failed = self.inner.state.unreadable().into_iter();
        let failed = failed.filter_map(|(id, error)| Some((id, why(&id, error)?))).collect();
        // After that: what has been resumed by then is in it.
        let snapshots = self.inner.state.snapshots.read();
        Snapshot::new(snapshots, failed, self.inner.remote_rows.clone())
    }

    /// Waits until everything that the sources held at the call is visible in views, durable, and
    /// committed by the sinks. Gives a line for each source that no sink follows and that is out of
    /// reach: the flush does not cover it.
    ///
    /// # Errors
    /// `JobFailed` if a sink has failed or cannot write, or a source that a sink follows is out of
    /// reach. The other sinks have committed by then, unless that takes too long.
    pub async fn flush(&self) -> Result<Vec<String>> {
        let flushed = self.ask(|reply| Message::Flush { only: None, reply }).await?;
        Ok(flushed.left_out)
    }

    /// Flushes one sink; the target's name for the new snapshot, if there was something to commit.
    pub(super) async fn flush_one(&self, sink: RelationId) -> Result<Option<String>> {
        let flushed = self.ask(|reply| Message::Flush { only: Some(sink), reply }).await?;
        Ok(flushed.snapshot)
    }

    /// What the next manifest says of a pipeline.
    pub(super) fn pipelines(&self) -> &Records {
        &self.inner.workers.pipelines
    }

    /// All jobs, by name.
    pub fn jobs(&self) -> Vec<JobStatus> {
        self.inner.state.jobs(self.inner.workers.peers)
    }

    /// Who holds how many bytes of this process.
    pub fn memory(&self) -> &Arc<MemoryAccount> {
        &self.inner.state.memory
    }

    /// How long ago each worker has reported last; statements wait for all of them.
    pub fn worker_silences(&self) -> Vec<WorkerSilence> {
        self.inner.state.workers.silences(self.env().elapsed())
    }

    /// Firings, newest first.
    pub fn pipeline_runs(&self) -> Vec<PipelineRun> {
        self.inner.state.runs()
    }

    /// The newest finished epoch.
    pub fn epoch(&self) -> u64 {
        self.inner.state.epoch()
    }

    /// True when every bounded source has ended, whether or not sinks have committed all.
    pub fn have_sources_ended(&self) -> bool {
        let catalog = self.catalog();
        self.inner.state.have_sources_ended(&catalog, self.inner.workers.peers)
    }

    /// True when every bounded source has ended and all is visible and committed.
    pub fn is_finished(&self) -> bool {
        self.inner.state.is_finished()
    }

    /// Why the engine stopped by itself, as soon as it does.
    pub fn fatal(&self) -> watch::Receiver<Option<Error>> {
        self.inner.state.fatal()
    }

    /// Waits until the workers have ended: in a process that only lends its workers, until
    /// process 0 shuts down.
    ///
    /// # Errors
    /// `Internal` if a worker ended with a panic.
    pub async fn wait(&self) -> Result<()> {
        self.inner.workers.wait().await
    }

    /// A clean stop: makes a last checkpoint, commits, stops the workers.
    ///
    /// # Errors
    /// What the last checkpoint met.
    pub async fn shutdown(&self) -> Result<()> {
        self.ask(|reply| Message::Shutdown { reply }).await?;
        self.wait().await
    }
}

/// Checked statements.
struct Checked {
    change: CatalogChange,
    /// The sink that CREATE SINK opened.
    sink: Option<Arc<SinkSlot>>,
    /// Where sources begin.
    starts: BTreeMap<RelationId, Positions>,
}

/// True if a statement names one of `relations`, or drops what one of them reads.
fn concerns(catalog: &Catalog, statement: &Statement, relations: &BTreeSet<RelationId>) -> bool {
    if let Some((name, _)) = statement.kind.created() {
        return catalog.get(&name.value).is_some_and(|it| relations.contains(&it.id));
    }
    let StatementKind::Drop(drop) = &statement.kind else { return false };
    let mut open: Vec<_> =
        drop.names.iter().filter_map(|name| catalog.get(&name.value).cloned()).collect();
    while let Some(relation) = open.pop() {
        if relations.contains(&relation.id) {
            return true;
        }
        open.extend(catalog.dependents(relation.id));
    }
    false
}

fn keeps_rows(definition: &Definition) -> bool {
    matches!(definition, Definition::Table(_) | Definition::View(_) | Definition::Errors)
}

#[cfg(test)]
mod ddl_tests;
#[cfg(test)]
mod early_state_tests;
#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod flush_tests;
#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod progress_tests;
#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod resume_tests;
#[cfg(test)]
mod schema_change_tests;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
