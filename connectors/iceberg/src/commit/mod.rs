//! Commits: what a checkpoint adds to a table, and how it becomes visible once.
//!
//! ```text
//! RowDelta ─► Payload (committable) ─► Committer: standing (marker) ─► relocate ─► stage ─► swap
//! ```

pub(crate) mod committable;
mod committer;
pub(crate) mod marker;
pub(crate) mod relocate;
pub(crate) mod row_delta;
pub(crate) mod stored_file;
pub(crate) mod summary;

pub(crate) use committer::{Committer, Landed, Tried};
