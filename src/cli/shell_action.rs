//! `frazil`: the shell.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use object_store::memory::InMemory;

use super::host::Host;
use crate::config::Config;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::shell::{Client, EmbeddedClient, RemoteClient, interactive, piped};

/// Runs the shell over a server, or over an engine of its own.
pub(super) async fn shell(config: &Config, connect: Option<&str>) -> Result<ExitCode> {
    if let Some(url) = connect {
        let client = RemoteClient::connect(url).await.map_err(|failure| {
            let message = format!("the server at \"{url}\" cannot be reached");
            Error::new(ErrorKind::Unavailable, message)
                .with_detail(failure.message)
                .with_hint("frazil serve starts one on postgres://root@127.0.0.1:4566/dev")
        })?;
        let env = Env::real(Arc::new(InMemory::new()))?;
        let greeting = format!("frazil {}, connected to {url}; \\? for help", version());
        let history =
            std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".frazil_history"));
        return talk(Box::new(client), env, history, &greeting).await;
    }
    let host = Host::open(config).await?;
    let client = EmbeddedClient::new(host.engine.clone());
    let directory = config.data_dir.display();
    let greeting = format!("frazil {}, data in {directory}; \\? for help", version());
    let history = config.data_dir.join("shell_history");
    let code = talk(Box::new(client), host.env.clone(), Some(history), &greeting).await;
    host.engine.shutdown().await?;
    code
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

async fn talk(
    client: Box<dyn Client>,
    env: Env,
    history: Option<PathBuf>,
    greeting: &str,
) -> Result<ExitCode> {
    if io::stdin().is_terminal() {
        interactive(client, env, history.as_deref(), greeting).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let went_well = piped(client, env, &mut io::stdin(), &mut io::stdout()).await?;
    Ok(if went_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
