//! [`TypeForms`]: in which form a relation keeps values of types that have had another form.

use serde::{Deserialize, Serialize};

/// The forms that the types of a statement have. They are decided when the statement is bound for
/// the first time, and stored with it: rows that are stored in one form are never read in another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypeForms {
    /// `UUID` and `JSONB` are text: of relations that were made before these had a form.
    #[default]
    Text,
    /// `UUID` is 16 bytes, `JSONB` is canonical JSON.
    Own,
}
