//! [`CheckpointNumber`]: which checkpoint of a data directory.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of a checkpoint, which is that of its manifest. The first is 1; 0 is before any.
///
/// If an older copy of a data directory is put back, numbers repeat and mean other changes.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CheckpointNumber(pub u64);

impl CheckpointNumber {
    /// The number of the next checkpoint.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for CheckpointNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}
