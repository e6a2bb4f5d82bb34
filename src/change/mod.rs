//! The algebra of changes: consolidate, negate, partition by key.
//!
//! A change is a row with a signed weight; a set of them is a Z-set. Two Z-sets are equal if
//! every row has the same sum of weights in both.
//!
//! ```text
//! + 1 a                                    part 0: + 1 a
//! + 2 b   consolidate   + 1 a   partition
//! - 2 b  ────────────►  + 3 c  ──────────► part 1: + 3 c
//! + 3 c
//! ```
//!
//! **Invariant:** every function here keeps the Z-set, but for what its name says. Hashes are the
//! same in every process.

mod chunks;
mod consolidate;
mod equal;
mod hash;
mod latest;
mod partition;
mod shard;
pub mod words;

pub use chunks::{
    BATCH_BYTES_MAX, RowSizes, batch_bytes, change_chunks, chunks_by_bytes, runs_by_bytes,
    runs_up_to,
};
pub use consolidate::{concat, consolidate, consolidate_in_chunks, negate, with_weights};
pub use equal::{RowsAt, equal_rows, equal_rows_at};
pub use frazil_connector_api::{ChangeBatch, UpsertBatch, UpsertOp};
pub use hash::{hash_bytes, hash_rows, mix};
pub use latest::latest_by_key;
pub use partition::{partition_by, partition_by_key, partition_upserts, take_rows};
pub use shard::{SHARDS, ShardRange, owner_of, shard_of, shards_of};
