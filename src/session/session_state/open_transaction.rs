//! [`OpenTransaction`]: what is known between BEGIN and the end of its transaction.

use crate::error::{Error, ErrorKind, Result};
use crate::session::Variables;

/// A transaction that has begun: the variables at its end and at its savepoints.
#[derive(Debug)]
pub(super) struct OpenTransaction {
    /// After ROLLBACK: those before BEGIN.
    pub(super) rolled_back: Variables,
    /// After COMMIT: those of now without SET LOCAL.
    pub(super) committed: Variables,
    /// A statement has failed: COMMIT is ROLLBACK.
    pub(super) has_failed: bool,
    /// Something was written. A write is durable at once, so that a rollback must say that it
    /// undoes nothing.
    pub(super) has_written: bool,
    /// In the order in which they were made.
    savepoints: Vec<Savepoint>,
}

/// What ROLLBACK TO goes back to.
#[derive(Debug, Clone)]
pub(super) struct Savepoint {
    pub(super) name: String,
    /// The variables then.
    pub(super) variables: Variables,
    /// The variables after a COMMIT then.
    pub(super) committed: Variables,
    /// Cursors that were declared before.
    pub(super) cursors: u64,
}

impl OpenTransaction {
    /// Those of a transaction that begins.
    pub(super) fn new(variables: &Variables) -> Self {
        let (rolled_back, committed) = (variables.clone(), variables.clone());
        Self {
            rolled_back,
            committed,
            has_failed: false,
            has_written: false,
            savepoints: Vec::new(),
        }
    }

    /// Makes a savepoint; an older one of its name is hidden.
    pub(super) fn save(&mut self, name: &str, variables: &Variables, cursors: u64) {
        let (variables, committed) = (variables.clone(), self.committed.clone());
        self.savepoints.push(Savepoint { name: name.to_string(), variables, committed, cursors });
    }

    /// Forgets a savepoint and those behind it.
    ///
    /// # Errors
    /// `UndefinedSavepoint`.
    pub(super) fn release(&mut self, name: &str) -> Result<()> {
        let at = self.find(name)?;
        self.savepoints.truncate(at);
        Ok(())
    }

    /// Goes back to a savepoint, which stays; gives it.
    ///
    /// # Errors
    /// `UndefinedSavepoint`.
    pub(super) fn go_back(&mut self, name: &str) -> Result<Savepoint> {
        let at = self.find(name)?;
        self.savepoints.truncate(at + 1);
        let savepoint = self.savepoints[at].clone();
        self.committed = savepoint.committed.clone();
        self.has_failed = false;
        Ok(savepoint)
    }

    fn find(&self, name: &str) -> Result<usize> {
        self.savepoints.iter().rposition(|savepoint| savepoint.name == name).ok_or_else(|| {
            let message = format!("savepoint \"{name}\" does not exist");
            Error::new(ErrorKind::UndefinedSavepoint, message)
        })
    }
}
