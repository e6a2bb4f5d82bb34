//! [`MessageKey`]: the primary key out of a message's key.

use frazil_connector_api::{ConnectorError, Result};

use crate::json::{Columns, Cursor, Name, Rows, Syntax, read_whole_row};
use crate::wrapper::Wrapper;

/// Reads rows that have only a key.
#[derive(Debug, Clone)]
pub(crate) struct MessageKey {
    wrapper: Wrapper,
}

impl MessageKey {
    /// Reads keys that `wrapper` opens.
    pub(crate) fn new(wrapper: Wrapper) -> Self {
        Self { wrapper }
    }

    /// Appends a row with the key columns of `key`, by name, and NULL elsewhere.
    ///
    /// # Errors
    /// `BadMessage`; what was appended is the caller's to truncate.
    pub(crate) fn push(&mut self, key: Option<&[u8]>, rows: &mut Rows) -> Result<()> {
        let no_key = || {
            ConnectorError::bad_message("a delete has no message key with the primary key")
                .with_hint("the message key must be a JSON object with the primary key's columns")
        };
        let (payload, wires) = self
            .wrapper
            .open(key.ok_or_else(no_key)?)
            .map_err(|error| no_key().with_source(error))?;
        match read_whole_row(payload, rows, wires, Columns::Key) {
            Ok(read) if read.is_row => Ok(()),
            Ok(_) => Err(no_key()),
            Err(broken) => {
                let reason = rows.explain(payload, broken);
                Err(no_key().with_source(reason))
            }
        }
    }

    /// Compares the columns of the message's key, which are the source's key, with the table's
    /// primary key. A key that is no JSON object says nothing.
    ///
    /// # Errors
    /// `BadMessage` naming both, if one lacks a column of the other. Fields that begin with two
    /// underscores are not columns: routers add them.
    pub(crate) fn check(&mut self, key: Option<&[u8]>, rows: &Rows) -> Result<()> {
        let Some(key) = key else { return Ok(()) };
        let Ok((payload, _)) = self.wrapper.open(key) else { return Ok(()) };
        match is_primary_key(payload, rows) {
            Ok(false) => Err(self.differs(payload, rows)),
            Ok(true) | Err(Syntax) => Ok(()),
        }
    }

    #[cold]
    fn differs(&self, payload: &str, rows: &Rows) -> ConnectorError {
        let names = field_names(payload).unwrap_or_default().join(", ");
        let message = format!(
            "the key of the message is ({names}), and the primary key of the table is ({})",
            rows.key_names().join(", ")
        );
        ConnectorError::bad_message(message).with_hint(format!(
            "without the source's key deletes are lost: declare PRIMARY KEY ({names}), or set \
             replica.identity = 'full' if the source sends whole old rows (REPLICA IDENTITY FULL)"
        ))
    }
}

/// Whether an object's fields are the columns of the primary key; `null` has none and passes.
fn is_primary_key(payload: &str, rows: &Rows) -> std::result::Result<bool, Syntax> {
    let mut cursor = Cursor::new(payload);
    let Some(mut object) = cursor.object()? else { return Ok(true) };
    let mut found = 0;
    while let Some(name) = cursor.next_name(&mut object, rows.key_guess(found))? {
        cursor.value()?;
        match name {
            Name::Guessed => found += 1,
            Name::Other(name) if name.starts_with("__") => {}
            Name::Other(name) => match rows.find(&name) {
                Some(index) if rows.is_key(index) => found += 1,
                _ => return Ok(false),
            },
        }
    }
    cursor.end()?;
    Ok(found == rows.key_width())
}

fn field_names(payload: &str) -> std::result::Result<Vec<String>, Syntax> {
    let mut cursor = Cursor::new(payload);
    let mut names = Vec::new();
    let Some(mut object) = cursor.object()? else { return Ok(names) };
    while let Some(name) = cursor.next_name(&mut object, "")? {
        cursor.value()?;
        if let Name::Other(name) = name {
            names.push(name.into_owned());
        }
    }
    Ok(names)
}
