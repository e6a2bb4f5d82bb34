//! [`RelationId`] and [`ChangelogMode`]: a relation's name inside, and what its stream holds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Id of a relation (table, source, view, errors, sink, pipeline) in the catalog; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RelationId(pub u32);

impl fmt::Display for RelationId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "r{}", self.0)
    }
}

/// What may appear on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangelogMode {
    /// Inserts only.
    AppendOnly,
    /// Inserts and retractions of whole rows.
    Retract,
}
