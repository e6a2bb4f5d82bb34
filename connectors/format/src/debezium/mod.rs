//! Debezium's change events to changes.
//!
//! ```text
//! {"before": {…}, "after": {…}, "source": {…}, "op": "u", …}
//!      │             └─ a row                  └─ decides at the end what the row means
//!      └─ kept as text: only its key is ever read
//! ```
//!
//! **Invariant:** `before` of a delete is trusted for its key alone: under PostgreSQL's default
//! replica identity Debezium fills its other columns with made-up defaults. So the table must have
//! the source's key.
//! **Invariant:** `after` has a field for every column of the source, so that a declared column
//! without one was dropped or renamed there, or never existed. `before` is not asked.
//! **Invariant:** tombstones, heartbeats, transaction marks, schema changes and logical messages
//! are no rows and no errors; they are counted. Anything else without an `op` is refused.
//!
//! Not here: order and duplicates. Delivery is at least once; a table with a key does not mind. A
//! table without a key would count duplicates, and retract rows that never were: it is refused.

mod envelope;
mod upsert_decoder;

pub(crate) use upsert_decoder::{ReplicaIdentity, UpsertDecoder};
