//! [`World`]: an engine under a script, and the law.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::future::{join_all, try_join_all};
use object_store::ObjectStore;

use super::channel::{Channel, FED};
use super::cluster::{Cluster, Layout};
use super::dml::{Write, write};
use super::ledger::Ledger;
use super::query::Grammar;
use super::rows::{Checked, Rows, kept, sorted};
use super::schema::{DIVISORS, Relation, TABLES, tables};
use super::script::{End, Script, Step};
use super::tally::Tally;
use super::tape::Numbers;
use super::targets::Targets;
use crate::env::faulty_store::FaultyStore;
use crate::error::ErrorKind;
use crate::job::Engine;

/// An engine, what it should hold, and the SQL that led to it.
pub(super) struct World<'a> {
    pub(super) store: Arc<FaultyStore>,
    pub(super) cluster: Cluster,
    /// Tables, the table that the channel feeds, then views.
    pub(super) relations: Vec<Relation>,
    channel: Channel,
    /// Where sinks write.
    pub(super) ledger: Ledger,
    pub(super) targets: Targets,
    /// Messages may be unread.
    has_sent: bool,
    /// A row has failed the views that a row can fail.
    pub(super) is_broken: bool,
    views_made: usize,
    pub(super) log: Vec<String>,
    pub(super) tally: &'a Mutex<Tally>,
}

/// Plays a script; the message of a failure has the SQL that leads to it.
pub(super) async fn play(script: &Script, tally: &Mutex<Tally>) -> Checked {
    let store = Arc::new(FaultyStore::default());
    let (channel, ledger) = (Channel::default(), Ledger::default());
    let cluster = start(script.layout, &store, &channel, &ledger, tally).await?;
    let log = vec![format!("-- {}", script.layout)];
    let relations = [tables(), vec![Channel::relation()]].concat();
    let mut world = World {
        store,
        cluster,
        relations,
        channel,
        ledger,
        targets: Targets::default(),
        has_sent: false,
        is_broken: false,
        views_made: 0,
        log,
        tally,
    };
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
    ledger: &Ledger,
    tally: &Mutex<Tally>,
) -> Checked<Cluster> {
    *tally.lock().unwrap().layouts.entry(layout).or_default() += 1;
    let opened = Cluster::open_with(layout, store, channel, ledger).await;
    opened.map_err(|error| format!("start as {layout}: {error:?}"))
}

impl World<'_> {
    async fn steps(&mut self, script: &Script) -> Checked {
        for table in &TABLES {
            self.run(table.ddl).await?;
        }
        self.run(Channel::ddl()).await?;
        self.create_failing().await?;
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
                Step::Sink(numbers) => self.create_sink(numbers).await?,
                Step::DropSink(number) => self.drop_sink(*number).await?,
                Step::Flush => self.flush().await?,
                Step::Pipeline(number) => self.create_pipeline(*number).await?,
                Step::Fire(number) => self.fire(*number).await?,
                Step::Divide(numbers) => self.divide(numbers).await?,
                Step::BreakOrMend => self.break_or_mend().await?,
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
        self.mend().await?;
        self.check().await?;
        self.flush().await?;
        for number in 0..self.targets.pipelines.len() {
            self.fire(number as u16).await?;
        }
        Ok(())
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

    pub(super) async fn run(&mut self, sql: &str) -> Checked {
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
        self.targets.forget(&gone);
        Ok(())
    }

    async fn restart(&mut self, layout: Layout, end: &End) -> Checked {
        let mut before = vec![all_tables(&self.cluster.engine).await?];
        let how = self.end(end, &mut before).await?;
        self.log.push(format!("-- {layout} after {how}"));
        {
            let mut tally = self.tally.lock().unwrap();
            let (clean, crash) = &mut tally.restarts;
            *if matches!(end, End::Clean) { clean } else { crash } += 1;
        }
        if matches!(end, End::Clean) {
            self.cluster.stop().await.map_err(|error| format!("shutdown: {error:?}"))?;
        }
        let started = start(layout, &self.store, &self.channel, &self.ledger, self.tally).await?;
        // The old engine of a crash still runs. Its store is not read any more.
        let old = std::mem::replace(&mut self.cluster, started);
        match end {
            End::Clean => {}
            End::Crash | End::CrashWriting(..) => {
                old.stop().await.map_err(|error| format!("shutdown: {error:?}"))?;
            }
            // It has nothing to write its last checkpoint to.
            End::DiskFails(..) | End::CrashFiring(..) => _ = old.stop().await,
            End::TakenOver => {
                // Whatever it still believes, the store refuses it.
                if old.run("INSERT INTO log (a) VALUES (1)").await.is_ok() {
                    return Err("an older process has acknowledged a write".to_string());
                }
                self.tally.lock().unwrap().taken_over += 1;
                let _ = old.stop().await;
            }
        }
        self.has_sent = true;
        let after = all_tables(&self.cluster.engine).await?;
        if !before.contains(&after) {
            return Err(format!(
                "the restart changed a table\nbefore: {before:?}\nafter: {after:?}"
            ));
        }
        self.check_pipelines().await
    }

    /// Ends the engine, but for a clean stop; the store, the ledger and `before` are then as the
    /// next one may find them.
    async fn end(&mut self, end: &End, before: &mut Vec<Vec<Rows>>) -> Checked<&'static str> {
        Ok(match end {
            End::Clean => "a clean stop",
            End::TakenOver => "a start beside it",
            End::Crash => {
                self.ledger = self.ledger.cut();
                self.store = Arc::new(self.store.after_power_loss().await);
                "a crash"
            }
            End::CrashWriting(numbers, puts) => {
                let (store, is_acknowledged) = self.fork_while_writing(numbers, *puts).await?;
                before.push(all_tables(&self.cluster.engine).await?);
                if is_acknowledged {
                    before.remove(0);
                }
                self.store = store;
                "a crash in the middle of that"
            }
            End::DiskFails(numbers, fault, calls) => {
                let sql = write(numbers).sql;
                let after = self.tables_after(&sql).await?;
                self.log.push(format!("-- {fault:?} after {calls} calls"));
                self.log.push(sql.clone());
                self.store.fail_after(*calls, *fault);
                let is_acknowledged = self.cluster.run(&sql).await.is_ok();
                before.push(after);
                if is_acknowledged {
                    before.remove(0);
                }
                self.tally.lock().unwrap().count_on_failing_disk(is_acknowledged);
                self.ledger = self.ledger.cut();
                self.store = Arc::new(self.store.after_power_loss().await);
                "the disk failed"
            }
            End::CrashFiring(number, puts) => {
                self.crash_firing(*number, *puts).await?;
                "a crash in the middle of that"
            }
        })
    }

    /// What the tables hold after a write, found by another engine over a copy of the store.
    async fn tables_after(&self, sql: &str) -> Checked<Vec<Rows>> {
        let layout = Layout { processes: 1, workers: 1 };
        let store = Arc::new(self.store.fork());
        let ledger = self.ledger.fork();
        let cluster = start(layout, &store, &self.channel, &ledger, &Mutex::default()).await?;
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
        self.ledger = self.ledger.cut();
        let store = Arc::new(self.store.after_power_loss().await);
        let written = writing.await.map_err(|error| error.to_string())?;
        written.map_err(|error| format!("{sql}\n{error:?}"))?;
        Ok((store, is_acknowledged))
    }

    /// The law: each view is its query over the tables, and all messages are in their table.
    async fn check(&mut self) -> Checked {
        if std::mem::take(&mut self.has_sent) {
            self.flush().await?;
            let (kept, sent) = (kept(&self.cluster.engine, FED).await?, self.channel.rows());
            if kept != sent {
                return Err(format!("{FED} is not what was sent\nkept: {kept:?}\nsent: {sent:?}"));
            }
            let mut tally = self.tally.lock().unwrap();
            tally.flushed += usize::from(!kept.is_empty());
        }
        self.check_failing().await?;
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
    let names = TABLES.iter().map(|table| table.name).chain([DIVISORS]);
    try_join_all(names.map(|name| kept(engine, name))).await
}
