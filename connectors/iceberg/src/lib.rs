//! Iceberg tables: exactly-once sink and reader.
//!
//! ```text
//!              ┌ key_index   key -> (file, position)
//! ChangeBatch ─┤ data_writer, deletion_vector, position_delete ─► files ─► committable
//!              └ row_delta   one Iceberg snapshot ─► commit ─► catalog (compare-and-swap)
//! SQL ─► reader ─► live_files (manifests, deletes) ─► parquet_file ─► RecordBatch
//! ```
//!
//! **Invariant:** equality deletes are never written: an update finds the old row by its key and
//! deletes its position, so readers do not pay for the stream.
//!
//! Not here: compaction, expiry and orphan removal.

mod catalog;
mod commit;
mod committable;
mod data_writer;
mod deletion_vector;
mod error;
mod key_index;
mod live_files;
mod options;
mod parquet_file;
mod partition;
mod position_delete;
mod reader;
mod relocate;
mod row_delta;
mod schema;
mod sink;
mod summary;
mod upsert;

pub use catalog::{CommitSink, TableName};
pub use reader::{DataFileScan, IcebergCatalog, IcebergTable};
pub use sink::{DoorFactory, build_iceberg_sink, build_iceberg_sink_behind};
