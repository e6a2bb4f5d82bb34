//! [`Config`]: every setting, with its unit and default.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// A number of bytes, written as a number or as text such as `1GiB` or `500 MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// Units of [`ByteSize`].
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = UNITS.iter();
        let with_unit = |(unit, size): &(&str, u64)| Some((text.strip_suffix(unit)?, *size));
        let (number, unit) = units.clone().find_map(with_unit).unwrap_or((text, 1));
        let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        bytes.map(Self).ok_or_else(|| {
            let units: Vec<&str> = units.map(|(unit, _)| *unit).collect();
            format!("\"{text}\" is no number of bytes; units are {}", units.join(", "))
        })
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a number of bytes, or text such as \"1GiB\"")
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(E::custom)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

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
    /// Longest time between checkpoints while sources bring changes, in milliseconds: so much of
    /// them is read again after a crash. Statements, FLUSH and sinks that are due have theirs at
    /// once. Default 5000.
    pub checkpoint_interval_ms: u64,
    /// Shortest time between epochs, in milliseconds: an idle engine closes an epoch as soon as a
    /// change arrives, a loaded one at this pace. Default 50.
    pub epoch_interval_ms: u64,
    /// Batches that may wait between a source's thread and its worker. Default 4.
    pub source_channel_batches: usize,
    /// Rows asked of a source at once. Default 8192.
    pub source_batch_rows: usize,
    /// Epochs that may be under way at once: the backpressure. Default 4.
    pub epochs_in_flight: usize,
    /// Memory that this process may use: beyond it the largest job fails with 53200. 0 is 75 % of
    /// the machine's memory, or of the control group's limit. Default 0.
    pub memory_limit: ByteSize,
    /// Memory above which rows are moved to scratch files and sources are slowed down. 0 is 75 % of
    /// `memory_limit`. Default 0.
    pub memory_soft_limit: ByteSize,
    /// Directory of scratch files; by default `scratch` in the data directory.
    pub scratch_dir: Option<PathBuf>,
    /// Part of `memory_limit` that all queries of clients may use together, in bytes; what sorts,
    /// joins and groups beyond it is written to `query-spill` in the data directory, what cannot be
    /// written fails with 53200. 0 is a quarter of `memory_limit`. Default 0.
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
            checkpoint_interval_ms: 5000,
            epoch_interval_ms: 50,
            source_channel_batches: 4,
            source_batch_rows: 8192,
            epochs_in_flight: 4,
            memory_limit: ByteSize(0),
            memory_soft_limit: ByteSize(0),
            scratch_dir: None,
            query_memory_bytes: 0,
            pg_listen: "127.0.0.1:4566".to_string(),
            pipelines: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!("1GiB".parse(), Ok(ByteSize(1 << 30)));
        assert_eq!("20 MB".parse(), Ok(ByteSize(20_000_000)));
        assert_eq!("7".parse(), Ok(ByteSize(7)));
        assert!("GiB".parse::<ByteSize>().is_err());
        assert!("1 GiBs".parse::<ByteSize>().is_err());
        assert!("99999999 TiB".parse::<ByteSize>().is_err());
        let config: Config =
            toml::from_str("memory_limit = '2KiB'\nmemory_soft_limit = 5").unwrap();
        assert_eq!((config.memory_limit.0, config.memory_soft_limit.0), (2048, 5));
        assert!(toml::from_str::<Config>("memory_limit = -1").is_err());
    }
}
