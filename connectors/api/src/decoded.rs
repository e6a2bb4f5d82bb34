//! [`Decoded`]: the rows of some messages.

use crate::{ChangeBatch, UpsertBatch};

/// What came out of a decoder or a generator.
#[derive(Debug, Clone)]
pub enum Decoded {
    /// Rows with weights: the source tells old rows, or only appends.
    Changes(ChangeBatch),
    /// Rows by key, in order: the table supplies the old rows.
    Upserts(UpsertBatch),
}

impl Decoded {
    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        match self {
            Self::Changes(batch) => batch.num_rows(),
            Self::Upserts(batch) => batch.num_rows(),
        }
    }
}
