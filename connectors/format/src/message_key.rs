//! [`MessageKey`]: the primary key out of a message's key.

use frazil_connector_api::{ConnectorError, Result};

use crate::json::{Columns, Rows, read_whole_row};
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
}
