//! Sinks and pipelines of a script, and what their targets must hold.
//!
//! ```text
//! relation ─► sink s1 ──────► ledger     after FLUSH: the rows of the relation
//!          └► pipeline p2 ──► Iceberg    after RUN: the rows at that moment, until the next RUN
//! ```

use super::rows::{Checked, Rows, kept, sorted};
use super::schema::{DIVISORS, FOLLOWERS};
use super::tape::Tape;
use super::targets::Target;
use super::world::World;
use crate::error::ErrorKind;

/// The Iceberg catalog of the pipelines.
const DEPOT: &str = "depot";

impl World<'_> {
    /// A sink of some relation; one without a key that is unique in it is refused.
    pub(super) async fn create_sink(&mut self, numbers: &[u16]) -> Checked {
        let mut tape = Tape::new(numbers);
        let own = self.relations.iter().map(|relation| relation.name.as_str());
        let names: Vec<&str> = own.chain(FOLLOWERS).chain([DIVISORS]).collect();
        let relation = tape.of(&names).to_string();
        let interval = tape.of(&["2ms", "30ms", "1h"]);
        let name = self.targets.name("s");
        let sql = format!(
            "CREATE SINK {name} FROM {relation} WITH (connector = 'ledger', table = '{name}', \
             commit_interval = '{interval}')"
        );
        match self.cluster.run(&sql).await {
            Ok(_) => {
                self.log.push(sql);
                self.tally.lock().unwrap().sinks += 1;
                self.targets.sinks.push(Target { name, relation, fired: Vec::new() });
                Ok(())
            }
            Err(error) if error.kind == ErrorKind::InvalidParameter => Ok(()),
            // What reads a failed view cannot be made.
            Err(error) if error.kind == ErrorKind::JobFailed && self.is_failed(&relation) => Ok(()),
            Err(error) => Err(format!("{sql}\n{error:?}")),
        }
    }

    /// Drops a sink; nothing comes to its target any more.
    pub(super) async fn drop_sink(&mut self, number: u16) -> Checked {
        if self.targets.sinks.is_empty() {
            return Ok(());
        }
        let at = usize::from(number) % self.targets.sinks.len();
        let sink = self.targets.sinks.remove(at);
        self.run(&format!("DROP SINK {}", sink.name)).await
    }

    /// Has the engine commit everything, and compares each target with its relation at once.
    pub(super) async fn flush(&mut self) -> Checked {
        let flushed = self.run("FLUSH").await;
        // What follows a failed view lacks rows, which FLUSH tells once the others have committed.
        let lacks = self.targets.sinks.iter().any(|sink| self.is_failed(&sink.relation));
        if let Err(error) = flushed
            && !(lacks && error.contains("which it reads, has failed"))
        {
            return Err(error);
        }
        let sound = self.targets.sinks.iter().filter(|sink| !self.is_failed(&sink.relation));
        for sink in sound {
            let Target { name, relation, .. } = sink;
            let expected = kept(&self.cluster.engine, relation).await?;
            let found = self.ledger.rows(name);
            if found != expected {
                return Err(format!(
                    "sink {name} is not {relation} after FLUSH\n\
                     expected: {expected:?}\nfound:    {found:?}"
                ));
            }
            let mut tally = self.tally.lock().unwrap();
            tally.sinks_compared += 1;
            tally.sinks_with_rows += usize::from(!found.is_empty());
        }
        Ok(())
    }

    /// A pipeline of some relation that the grammar has made.
    pub(super) async fn create_pipeline(&mut self, number: u16) -> Checked {
        if self.targets.depot.is_none() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().display();
            self.run(&format!(
                "CREATE CATALOG {DEPOT} WITH (type = 'iceberg', catalog.type = 'sql', \
                 catalog.uri = 'sqlite://{path}/catalog.db', warehouse.path = '{path}')"
            ))
            .await?;
            self.targets.depot = Some(folder);
        }
        let at = usize::from(number) % self.relations.len();
        let relation = self.relations[at].name.clone();
        let name = self.targets.name("p");
        let sql = format!(
            "CREATE PIPELINE {name} SCHEDULE '0 0 1 1 *' AS INSERT INTO {DEPOT}.shop.{name} \
             SELECT * FROM {relation}"
        );
        match self.cluster.run(&sql).await {
            Ok(_) => {
                self.log.push(sql);
                self.tally.lock().unwrap().pipelines += 1;
                let fired = vec![Rows::new()];
                self.targets.pipelines.push(Target { name, relation, fired });
                Ok(())
            }
            Err(error) if error.kind == ErrorKind::InvalidParameter => Ok(()),
            Err(error) => Err(format!("{sql}\n{error:?}")),
        }
    }

    /// There is something to fire, unless the relation has no key.
    async fn create_first_pipeline(&mut self, number: u16) -> Checked {
        match self.targets.pipelines.is_empty() {
            true => self.create_pipeline(number).await,
            false => Ok(()),
        }
    }

    /// Fires a pipeline; its table then has the rows of its relation.
    pub(super) async fn fire(&mut self, number: u16) -> Checked {
        self.check_pipelines().await?;
        self.create_first_pipeline(number).await?;
        if self.targets.pipelines.is_empty() {
            return Ok(());
        }
        let at = usize::from(number) % self.targets.pipelines.len();
        self.run(&format!("RUN PIPELINE {}", self.targets.pipelines[at].name)).await?;
        let rows = kept(&self.cluster.engine, &self.targets.pipelines[at].relation).await?;
        self.tally.lock().unwrap().fired += usize::from(!rows.is_empty());
        self.targets.pipelines[at].fired = vec![rows];
        self.check_pipelines().await
    }

    /// Nothing has come to a pipeline's table since it was fired.
    pub(super) async fn check_pipelines(&self) -> Checked {
        for Target { name, fired, .. } in &self.targets.pipelines {
            let sql = format!("SELECT * FROM {DEPOT}.shop.{name}");
            let rows = self.cluster.run(&sql).await;
            let rows = sorted(&rows.map_err(|error| format!("{sql}\n{error:?}"))?);
            if !fired.contains(&rows) {
                return Err(format!(
                    "pipeline {name} does not hold what it was fired with\n\
                     expected: {fired:?}\nfound:    {rows:?}"
                ));
            }
        }
        Ok(())
    }

    /// Fires a pipeline and copies the store once so many objects were put; the engine loses its
    /// store at that moment.
    pub(super) async fn crash_firing(&mut self, number: u16, puts: usize) -> Checked {
        // What a source has sent is read before, so that it is known what the firing has.
        self.flush().await?;
        self.create_first_pipeline(number).await?;
        if self.targets.pipelines.is_empty() {
            self.ledger = self.ledger.cut();
            self.store = self.store.crash().await.into();
            return Ok(());
        }
        let at = usize::from(number) % self.targets.pipelines.len();
        let pipeline = &mut self.targets.pipelines[at];
        let sql = format!("RUN PIPELINE {}", pipeline.name);
        self.log.push(sql.clone());
        let rows = kept(&self.cluster.engine, &pipeline.relation).await?;
        pipeline.fired.push(rows);
        let before = self.store.puts();
        let firing = self.cluster.start(&sql);
        while !firing.is_finished() && self.store.puts() < before + puts {
            tokio::task::yield_now().await;
        }
        self.tally.lock().unwrap().crashed_firing += 1;
        self.ledger = self.ledger.cut();
        self.store = self.store.crash().await.into();
        firing.abort();
        Ok(())
    }
}
