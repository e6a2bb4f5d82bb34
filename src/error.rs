//! [`Error`]: one error type for the engine, and its SQLSTATE.

use std::fmt;

use frazil_connector_api::{ConnectorError, ConnectorErrorKind, Retry};

/// Result of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// A kind only where a caller acts differently or a client sees another SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The text is not SQL.
    Syntax,
    /// A name that does not exist: table, view, source, sink.
    UndefinedTable,
    /// A column that does not exist.
    UndefinedColumn,
    /// A function or operator that does not exist for these types.
    UndefinedFunction,
    /// A name that exists already.
    DuplicateTable,
    /// Something else depends on the object.
    DependentObjects,
    /// Types that do not fit.
    DatatypeMismatch,
    /// A value that cannot be what it should, such as text cast to a number.
    InvalidValue,
    /// Division by zero.
    DivisionByZero,
    /// A number out of its type's range.
    OutOfRange,
    /// A NULL where none may be.
    NotNullViolation,
    /// A parameter or option with a wrong value.
    InvalidParameter,
    /// SQL that is understood but not supported.
    Unsupported,
    /// State beyond its budget.
    StateTooLarge,
    /// The outside is out of reach; retried.
    Unavailable,
    /// Another process has taken over the data directory.
    Fenced,
    /// The client cancelled.
    Cancelled,
    /// The engine is going down.
    Shutdown,
    /// Stored data is damaged or of another version.
    Corrupt,
    /// A fault of ours.
    Internal,
}

impl ErrorKind {
    /// SQLSTATE for clients.
    pub fn sqlstate(self) -> &'static str {
        match self {
            Self::Syntax => "42601",
            Self::UndefinedTable => "42P01",
            Self::UndefinedColumn => "42703",
            Self::UndefinedFunction => "42883",
            Self::DuplicateTable => "42P07",
            Self::DependentObjects => "2BP01",
            Self::DatatypeMismatch => "42804",
            Self::InvalidValue => "22P02",
            Self::DivisionByZero => "22012",
            Self::OutOfRange => "22003",
            Self::NotNullViolation => "23502",
            Self::InvalidParameter => "22023",
            Self::Unsupported => "0A000",
            Self::StateTooLarge => "53200",
            Self::Unavailable => "08006",
            Self::Fenced => "55006",
            Self::Cancelled => "57014",
            Self::Shutdown => "57P01",
            Self::Corrupt => "XX001",
            Self::Internal => "XX000",
        }
    }
}

/// An error of the engine.
///
/// `message` is lower case, without a full stop, names in double quotes, with the value seen;
/// `hint` tells the next step.
#[derive(Debug, Clone)]
pub struct Error {
    /// What kind.
    pub kind: ErrorKind,
    /// What went wrong.
    pub message: String,
    /// More of it, such as the row.
    pub detail: Option<String>,
    /// The next step for the user.
    pub hint: Option<String>,
    /// Character in the statement's text, counted from 1.
    pub position: Option<usize>,
    /// Where it happened, outermost first: job, operator.
    pub context: Vec<String>,
    /// Whether the same work may succeed later.
    pub retryable: bool,
}

impl Error {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            context: Vec::new(),
            retryable: kind == ErrorKind::Unavailable,
        }
    }

    /// SQL that is understood but not supported: `0A000`.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the next step for the user.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the character in the statement's text, counted from 1.
    #[must_use]
    pub fn at(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }

    /// Adds where it happened.
    #[must_use]
    pub fn within(mut self, place: impl Into<String>) -> Self {
        self.context.insert(0, place.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in &self.context {
            write!(out, "{place}: ")?;
        }
        out.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(out, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<ConnectorError> for Error {
    fn from(error: ConnectorError) -> Self {
        let kind = match error.kind {
            ConnectorErrorKind::Config => ErrorKind::InvalidParameter,
            ConnectorErrorKind::BadMessage => ErrorKind::InvalidValue,
            ConnectorErrorKind::Unavailable => ErrorKind::Unavailable,
            ConnectorErrorKind::Fenced => ErrorKind::Fenced,
            ConnectorErrorKind::Target => ErrorKind::InvalidParameter,
            ConnectorErrorKind::Unsupported => ErrorKind::Unsupported,
            ConnectorErrorKind::Internal => ErrorKind::Internal,
        };
        let mut engine = Self::new(kind, error.message.clone());
        engine.detail = error.source.as_ref().map(ToString::to_string);
        engine.hint = error.hint.clone();
        engine.retryable = error.retry == Retry::Backoff;
        engine
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        use arrow::error::ArrowError as Arrow;
        match error {
            Arrow::DivideByZero => Self::new(ErrorKind::DivisionByZero, "division by zero"),
            Arrow::ArithmeticOverflow(text) => Self::new(ErrorKind::OutOfRange, text),
            Arrow::CastError(text) | Arrow::ParseError(text) => {
                Self::new(ErrorKind::InvalidValue, text)
            }
            other => Self::internal(other.to_string()),
        }
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self::new(ErrorKind::Unavailable, "the object store failed").with_detail(error.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(ErrorKind::Unavailable, "an input or output failed")
            .with_detail(error.to_string())
    }
}
