//! Tables: catalogs, manifests, schemas and partitions.

pub(crate) mod catalog;
pub(crate) mod live_files;
pub(crate) mod partition;
pub(crate) mod schema;
