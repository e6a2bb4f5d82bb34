//! [`Arguments`]: what the command line says, and the [`Config`] that it makes.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::{ByteSize, Config};
use crate::error::{Error, ErrorKind, Result};

/// A streaming SQL engine over CDC and lakehouse tables.
#[derive(Debug, Parser)]
#[command(name = "frazil", version, about)]
pub(super) struct Arguments {
    /// What all actions share.
    #[command(flatten)]
    pub(super) common: Common,
    /// What to do; without it, the shell.
    #[command(subcommand)]
    pub(super) action: Option<Action>,
}

/// What all actions share.
#[derive(Debug, Default, Args)]
pub(super) struct Common {
    /// Where state and catalog live [default: .frazil]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Worker threads of this process; 0 is one a core [default: 0]
    #[arg(long, global = true, value_name = "N")]
    pub(super) workers: Option<usize>,
    /// File with the address of each process, one a line
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) hosts: Option<PathBuf>,
    /// Index of this process in the hosts file; process 0 coordinates and serves [default: 0]
    #[arg(long, global = true, value_name = "I", requires = "hosts")]
    pub(super) process: Option<usize>,
    /// Settings in TOML; arguments go before them
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Longest time between checkpoints while sources bring changes [default: 5000]
    #[arg(long, global = true, value_name = "MS")]
    pub(super) checkpoint_interval_ms: Option<u64>,
    /// Memory of this process, such as 4GiB [default: 75 % of the machine's or control group's]
    #[arg(long, global = true, value_name = "BYTES")]
    pub(super) memory_limit: Option<ByteSize>,
    /// Where state goes that is beyond it [default: scratch in the data directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) scratch_dir: Option<PathBuf>,
    /// For the shell: a server, as postgres://root@127.0.0.1:4566/dev
    #[arg(long, global = true, value_name = "URL")]
    pub(super) connect: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Serves the Postgres wire
    Serve {
        /// Address of the Postgres wire [default: 127.0.0.1:4566]
        #[arg(long, value_name = "ADDRESS")]
        pg_listen: Option<String>,
        /// Directory of *.sql files that are kept applied
        #[arg(long, value_name = "DIR")]
        pipelines: Option<PathBuf>,
    },
    /// Runs files of statements until all bounded input is done
    Run {
        /// Files of statements, run in this order
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

impl Arguments {
    /// The settings: defaults, then the file, then the arguments.
    ///
    /// # Errors
    /// `InvalidParameter` for a file that cannot be read or a wrong setting.
    pub(super) fn config(&self) -> Result<Config> {
        let common = &self.common;
        let mut config = match &common.config {
            Some(file) => from_file(file)?,
            None => Config::default(),
        };
        if let Some(data_dir) = &common.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        config.workers = common.workers.unwrap_or(config.workers);
        if let Some(hosts) = &common.hosts {
            config.hosts = addresses(&read(hosts)?);
        }
        config.process = common.process.unwrap_or(config.process);
        config.checkpoint_interval_ms =
            common.checkpoint_interval_ms.unwrap_or(config.checkpoint_interval_ms);
        config.memory_limit = common.memory_limit.unwrap_or(config.memory_limit);
        if let Some(scratch_dir) = &common.scratch_dir {
            config.scratch_dir = Some(scratch_dir.clone());
        }
        if let Some(Action::Serve { pg_listen, pipelines }) = &self.action {
            if let Some(pg_listen) = pg_listen {
                config.pg_listen.clone_from(pg_listen);
            }
            if pipelines.is_some() {
                config.pipelines.clone_from(pipelines);
            }
        }
        if !config.hosts.is_empty() && config.process >= config.hosts.len() {
            let (process, hosts) = (config.process, config.hosts.len());
            let message = format!("process {process} is not one of the {hosts} hosts");
            return Err(Error::new(ErrorKind::InvalidParameter, message));
        }
        Ok(config)
    }
}

fn from_file(file: &Path) -> Result<Config> {
    toml::from_str(&read(file)?).map_err(|error| {
        let message = format!("config file \"{}\" is wrong", file.display());
        Error::new(ErrorKind::InvalidParameter, message).with_detail(error.to_string())
    })
}

/// Reads a file that the command line names.
pub(super) fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| {
        let message = format!("file \"{}\" cannot be read", file.display());
        Error::new(ErrorKind::InvalidParameter, message).with_detail(error.to_string())
    })
}

fn addresses(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config> {
        let arguments = [&["frazil"], arguments].concat();
        Arguments::try_parse_from(arguments).unwrap().config()
    }

    #[test]
    fn arguments_go_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("frazil.toml");
        std::fs::write(&file, "workers = 3\ncheckpoint_interval_ms = 50\n").unwrap();
        let file = file.to_str().unwrap();
        let config = config(&["serve", "--config", file, "--workers", "2"]).unwrap();
        assert_eq!((config.workers, config.checkpoint_interval_ms), (2, 50));
    }

    #[test]
    fn a_mistyped_setting_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("frazil.toml");
        std::fs::write(&file, "wrokers = 3\n").unwrap();
        let error = config(&["--config", file.to_str().unwrap()]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidParameter);
        assert!(error.detail.unwrap().contains("wrokers"));
    }

    #[test]
    fn a_process_must_be_one_of_the_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        std::fs::write(&file, "# two\n127.0.0.1:1\n127.0.0.1:2\n").unwrap();
        let hosts = file.to_str().unwrap();
        let two = config(&["--hosts", hosts, "--process", "1"]).unwrap();
        assert_eq!(two.hosts, ["127.0.0.1:1", "127.0.0.1:2"]);
        let error = config(&["--hosts", hosts, "--process", "2"]).unwrap_err();
        assert_eq!(error.message, "process 2 is not one of the 2 hosts");
    }
}
