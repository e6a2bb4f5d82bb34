//! The error of a text that is no value.

use crate::error::{Error, ErrorKind};

/// The error of a text that is no value of the type.
pub(super) fn invalid_text(text: &str, type_name: &str) -> Error {
    let message = format!("invalid input syntax for type {type_name}: \"{text}\"");
    Error::new(ErrorKind::InvalidValue, message)
}
