//! [`PipelinesDir`]: a directory of SQL files that are kept applied.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::arguments::read;
use super::definitions::{AppliedStatement, apply, in_file};
use crate::catalog::Definition;
use crate::error::{Error, ErrorKind, Result};
use crate::job::Engine;
use crate::session::{Session, Statement};

/// Time between two looks at the directory. Polling sees a file on every file system.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Applies the definitions in `*.sql` files, at the start and whenever a file changes.
///
/// A pipeline or view whose definition changed is replaced; other blanks and comments are no
/// change. A table, source or sink holds
/// what cannot be had again, so its change is refused. What vanishes from the files stays: a drop
/// is a statement of its own.
#[derive(Debug)]
pub(super) struct PipelinesDir {
    engine: Engine,
    session: Session,
    directory: PathBuf,
    /// Text of each file that was applied, or failed for good.
    seen: BTreeMap<PathBuf, String>,
}

impl PipelinesDir {
    /// A watch over a directory.
    pub(super) fn new(engine: Engine, directory: PathBuf) -> Self {
        let session = Session::new(engine.clone());
        Self { engine, session, directory, seen: BTreeMap::new() }
    }

    /// Keeps the files applied until `stopped`.
    pub(super) async fn watch(mut self, stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        loop {
            self.look().await;
            tokio::select! {
                () = &mut stopped => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    async fn look(&mut self) {
        let files = match sql_files(&self.directory) {
            Ok(files) => files,
            Err(error) => {
                tracing::error!(%error, "the directory of pipelines cannot be read");
                return;
            }
        };
        for file in files {
            match read(&file) {
                Ok(text) if self.seen.get(&file) == Some(&text) => {}
                Ok(text) => self.apply_file(file, text).await,
                Err(error) => tracing::error!(%error, "a file of pipelines cannot be read"),
            }
        }
    }

    async fn apply_file(&mut self, file: PathBuf, text: String) {
        match self.apply_text(&file, &text).await {
            Ok(ran) => {
                tracing::info!(file = %file.display(), ran, "applied");
                self.seen.insert(file, text);
            }
            Err(error) => {
                let hint = error.hint.as_deref();
                tracing::error!(%error, hint, "a file of pipelines was not applied to its end");
                // What may succeed later is tried again at the next look.
                if !error.retryable {
                    self.seen.insert(file, text);
                }
            }
        }
    }

    async fn apply_text(&mut self, file: &Path, text: &str) -> Result<usize> {
        let located = |error| in_file(error, file, text);
        let mut ran = 0;
        for statement in self.session.parse(text).map_err(located)? {
            if self.apply_one(&statement).await.map_err(located)? == AppliedStatement::Ran {
                ran += 1;
            }
        }
        Ok(ran)
    }

    async fn apply_one(&mut self, statement: &Statement) -> Result<AppliedStatement> {
        let Some((name, _)) = statement.kind.created() else {
            let tag = statement.kind.tag();
            return Err(Error::unsupported(format!("{tag} is not a definition"))
                .with_hint("files of pipelines hold CREATE statements only")
                .at(statement.offset + 1));
        };
        match apply(&self.engine, &mut self.session, statement).await {
            Err(error) if error.kind == ErrorKind::DuplicateTable => {
                let catalog = self.engine.catalog();
                let noun =
                    catalog.get(&name.value).and_then(|known| replaceable(&known.definition));
                let Some(noun) = noun else { return Err(error.at(name.position)) };
                self.replace(statement, noun, &name.value).await?;
                Ok(AppliedStatement::Ran)
            }
            other => other,
        }
    }

    /// Drops a definition and makes the new one in one step: the new text is checked first, so that
    /// a fault in it leaves the old definition as it is.
    async fn replace(&self, statement: &Statement, noun: &str, name: &str) -> Result<()> {
        tracing::info!(name, "replacing");
        let drop = format!("DROP {noun} \"{}\"; ", name.replace('"', "\"\""));
        let before = drop.chars().count();
        let old = self.engine.catalog().get(name).map(|known| known.sql.clone());
        let applied = self.engine.apply(&format!("{drop}{}", statement.text)).await;
        // The new definition may fail on its first rows only, when the old one is gone.
        if let (Err(_), Some(old), None) = (&applied, old, self.engine.catalog().get(name)) {
            tracing::warn!(name, "the new definition failed: the old one is built again");
            self.engine.apply(&old).await?;
        }
        applied.map(|_| ()).map_err(|mut error| {
            // The statement begins behind the DROP there, and at its offset in the file.
            error.position = error.position.map(|at| at.saturating_sub(before) + statement.offset);
            error
        })
    }
}

/// How a definition is dropped, if another may take its place.
fn replaceable(definition: &Definition) -> Option<&'static str> {
    match definition {
        Definition::Pipeline(_) => Some("PIPELINE"),
        Definition::View(_) => Some("MATERIALIZED VIEW"),
        _ => None,
    }
}

/// The directory's SQL files, by name.
fn sql_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::config::Config;
    use crate::env::Env;

    async fn engine() -> Engine {
        let config = Config { workers: 1, epoch_interval_ms: 1, ..Config::default() };
        let env = Env::real(Arc::new(InMemory::new())).unwrap();
        let engine = Engine::open(config, env).await.unwrap();
        engine.apply("CREATE TABLE t (a INT)").await.unwrap();
        engine
    }

    #[tokio::test]
    async fn a_fault_in_a_file_leaves_the_definition_as_it_is() {
        let engine = engine().await;
        let file = Path::new("views.sql");
        let mut watched = PipelinesDir::new(engine.clone(), PathBuf::new());
        let first = "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t;";
        assert_eq!(watched.apply_text(file, first).await.unwrap(), 1);
        let id = engine.catalog().get("v").unwrap().id;
        let same = "-- a count\ncreate materialized view v as\n  SELECT count(*) AS n FROM t";
        assert_eq!(watched.apply_text(file, same).await.unwrap(), 0);
        let typo = "\n\nCREATE MATERIALIZED VIEW v AS SELECT cuont(*) AS n FROM t";
        let error = watched.apply_text(file, typo).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UndefinedFunction);
        assert_eq!(error.context, ["views.sql:3"]);
        let column = "\nCREATE MATERIALIZED VIEW v AS\nSELECT nope FROM t";
        let error = watched.apply_text(file, column).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UndefinedColumn);
        assert_eq!(error.context, ["views.sql:3"]);
        assert_eq!(engine.catalog().get("v").unwrap().id, id);
        let other = "CREATE MATERIALIZED VIEW v AS SELECT count(*) + 1 AS n FROM t";
        assert_eq!(watched.apply_text(file, other).await.unwrap(), 1);
        assert_ne!(engine.catalog().get("v").unwrap().id, id);
        engine.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn a_definition_that_others_read_is_not_replaced() {
        let engine = engine().await;
        let file = Path::new("views.sql");
        let mut watched = PipelinesDir::new(engine.clone(), PathBuf::new());
        let first = "CREATE MATERIALIZED VIEW v AS SELECT a FROM t;
                     CREATE MATERIALIZED VIEW w AS SELECT a FROM v";
        assert_eq!(watched.apply_text(file, first).await.unwrap(), 2);
        let other = "CREATE MATERIALIZED VIEW v AS SELECT a + 1 AS a FROM t";
        let error = watched.apply_text(file, other).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::DependentObjects);
        assert!(engine.catalog().get("v").is_some() && engine.catalog().get("w").is_some());
        engine.shutdown().await.unwrap();
    }
}
