//! Data and delete files: rows in Parquet, deleted positions in Puffin or Parquet.

pub(crate) mod columns;
pub(crate) mod data_writer;
pub(crate) mod deletion_vector;
pub(crate) mod parquet_file;
pub(crate) mod position_delete;
pub(crate) mod unused_files;
