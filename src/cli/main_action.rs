//! [`main_action`]: the process from its arguments to its exit code.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use super::arguments::{Action, Arguments};
use super::{run, serve, shell_action};
use crate::error::{Error, Result};

/// What is logged when `RUST_LOG` does not say.
const LOG_DEFAULT: &str = "warn";
/// The same for a server.
const LOG_SERVE: &str = "info,datafusion=warn,iceberg=warn,opendal=warn";

/// Reads the arguments, does what they say and tells how it went.
pub fn main_action() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(matches!(arguments.action, Some(Action::Serve { .. })));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&Error::from(error)),
    };
    match runtime.block_on(act(&arguments)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn start_log(serves: bool) {
    let default = if serves { LOG_SERVE } else { LOG_DEFAULT };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    log.with_writer(io::stderr).init();
}

async fn act(arguments: &Arguments) -> Result<ExitCode> {
    let config = arguments.config()?;
    match &arguments.action {
        None => shell_action::shell(&config, arguments.common.connect.as_deref()).await,
        Some(Action::Serve { .. }) => serve::serve(&config).await,
        Some(Action::Run { files }) => run::run(&config, files).await,
    }
}

fn failed(error: &Error) -> ExitCode {
    let mut out = io::stderr().lock();
    let mut told = writeln!(out, "error {}: {error}", error.kind.sqlstate());
    if let Some(hint) = &error.hint {
        told = told.and_then(|()| writeln!(out, "hint: {hint}"));
    }
    match told {
        Ok(()) => ExitCode::FAILURE,
        // Nobody reads what went wrong; the code still says that something did.
        Err(_) => ExitCode::from(2),
    }
}
