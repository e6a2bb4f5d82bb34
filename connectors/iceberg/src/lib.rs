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

mod commit;
mod error;
mod files;
#[cfg(test)]
mod foreign;
mod key_index;
mod options;
mod reader;
mod sink;
mod table;
mod upsert;
mod writer;

use commit::{committable, marker, relocate, row_delta, stored_file, summary};
use files::{columns, data_writer, deletion_vector, parquet_file, position_delete, unused_files};
use table::{
    avro_names, catalog, live_files, manifest_writer, partition, schema, table_name, values,
};

pub use catalog::CommitSink;
pub use options::{CATALOG_OPTIONS, OPTIONS};
pub use reader::{DataFileScan, IcebergCatalog, IcebergTable};
pub use sink::{DoorFactory, Iceberg, build_iceberg_sink, build_iceberg_sink_behind};
pub use table_name::TableName;
