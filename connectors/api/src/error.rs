//! [`ConnectorError`]: what went wrong outside, and whether to try again.

use std::fmt;

/// Result of the contract.
pub type Result<T> = std::result::Result<T, ConnectorError>;

/// Whether the same call may succeed later; the job decides when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same call will fail again.
    Never,
    /// Try again after a growing pause.
    Backoff,
}

/// A kind only where the engine acts differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectorErrorKind {
    /// Wrong or missing option; refused at CREATE.
    Config,
    /// A message that cannot be decoded; goes to the errors table.
    BadMessage,
    /// The outside is out of reach, busy or answered unclearly.
    Unavailable,
    /// Another process has taken over; this one must stop.
    Fenced,
    /// The table or topic is not as expected.
    Target,
    /// The request is understood but not supported.
    Unsupported,
    /// A fault of ours.
    Internal,
}

/// An error of a connector.
#[derive(Debug)]
pub struct ConnectorError {
    /// What kind.
    pub kind: ConnectorErrorKind,
    /// Lower case, no full stop, names in double quotes, with the value seen.
    pub message: String,
    /// The next step for the user.
    pub hint: Option<String>,
    /// Whether to try again.
    pub retry: Retry,
    /// The cause.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ConnectorError {
    /// An error of a kind that is not retried.
    pub fn new(kind: ConnectorErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, retry: Retry::Never, source: None }
    }

    /// A wrong or missing option.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ConnectorErrorKind::Config, message)
    }

    /// A statement without FORMAT, whose connector has messages that must be decoded.
    pub fn needs_format(connector: &str) -> Self {
        Self::config(format!("connector \"{connector}\" needs a format"))
            .with_hint("add FORMAT DEBEZIUM ENCODE JSON or FORMAT PLAIN ENCODE JSON")
    }

    /// A message that cannot be decoded.
    pub fn bad_message(message: impl Into<String>) -> Self {
        Self::new(ConnectorErrorKind::BadMessage, message)
    }

    /// Out of reach; try again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { retry: Retry::Backoff, ..Self::new(ConnectorErrorKind::Unavailable, message) }
    }

    /// A fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ConnectorErrorKind::Internal, message)
    }

    /// The error with its cause and the next step for the user, where only a text can be shown.
    pub fn with_next_step(&self) -> String {
        match &self.hint {
            None => self.to_string(),
            Some(hint) => format!("{self} (hint: {hint})"),
        }
    }

    /// Adds the next step for the user.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(out, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConnectorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<arrow::error::ArrowError> for ConnectorError {
    fn from(source: arrow::error::ArrowError) -> Self {
        Self::internal("an Arrow kernel failed").with_source(source)
    }
}
