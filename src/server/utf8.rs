//! [`text`]: bytes of a client as text.

use memchr::memchr;

use crate::error::{Error, ErrorKind, Result};

/// Bytes as text.
///
/// # Errors
/// `InvalidEncoding`.
pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    let wrong = |at: usize, count: usize| {
        let shown = bytes[at..].iter().take(count.max(1)).map(|byte| format!("0x{byte:02x}"));
        let shown = shown.collect::<Vec<_>>().join(" ");
        let message = format!("invalid byte sequence for encoding \"UTF8\": {shown}");
        Error::new(ErrorKind::InvalidEncoding, message)
    };
    if let Some(at) = memchr(0, bytes) {
        return Err(wrong(at, 1));
    }
    std::str::from_utf8(bytes)
        .map_err(|error| wrong(error.valid_up_to(), error.error_len().unwrap_or(1)))
}
