//! [`PreparedStatements`]: statements that a session runs by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgwire::api::Type;

use crate::error::{Error, ErrorKind, Result};
use crate::session::Description;
use crate::sql::Statement;

/// A statement that is parsed and described. PREPARE makes one, and so does the protocol's Parse.
#[derive(Debug)]
pub struct PreparedStatement {
    /// The statement; none for an empty text.
    pub statement: Option<Statement>,
    /// What it takes and gives.
    pub description: Description,
    /// Types of parameters that the client will send, if they are not those of the description.
    pub told: Vec<Option<Type>>,
}

/// The prepared statements of a session: those of SQL and those of the protocol have one space of
/// names, as in PostgreSQL.
#[derive(Debug, Default)]
pub(super) struct PreparedStatements {
    by_name: BTreeMap<String, Arc<PreparedStatement>>,
}

impl PreparedStatements {
    /// Adds a statement.
    ///
    /// # Errors
    /// `DuplicateStatement`.
    pub(super) fn insert(&mut self, name: &str, prepared: Arc<PreparedStatement>) -> Result<()> {
        if self.by_name.contains_key(name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Error::new(ErrorKind::DuplicateStatement, message));
        }
        self.by_name.insert(name.to_string(), prepared);
        Ok(())
    }

    /// A statement.
    ///
    /// # Errors
    /// `UndefinedStatement`.
    pub(super) fn get(&self, name: &str) -> Result<Arc<PreparedStatement>> {
        self.by_name.get(name).cloned().ok_or_else(|| undefined(name))
    }

    /// Forgets a statement.
    ///
    /// # Errors
    /// `UndefinedStatement`.
    pub(super) fn remove(&mut self, name: &str) -> Result<()> {
        self.by_name.remove(name).map(drop).ok_or_else(|| undefined(name))
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.by_name.clear();
    }
}

fn undefined(name: &str) -> Error {
    let message = match name {
        "" => "unnamed prepared statement does not exist".to_string(),
        name => format!("prepared statement \"{name}\" does not exist"),
    };
    Error::new(ErrorKind::UndefinedStatement, message)
}
