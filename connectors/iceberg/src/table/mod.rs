//! Tables: catalogs, manifests, schemas and partitions.

pub(crate) mod avro_names;
pub(crate) mod catalog;
pub(crate) mod live_files;
pub(crate) mod manifest_writer;
pub(crate) mod partition;
pub(crate) mod schema;
pub(crate) mod table_name;
pub(crate) mod values;
