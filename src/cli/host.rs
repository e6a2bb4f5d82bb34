//! [`Host`]: an engine of this process and the signals that end it.

use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::job::Engine;
use crate::session::SPILL_DIRECTORY;

/// An engine of this process.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// The engine.
    pub(super) engine: Engine,
    /// Its outside world.
    pub(super) env: Env,
}

impl Host {
    /// Opens the data directory and starts the engine.
    pub(super) async fn open(config: &Config) -> Result<Self> {
        let env = env(config)?;
        let engine = Engine::open(config.clone(), env.clone()).await?;
        if config.process == 0 {
            // Left behind by a process that was killed; usually there is none.
            let _ = std::fs::remove_dir_all(config.data_dir.join(SPILL_DIRECTORY));
        }
        Ok(Self { engine, env })
    }
}

/// The outside world with the data directory as its object store.
pub(super) fn env(config: &Config) -> Result<Env> {
    let directory = &config.data_dir;
    let refused = |detail: String| {
        let message = format!("data directory \"{}\" cannot be used", directory.display());
        Error::new(ErrorKind::Unavailable, message).with_detail(detail)
    };
    std::fs::create_dir_all(directory).map_err(|error| refused(error.to_string()))?;
    let scratch = config.scratch_dir.clone().unwrap_or_else(|| directory.join("scratch"));
    Ok(Env::local(directory)?.with_scratch(scratch))
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn stop_signal() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => {
                terminated.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// Waits until the engine has stopped by itself, which it does when another process has taken over
/// its data directory.
pub(super) async fn engine_failure(engine: &Engine) -> Error {
    let mut fatal = engine.fatal();
    match fatal.wait_for(Option::is_some).await.map(|error| error.clone()) {
        Ok(Some(error)) => error,
        // The engine is gone without a word: whoever asked it to stop knows.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Lends this process's workers until process 0 shuts down or a signal comes.
pub(super) async fn lend_workers(engine: &Engine) -> Result<()> {
    tokio::select! {
        ended = engine.wait() => ended,
        () = stop_signal() => Ok(()),
        error = engine_failure(engine) => Err(error),
    }
}
