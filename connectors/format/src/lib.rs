//! Bytes to changes: the formats.
//!
//! ```text
//! message ──unwrap──► payload ────read────► columns ──flush──► Decoded::Changes | Upserts
//!         (schema?)             (one pass)   (truncatable)
//! ```
//!
//! [`build_format`] takes what `FORMAT … ENCODE …` and the WITH clause say and gives a
//! [`Format`](frazil_connector_api::Format), whose decoders write each value straight from the
//! message into the column that it belongs to.
//!
//! **Invariant:** a message that fails leaves no part of a row in the columns. If it tells the key
//! of the row whose new version cannot be read, it leaves a delete: no old version stays silently.
//! **Invariant:** the schema of the batches is the table's, with every column outside the key
//! nullable: the world sends NULL where it promised not to.
//!
//! Not here: where messages come from (Kafka, files), and the old rows of a table with a key.

mod all_or_nothing;
mod connect_schema;
mod debezium;
mod json;
mod message_key;
mod plain;
mod spec;
mod upsert_rows;
mod wire;
mod wrapper;

pub use json::{canonical_json, read_uuid};
pub use spec::{EncodeKind, FormatKind, FormatSpec, OPTIONS, build_format};
