//! The algebra of changes: consolidate, negate, partition by key.
//!
//! A change is a row with a signed weight; a set of them is a Z-set. Two Z-sets are equal if
//! every row has the same sum of weights in both.
//!
//! **Invariant:** every function here keeps the Z-set, but for what its name says.

pub use frazil_connector_api::{ChangeBatch, UpsertBatch, UpsertOp};
