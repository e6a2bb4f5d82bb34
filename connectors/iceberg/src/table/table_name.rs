//! [`TableName`]: namespace and name.

use std::fmt;

/// A table's name in its catalog.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The namespace ("database").
    pub namespace: String,
    /// The name inside it.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.namespace, self.name)
    }
}
