//! [`SplitId`]: a part of a source that is read in order.

use serde::{Deserialize, Serialize};

/// A split's name, unique in its source: a Kafka partition, a file, a generator's lane.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SplitId(pub String);
