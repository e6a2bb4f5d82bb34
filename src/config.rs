//! [`Config`]: every setting, with its unit and default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Settings of one process. Read from a TOML file and from arguments.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where state and catalog live. Default `.frazil`.
    pub data_dir: PathBuf,
    /// Worker threads of this process; 0 is one a core. Default 0.
    pub workers: usize,
    /// Addresses of all processes, one a line in the `--hosts` file; empty for a single process.
    pub hosts: Vec<String>,
    /// Index of this process in `hosts`. Process 0 coordinates and serves. Default 0.
    pub process: usize,
    /// Time between durable epochs under load, in milliseconds. Default 1000.
    pub checkpoint_interval_ms: u64,
    /// Shortest time between epochs, in milliseconds: an idle engine closes an epoch as soon as a
    /// change arrives, a loaded one at this pace. Default 10.
    pub epoch_interval_ms: u64,
    /// Batches that may wait between a source's thread and its worker. Default 4.
    pub source_channel_batches: usize,
    /// Rows asked of a source at once. Default 8192.
    pub source_batch_rows: usize,
    /// Epochs that may be under way at once: the backpressure. Default 4.
    pub epochs_in_flight: usize,
    /// Memory that all queries of clients may use together, in bytes; what sorts, joins and groups
    /// beyond it is written to `query-spill` in the data directory, what cannot be written fails
    /// with 53200. 0 is a quarter of the machine's memory. Default 0.
    pub query_memory_bytes: u64,
    /// Address of the Postgres wire. Default `127.0.0.1:4566`.
    pub pg_listen: String,
    /// Directory of `*.sql` files with pipelines that are kept up to date; none by default.
    pub pipelines: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(".frazil"),
            workers: 0,
            hosts: Vec::new(),
            process: 0,
            checkpoint_interval_ms: 1000,
            epoch_interval_ms: 10,
            source_channel_batches: 4,
            source_batch_rows: 8192,
            epochs_in_flight: 4,
            query_memory_bytes: 0,
            pg_listen: "127.0.0.1:4566".to_string(),
            pipelines: None,
        }
    }
}
