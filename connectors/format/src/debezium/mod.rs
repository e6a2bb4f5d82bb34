//! Debezium's change events to changes.
//!
//! ```text
//! {"before": {…}, "after": {…}, "source": {…}, "op": "u", …}
//!      │             └─ rows (key or not)      └─ decides at the end what the rows mean
//!      ├─ table with a key: kept as text, only its key is ever read
//!      └─ table without:    rows
//! ```
//!
//! **Invariant:** `before` of a delete is trusted for its key alone: under PostgreSQL's default
//! replica identity Debezium fills its other columns with made-up defaults.
//! **Invariant:** tombstones, heartbeats, transaction marks, schema changes and logical messages
//! are no rows and no errors; they are counted. Anything else without an `op` is refused.
//!
//! Not here: order and duplicates. Delivery is at least once; a table with a key does not mind.

mod envelope;
mod retract_decoder;
mod upsert_decoder;

pub(crate) use retract_decoder::RetractDecoder;
pub(crate) use upsert_decoder::UpsertDecoder;
