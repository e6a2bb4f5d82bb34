//! Keyed state: rows in memory, a durable log of segments on the object store.
//!
//! ```text
//! key ──KeyTable──► slot ──locations──► (segment, row)   segments: Arrow batch + live bits
//!                    └────► columns of an operator's state, one value a slot
//! ```
//!
//! **Invariant:** on disk there is one form for all operators, `key -> row | tombstone`; what an
//! operator keeps in memory is its own affair. A slot whose row went is freed at the next
//! checkpoint, when its key has been told as deleted.

mod appended_rows;
mod arrangement;
mod bits;
mod blocks;
mod cold_rows;
mod delta;
mod key_index;
mod key_table;
mod log;
mod memory_account;
mod row_number;
mod segments;
mod shard_reader;
mod slot_column;
mod snapshots;

pub use appended_rows::{AppendedRows, append_indices};
pub use arrangement::{Arrangement, Identity, check_columns};
pub use blocks::{
    BLOCK_BYTES_MIN, DeltaShards, Place, SMALL_BYTES_MAX, SegmentWriter, encode_delta,
};
pub use cold_rows::MovedRows;
pub use delta::{StateDelta, StateTable};
pub use key_table::{KeyTable, NO_SLOT};
pub use log::{
    OperatorId, Packing, SegmentRef, StoredSegments, append_batches, read_batches, table_rows,
};
pub use memory_account::{Charge, MemoryAccount, MemoryKind, MemoryUse, ToMove};
pub use row_number::RowNumber;
pub use segments::{Location, NO_ROW, RowsSnapshot, ScanPlace, Segments};
pub use shard_reader::{NewestRows, ShardGroup, ShardReader};
pub use slot_column::SlotColumn;
pub use snapshots::{ReadEpochs, ShardRows, SnapshotStore, Snapshots};
