//! [`PipelinesDir`]: a directory of SQL files that are kept applied.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::arguments::read;
use super::definitions::{Applied, apply, in_file};
use crate::catalog::Definition;
use crate::error::{Error, ErrorKind, Result};
use crate::job::Engine;
use crate::session::{Session, Statement, created};

/// Time between two looks at the directory. Polling sees a file on every file system.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Applies the definitions in `*.sql` files, at the start and whenever a file changes.
///
/// A pipeline or view whose text changed is dropped and made anew. A table, source or sink holds
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
                let hint = error.hint.clone().unwrap_or_default();
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
            if self.apply_one(&statement).await.map_err(located)? == Applied::Ran {
                ran += 1;
            }
        }
        Ok(ran)
    }

    async fn apply_one(&mut self, statement: &Statement) -> Result<Applied> {
        let Some((name, _)) = created(statement) else {
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
                tracing::info!(name = name.value, "replacing");
                let quoted = name.value.replace('"', "\"\"");
                self.engine.apply(&format!("DROP {noun} \"{quoted}\"")).await?;
                apply(&self.engine, &mut self.session, statement).await
            }
            other => other,
        }
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
