//! Frazil: a streaming SQL engine over CDC and lakehouse tables.
//!
//! ```text
//! SQL ──► sql ──► plan ──► dataflow ──► checkpoint ──► Iceberg snapshots
//!                             │
//! Kafka, files, generator ────┘──► state: live views, read by session
//! ```
//!
//! **Invariant:** incremental = batch: after any changes a view equals its query over the same
//! data. Imports go down only; `tidy.rs` reads the tree and fails otherwise.

pub mod catalog;
pub mod change;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod dataflow;
pub mod env;
pub mod error;
pub mod functions;
pub mod job;
pub mod plan;
pub mod server;
pub mod session;
pub mod shell;
pub mod sql;
pub mod state;
pub mod types;

/// Of every binary, tests and benches too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(test)]
mod tidy;
