//! [`World`]: an engine under a script, and the law.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::future::{join_all, try_join_all};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;

use super::channel::{Channel, FED};
use super::cluster::{Cluster, Layout};
use super::dml::{Write, write};
use super::query::Grammar;
use super::schema::{Relation, TABLES, tables};
use super::script::{End, Script, Step};
use super::tally::Tally;
use super::tape::Numbers;
use crate::env::faulty_store::FaultyStore;
use crate::error::ErrorKind;
use crate::job::Engine;

/// Rows as text, sorted.
pub(super) type Rows = Vec<String>;

/// Nothing, or what went wrong.
type Checked<T = ()> = Result<T, String>;

/// An engine, what it should hold, and the SQL that led to it.
pub(super) struct World<'a> {
    store: Arc<FaultyStore>,
    cluster: Cluster,
    /// Tables, the table that the channel feeds, then views.
    relations: Vec<Relation>,
    channel: Channel,
    /// Messages may be unread.
    has_sent: bool,
    views_made: usize,
    log: Vec<String>,
    tally: &'a Mutex<Tally>,
}

/// Plays a script; the message of a failure has the SQL that leads to it.
pub(super) async fn play(script: &Script, tally: &Mutex<Tally>) -> Checked {
    let store = Arc::new(FaultyStore::default());
    let channel = Channel::default();
    let cluster = start(script.layout, &store, &channel, tally).await?;
    let log = vec![format!("-- {}", script.layout)];
    let relations = [tables(), vec![Channel::relation()]].concat();
    let (views_made, has_sent) = (0, false);
    let mut world = World { store, cluster, relations, channel, has_sent, views_made, log, tally };
    let played = world.steps(script).await;
    let log = world.log.join(";\n");
    // An engine that has failed may not stop either: the failure is what counts.
    let closed = world.cluster.stop().await.map_err(|error| format!("shutdown: {error:?}"));
    played.and(closed).map_err(|error| format!("{error}\n\n{log};\n"))
}

async fn start(
    layout: Layout,
    store: &Arc<FaultyStore>,
    channel: &Channel,
    tally: &Mutex<Tally>,
) -> Checked<Cluster> {
    *tally.lock().unwrap().layouts.entry(layout).or_default() += 1;
    let opened = Cluster::open_with(layout, store, channel).await;
    opened.map_err(|error| format!("start as {layout}: {error:?}"))
}

impl World<'_> {
    async fn steps(&mut self, script: &Script) -> Checked {
        for table in &TABLES {
            self.run(table.ddl).await?;
        }
        self.run(Channel::ddl()).await?;
        self.write(&script.before).await?;
        for view in &script.views {
            self.create(view).await?;
        }
        self.check().await?;
        for step in &script.steps {
            match step {
                Step::Write(writes) => self.write(writes).await?,
                Step::Burst(writes) => {
                    for numbers in writes {
                        self.run(&write(numbers).sql).await?;
                    }
                }
                Step::Create(numbers) => self.create(numbers).await?,
                Step::GiveUp(numbers, puts) => self.give_up(numbers, *puts).await?,
                Step::Drop(number) => self.drop(usize::from(*number)).await?,
                Step::Send(messages) => {
                    self.send(messages);
                    continue;
                }
                Step::Restart(layout, end, messages) => {
                    self.send(messages);
                    self.restart(*layout, end).await?;
                }
            }
            self.check().await?;
        }
        self.check().await
    }

    fn send(&mut self, messages: &[Numbers]) {
        for numbers in messages {
            self.log.push(format!("-- messages {:?}", self.channel.send(numbers)));
            self.has_sent = true;
        }
    }

    fn views(&self) -> &[Relation] {
        &self.relations[TABLES.len() + 1..]
    }

    async fn run(&mut self, sql: &str) -> Checked {
        self.log.push(sql.to_string());
        self.cluster.run(sql).await.map(|_| ()).map_err(|error| format!("{sql}\n{error:?}"))
    }

    /// Writes to different tables at once, so that they may share an epoch.
    async fn write(&mut self, writes: &[Numbers]) -> Checked {
        let mut by_table: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for numbers in writes {
            let Write { table, sql } = write(numbers);
            self.log.push(sql.clone());
            by_table.entry(table).or_default().push(sql);
        }
        let cluster = &self.cluster;
        let chains = by_table.into_values().map(|chain| async move {
            for sql in chain {
                cluster.run(&sql).await.map_err(|error| format!("{sql}\n{error:?}"))?;
            }
            Ok::<_, String>(())
        });
        join_all(chains).await.into_iter().collect()
    }

    async fn create(&mut self, numbers: &[u16]) -> Checked {
        self.views_made += 1;
        let name = format!("v{}", self.views_made);
        let query = Grammar::new(numbers, &self.relations).query(&name);
        let sql = format!("CREATE MATERIALIZED VIEW {name} AS {}", query.text());
        match self.cluster.run(&sql).await {
            Ok(_) => {
                let on_view =
                    self.views().iter().any(|view| query.relation.reads.contains(&view.name));
                let mut tally = self.tally.lock().unwrap();
                tally.created += 1;
                tally.on_views += usize::from(on_view);
                self.log.push(sql);
                self.relations.push(query.relation);
                Ok(())
            }
            Err(error) => {
                // What no batch query can be made of either is refused by both alike.
                let batch = self.cluster.run(&query.relation.batch).await;
                let is_alike = batch.is_err_and(|batch| batch.kind == error.kind);
                if !is_alike && error.kind != ErrorKind::Unsupported {
                    self.log.push(sql);
                    return Err(format!("{error:?}"));
                }
                let mut tally = self.tally.lock().unwrap();
                *tally.refused.entry(error.message).or_default() += 1;
                Ok(())
            }
        }
    }

    /// A view that its client gives up is made whole or leaves nothing.
    async fn give_up(&mut self, numbers: &[u16], puts: usize) -> Checked {
        self.views_made += 1;
        let name = format!("v{}", self.views_made);
        let query = Grammar::new(numbers, &self.relations).query(&name);
        let sql = format!("CREATE MATERIALIZED VIEW {name} AS {}", query.text());
        self.log.push(format!("-- given up after {puts} objects\n{sql}"));
        let before = self.store.puts();
        let creating = self.cluster.start(&sql);
        while !creating.is_finished() && self.store.puts() < before + puts {
            tokio::task::yield_now().await;
        }
        self.tally.lock().unwrap().given_up += usize::from(!creating.is_finished());
        creating.abort();
        let _ = creating.await;
        self.run(&format!("DROP MATERIALIZED VIEW IF EXISTS {name}")).await
    }

    async fn drop(&mut self, number: usize) -> Checked {
        let views = self.views();
        if views.is_empty() {
            return Ok(());
        }
        let mut gone = vec![views[number % views.len()].name.clone()];
        // A view reads only views that were made before it.
        for view in views {
            if gone.iter().any(|name| view.reads.contains(name)) {
                gone.push(view.name.clone());
            }
        }
        self.run(&format!("DROP MATERIALIZED VIEW {} CASCADE", gone[0])).await?;
        self.relations.retain(|relation| !gone.contains(&relation.name));
        Ok(())
    }

    async fn restart(&mut self, layout: Layout, end: &End) -> Checked {
        let mut before = vec![all_tables(&self.cluster.engine).await?];
        let (store, how) = match end {
            End::Clean => (Arc::clone(&self.store), "a clean stop"),
            End::Crash => (Arc::new(self.store.fork()), "a crash"),
            End::CrashWriting(numbers, puts) => {
                let (store, is_acknowledged) = self.fork_while_writing(numbers, *puts).await?;
                before.push(all_tables(&self.cluster.engine).await?);
                if is_acknowledged {
                    before.remove(0);
                }
                (store, "a crash in the middle of that")
            }
            End::DiskFails(numbers, fault, calls) => {
                let sql = write(numbers).sql;
                let after = self.tables_after(&sql).await?;
                self.log.push(format!("-- {fault:?} after {calls} calls"));
                self.log.push(sql.clone());
                self.store.fail_after(*calls, *fault);
                let is_acknowledged = self.cluster.run(&sql).await.is_ok();
                before.push(after);
                let mut tally = self.tally.lock().unwrap();
                let (acknowledged, refused) = &mut tally.on_failing_disk;
                if is_acknowledged {
                    before.remove(0);
                    *acknowledged += 1;
                } else {
                    *refused += 1;
                }
                (Arc::new(self.store.fork()), "the disk failed")
            }
        };
        self.log.push(format!("-- {layout} after {how}"));
        {
            let mut tally = self.tally.lock().unwrap();
            let (clean, crash) = &mut tally.restarts;
            *if matches!(end, End::Clean) { clean } else { crash } += 1;
        }
        // A crashed engine goes on over its own store, which nobody looks at again.
        let started = match end {
            End::Clean => {
                self.cluster.stop().await.map_err(|error| format!("shutdown: {error:?}"))?;
                start(layout, &store, &self.channel, self.tally).await?
            }
            _ => {
                let started = start(layout, &store, &self.channel, self.tally).await?;
                let stopped = self.cluster.stop().await;
                // It has nothing to write its last checkpoint to.
                if !matches!(end, End::DiskFails(..)) {
                    stopped.map_err(|error| format!("shutdown: {error:?}"))?;
                }
                started
            }
        };
        self.cluster = started;
        self.store = store;
        self.has_sent = true;
        let after = all_tables(&self.cluster.engine).await?;
        if before.contains(&after) {
            return Ok(());
        }
        Err(format!("the restart changed a table\nbefore: {before:?}\nafter: {after:?}"))
    }

    /// What the tables hold after a write, found by another engine over a copy of the store.
    async fn tables_after(&self, sql: &str) -> Checked<Vec<Rows>> {
        let layout = Layout { processes: 1, workers: 1 };
        let store = Arc::new(self.store.fork());
        let cluster = start(layout, &store, &self.channel, &Mutex::default()).await?;
        // A write that fails for its own reasons changes nothing.
        let _ = cluster.run(sql).await;
        let tables = all_tables(&cluster.engine).await;
        cluster.stop().await.map_err(|error| format!("shutdown: {error:?}"))?;
        tables
    }

    /// Starts a write, and copies the store once so many objects of it were put; whether the write
    /// was acknowledged by then.
    async fn fork_while_writing(
        &mut self,
        numbers: &[u16],
        puts: usize,
    ) -> Checked<(Arc<FaultyStore>, bool)> {
        let sql = write(numbers).sql;
        self.log.push(sql.clone());
        let objects = self.store.list(None).count().await;
        let writing = self.cluster.start(&sql);
        while !writing.is_finished() && self.store.list(None).count().await < objects + puts {
            tokio::task::yield_now().await;
        }
        let is_acknowledged = writing.is_finished();
        let store = Arc::new(self.store.fork());
        let written = writing.await.map_err(|error| error.to_string())?;
        written.map_err(|error| format!("{sql}\n{error:?}"))?;
        Ok((store, is_acknowledged))
    }

    /// The law: each view is its query over the tables, and all messages are in their table.
    async fn check(&mut self) -> Checked {
        if std::mem::take(&mut self.has_sent) {
            self.run("FLUSH").await?;
            let (kept, sent) = (kept(&self.cluster.engine, FED).await?, self.channel.rows());
            if kept != sent {
                return Err(format!("{FED} is not what was sent\nkept: {kept:?}\nsent: {sent:?}"));
            }
            let mut tally = self.tally.lock().unwrap();
            tally.flushed += usize::from(!kept.is_empty());
        }
        for view in self.views() {
            let kept = kept(&self.cluster.engine, &view.name).await?;
            let (name, sql) = (&view.name, &view.batch);
            let batch = self.cluster.run(sql).await;
            let batch = sorted(&batch.map_err(|error| format!("{sql}\n{error:?}"))?);
            if kept != batch {
                return Err(format!(
                    "{name} is not its query\n{sql}\nview:  {kept:?}\nbatch: {batch:?}"
                ));
            }
            let mut tally = self.tally.lock().unwrap();
            tally.compared += 1;
            tally.with_rows += usize::from(!kept.is_empty());
        }
        Ok(())
    }
}

async fn all_tables(engine: &Engine) -> Checked<Vec<Rows>> {
    try_join_all(TABLES.iter().map(|table| kept(engine, table.name))).await
}

/// The rows that an engine keeps of a table or view.
async fn kept(engine: &Engine, name: &str) -> Checked<Rows> {
    let snapshot = engine.snapshot();
    let relation = engine.catalog().get(name).cloned();
    let rows = relation.and_then(|relation| snapshot.relation(relation.id));
    let rows = rows.ok_or_else(|| format!("\"{name}\" is gone"))?;
    let batches = async { rows.rows(None)?.try_collect::<Vec<_>>().await }.await;
    let batches = batches.map_err(|error| format!("{name}: {error:?}"))?;
    let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
    match found == rows.row_count() {
        true => Ok(sorted(&batches)),
        false => Err(format!("{name} has {found} rows and not {}", rows.row_count())),
    }
}

/// The rows of batches as text, sorted.
pub(super) fn sorted(batches: &[RecordBatch]) -> Rows {
    let options = FormatOptions::new().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        rows.extend((0..batch.num_rows()).map(|row| {
            let cells: Vec<String> =
                columns.iter().map(|column| column.value(row).to_string()).collect();
            cells.join(" | ")
        }));
    }
    rows.sort_unstable();
    rows
}
