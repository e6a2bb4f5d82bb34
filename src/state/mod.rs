//! Keyed state: arrangements in memory, a durable log of segments on the object store.
//!
//! **Invariant:** on disk there is one form for all operators, `key -> row | tombstone`; what an
//! operator keeps in memory is its own affair.

mod delta;
mod segment;
mod snapshots;

pub use delta::{StateDelta, StateTable};
pub use segment::{SegmentRef, append_batch, encode_delta, live_rows, merge, read_batch};
pub use snapshots::{SnapshotStore, Snapshots};
