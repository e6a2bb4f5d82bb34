//! [`ErrorContext`]: errors of the libraries below as connector errors.

use frazil_connector_api::{ConnectorError, ConnectorErrorKind, Result};

/// Says what was being done when a library failed.
pub(crate) trait ErrorContext<T> {
    /// Turns the library's error into ours; `what` is lower case, without a full stop.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> ErrorContext<T> for std::result::Result<T, iceberg::Error> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| match source.kind() {
            iceberg::ErrorKind::FeatureUnsupported => {
                ConnectorError::new(ConnectorErrorKind::Unsupported, what()).with_source(source)
            }
            _ => ConnectorError::unavailable(what()).with_source(source),
        })
    }
}

impl<T> ErrorContext<T> for std::result::Result<T, parquet::errors::ParquetError> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| ConnectorError::unavailable(what()).with_source(source))
    }
}

impl<T> ErrorContext<T> for std::result::Result<T, sqlx::Error> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| ConnectorError::unavailable(what()).with_source(source))
    }
}

impl<T> ErrorContext<T> for std::result::Result<T, apache_avro::Error> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| ConnectorError::internal(what()).with_source(source))
    }
}

impl<T> ErrorContext<T> for std::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| ConnectorError::unavailable(what()).with_source(source))
    }
}

/// The table is not as expected.
pub(crate) fn target(message: impl Into<String>) -> ConnectorError {
    ConnectorError::new(ConnectorErrorKind::Target, message)
}

/// The request is understood but not supported.
pub(crate) fn unsupported(message: impl Into<String>) -> ConnectorError {
    ConnectorError::new(ConnectorErrorKind::Unsupported, message)
}
