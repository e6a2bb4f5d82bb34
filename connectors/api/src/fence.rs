//! [`Fence`]: which start of the engine a write is of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of a start of the engine on its data directory.
///
/// It grows with each start: what a process writes is refused where a higher fence has been.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Fence(pub u64);

impl Fence {
    /// The fence of the next start.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}
