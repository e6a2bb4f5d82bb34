//! [`TransactionSettings`]: variables that change where a transaction ends.

use crate::session::Variables;

/// The variables at the end of a transaction that has begun.
#[derive(Debug)]
pub(super) struct TransactionSettings {
    /// After ROLLBACK: those before BEGIN.
    pub(super) rolled_back: Variables,
    /// After COMMIT: those of now without SET LOCAL.
    pub(super) committed: Variables,
    /// A statement has failed: COMMIT is ROLLBACK.
    pub(super) has_failed: bool,
}

impl TransactionSettings {
    /// Those of a transaction that begins.
    pub(super) fn new(variables: &Variables) -> Self {
        let (rolled_back, committed) = (variables.clone(), variables.clone());
        Self { rolled_back, committed, has_failed: false }
    }
}
