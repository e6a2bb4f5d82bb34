//! `frazil serve`: the engine behind the Postgres wire.

use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::host::{Host, engine_failure, lend_workers, stop_signal};
use super::pipelines_dir::PipelinesDir;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::server;

/// How long clients have to be answered once the engine has failed: their statements hear why
/// before their connections are cut.
const ANSWER_PAUSE: Duration = Duration::from_millis(200);

/// Serves until Ctrl-C or SIGTERM, then stops cleanly.
pub(super) async fn serve(config: &Config) -> Result<ExitCode> {
    if config.process > 0 {
        return work(config).await;
    }
    // Before the engine recovers: a port that is taken is told at once.
    let listener = TcpListener::bind(&config.pg_listen).await.map_err(|error| {
        let message = format!("address \"{}\" cannot be listened on", config.pg_listen);
        Error::new(ErrorKind::Unavailable, message)
            .with_detail(error.to_string())
            .with_hint("--pg-listen takes another address")
    })?;
    let host = Host::open(config).await?;
    let address = listener.local_addr()?;
    tracing::info!(%address, data_dir = %config.data_dir.display(), "serving");
    let (stop, stopped) = watch::channel(false);
    let mut wire =
        tokio::spawn(server::serve(host.engine.clone(), listener, until(stopped.clone())));
    let watcher = config.pipelines.clone().map(|directory| {
        let pipelines = PipelinesDir::new(host.engine.clone(), directory);
        tokio::spawn(pipelines.watch(until(stopped)))
    });
    let failure = tokio::select! {
        () = stop_signal() => None,
        ended = &mut wire => Some(ended),
        error = engine_failure(&host.engine) => {
            tokio::time::sleep(ANSWER_PAUSE).await;
            Some(Ok(Err(error)))
        }
    };
    tracing::info!("stopping");
    // The receivers may be gone already; then there is nobody to tell.
    let _ = stop.send(true);
    if let Some(watcher) = watcher {
        watcher.await.map_err(|error| Error::internal(error.to_string()))?;
    }
    match failure {
        Some(ended) => ended.map_err(|error| Error::internal(error.to_string()))??,
        None => host.engine.shutdown().await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A process that only lends its workers.
async fn work(config: &Config) -> Result<ExitCode> {
    let host = Host::open(config).await?;
    tracing::info!(process = config.process, "working");
    lend_workers(&host.engine).await?;
    Ok(ExitCode::SUCCESS)
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // The sender is gone only when the process ends: that is a stop, too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
