//! [`Error`]: one error type for the engine, and its SQLSTATE.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;

use frazil_connector_api::{ConnectorError, ConnectorErrorKind, Retry};
use serde::{Deserialize, Serialize};

/// Result of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// A kind only where a caller acts differently or a client sees another SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The text is not SQL.
    Syntax,
    /// A name that does not exist: table, view, source, sink.
    UndefinedTable,
    /// A schema that does not exist.
    UndefinedSchema,
    /// A parameter that has no value.
    UndefinedParameter,
    /// A column that does not exist.
    UndefinedColumn,
    /// A column name that fits several columns.
    AmbiguousColumn,
    /// A column named twice.
    DuplicateColumn,
    /// Columns that are no key.
    InvalidColumnReference,
    /// Two tables of a statement with one name.
    DuplicateAlias,
    /// A constraint or a setting that does not exist.
    UndefinedObject,
    /// A function or operator that does not exist for these types.
    UndefinedFunction,
    /// A column that is neither grouped nor aggregated.
    Grouping,
    /// A window function where none may be.
    Windowing,
    /// A value for a column that takes its own numbers alone.
    GeneratedAlways,
    /// SQL whose parts do not fit together.
    InvalidSql,
    /// An object of another kind than the statement wants.
    WrongObjectType,
    /// A function of the name exists.
    DuplicateFunction,
    /// A name that exists already.
    DuplicateTable,
    /// Something else depends on the object.
    DependentObjects,
    /// Types that do not fit.
    DatatypeMismatch,
    /// A cast that does not exist between these types.
    CannotCast,
    /// A value that cannot be what it should, such as text cast to a number.
    InvalidValue,
    /// Bytes that are not in a type's binary form.
    InvalidBinary,
    /// Bytes that are not UTF-8.
    InvalidEncoding,
    /// A pattern that is no regular expression.
    InvalidRegularExpression,
    /// Division by zero.
    DivisionByZero,
    /// A number out of its type's range.
    OutOfRange,
    /// Several rows where one may be.
    Cardinality,
    /// A NULL where none may be.
    NotNullViolation,
    /// A parameter or option with a wrong value.
    InvalidParameter,
    /// SQL that is understood but not supported.
    Unsupported,
    /// Another statement wrote what this one had read.
    SerializationFailure,
    /// A statement that is nested too deeply.
    TooDeep,
    /// A value that is larger than what is computed at once.
    ValueTooLarge,
    /// State beyond its budget.
    StateTooLarge,
    /// A job has failed for good, by a row that it cannot compute.
    JobFailed,
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
    /// A prepared statement that does not exist.
    UndefinedStatement,
    /// A prepared statement that exists already.
    DuplicateStatement,
    /// A cursor that does not exist.
    UndefinedCursor,
    /// A cursor that exists already.
    DuplicateCursor,
    /// What is there cannot do this, such as a cursor that would have to go back.
    NotInState,
    /// A statement of transactions outside of one.
    NoTransaction,
    /// A statement that cannot run within a transaction.
    InTransaction,
    /// A savepoint that does not exist.
    UndefinedSavepoint,
    /// Rows of COPY that are not in its format.
    BadCopyFormat,
    /// A message that the protocol does not have there.
    ProtocolViolation,
}

impl ErrorKind {
    /// SQLSTATE for clients.
    pub fn sqlstate(self) -> &'static str {
        match self {
            Self::Syntax => "42601",
            Self::UndefinedTable => "42P01",
            Self::UndefinedSchema => "3F000",
            Self::UndefinedParameter => "42P02",
            Self::UndefinedColumn => "42703",
            Self::AmbiguousColumn => "42702",
            Self::DuplicateColumn => "42701",
            Self::InvalidColumnReference => "42P10",
            Self::DuplicateAlias => "42712",
            Self::UndefinedObject => "42704",
            Self::UndefinedFunction => "42883",
            Self::Grouping => "42803",
            Self::Windowing => "42P20",
            Self::GeneratedAlways => "428C9",
            Self::InvalidSql => "42601",
            Self::WrongObjectType => "42809",
            Self::DuplicateFunction => "42723",
            Self::DuplicateTable => "42P07",
            Self::DependentObjects => "2BP01",
            Self::DatatypeMismatch => "42804",
            Self::CannotCast => "42846",
            Self::InvalidValue => "22P02",
            Self::InvalidBinary => "22P03",
            Self::InvalidEncoding => "22021",
            Self::InvalidRegularExpression => "2201B",
            Self::DivisionByZero => "22012",
            Self::OutOfRange => "22003",
            Self::Cardinality => "21000",
            Self::NotNullViolation => "23502",
            Self::InvalidParameter => "22023",
            Self::Unsupported => "0A000",
            Self::SerializationFailure => "40001",
            Self::TooDeep => "54001",
            Self::ValueTooLarge => "54000",
            Self::StateTooLarge => "53200",
            Self::JobFailed => "55000",
            // Not of class 08: clients throw a connection away that says so, and it is sound.
            Self::Unavailable => "58030",
            Self::Fenced => "55006",
            Self::Cancelled => "57014",
            Self::Shutdown => "57P01",
            Self::Corrupt => "XX001",
            Self::Internal => "XX000",
            Self::UndefinedStatement => "26000",
            Self::DuplicateStatement => "42P05",
            Self::UndefinedCursor => "34000",
            Self::DuplicateCursor => "42P03",
            Self::NotInState => "55000",
            Self::NoTransaction => "25P01",
            Self::InTransaction => "25001",
            Self::UndefinedSavepoint => "3B001",
            Self::BadCopyFormat => "22P04",
            Self::ProtocolViolation => "08P01",
        }
    }
}

/// An error of the engine.
///
/// `message` is lower case, without a full stop, names in double quotes, with the value seen;
/// `hint` tells the next step. It crosses workers and processes as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The error that caused this one.
    pub source: Option<Box<Error>>,
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
            retryable: matches!(kind, ErrorKind::Unavailable | ErrorKind::SerializationFailure),
            source: None,
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

    /// A job does not run, because of `cause`.
    pub fn job_failed(message: impl Into<String>, cause: &Self) -> Self {
        let error = Self::new(ErrorKind::JobFailed, message).with_detail(cause.to_string());
        Self { hint: cause.hint.clone(), source: Some(Box::new(cause.clone())), ..error }
    }

    /// What a function says of its values, in words alone: the kind is read from them.
    pub fn of_values(text: &str) -> Self {
        let text = uncapitalised(text.trim().trim_end_matches('.'));
        let lower = text.to_lowercase();
        let has = |part: &str| lower.contains(part);
        let kind = if is_about_pattern(&lower) {
            ErrorKind::InvalidRegularExpression
        } else if has("cannot parse") || has("error parsing") {
            ErrorKind::InvalidValue
        } else if has("more than one row") {
            ErrorKind::Cardinality
        } else if has("size overflow on") || has("too large, maximum") {
            ErrorKind::ValueTooLarge
        } else if is_out_of_range(&lower) {
            ErrorKind::OutOfRange
        } else {
            ErrorKind::InvalidParameter
        };
        Self::new(kind, text)
    }

    /// An error that the planner or a kernel carries: ours, or of a library that it uses.
    pub fn carried(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Self {
        match error.downcast_ref::<Self>() {
            Some(ours) => ours.clone(),
            None => match error.to_string() {
                text if is_about_pattern(&text.to_lowercase()) => Self::of_values(&text),
                text => Self::internal(text),
            },
        }
    }

    /// A panic, which is a fault of ours, met by `place`.
    pub fn panicked(place: &str, panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Self::internal(format!("a fault of the engine in {place}"))
            .with_detail(format!("panic: {text}"))
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

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Runs a step of `place`; a panic in it is an error.
///
/// # Errors
/// What the step says; `Internal` for a panic.
pub fn caught<T>(place: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(step))
        .unwrap_or_else(|panic| Err(Error::panicked(place, panic.as_ref())))
}

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
        Self::from(&error)
    }
}

impl From<&arrow::error::ArrowError> for Error {
    fn from(error: &arrow::error::ArrowError) -> Self {
        use arrow::error::ArrowError as Arrow;
        let told = |kind, text: &str| Self::new(kind, uncapitalised(text));
        match error {
            Arrow::DivideByZero => told(ErrorKind::DivisionByZero, "division by zero"),
            Arrow::ArithmeticOverflow(text) => told(ErrorKind::OutOfRange, text),
            Arrow::CastError(text)
            | Arrow::ParseError(text)
            | Arrow::InvalidArgumentError(text)
            | Arrow::ComputeError(text)
                if is_out_of_range(text) =>
            {
                told(ErrorKind::OutOfRange, text)
            }
            Arrow::CastError(text) | Arrow::ParseError(text) => told(ErrorKind::InvalidValue, text),
            Arrow::ComputeError(text) if is_about_pattern(&text.to_lowercase()) => {
                Self::of_values(text)
            }
            Arrow::ExternalError(error) => Self::carried(error.as_ref()),
            Arrow::NotYetImplemented(text) => Self::unsupported(uncapitalised(text)),
            other => Self::internal(uncapitalised(&other.to_string())),
        }
    }
}

/// Whether a text in lower case is about a regular expression.
fn is_about_pattern(text: &str) -> bool {
    text.contains("regex parse error") || text.contains("regular expression did not compile")
}

/// Whether an error of the kernels is about a number that its type cannot hold.
fn is_out_of_range(text: &str) -> bool {
    let text = text.to_lowercase();
    ["can't cast value", "too large to store", "too small to store", "overflow", "out of range"]
        .into_iter()
        .any(|part| text.contains(part))
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

impl From<datafusion::error::DataFusionError> for Error {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        use datafusion::error::DataFusionError as Planner;
        match error {
            Planner::ArrowError(error, _) => Self::from(*error),
            Planner::Context(_, inner) | Planner::Diagnostic(_, inner) => Self::from(*inner),
            Planner::Collection(errors) => match errors.into_iter().next() {
                Some(first) => Self::from(first),
                None => Self::internal("the planner failed without an error"),
            },
            Planner::Shared(inner) => from_planner_text(&inner.strip_backtrace()),
            Planner::External(inner) => match inner.downcast::<Self>() {
                Ok(error) => *error,
                Err(other) => Self::carried(other.as_ref()),
            },
            Planner::NotImplemented(text) => Self::unsupported(first_line(&text)),
            Planner::SchemaError(schema, _) => from_schema_error(&schema),
            Planner::ResourcesExhausted(text) => Self::new(ErrorKind::StateTooLarge, text),
            Planner::ObjectStore(error) => Self::from(*error),
            Planner::IoError(error) => Self::from(error),
            Planner::SQL(error, _) => Self::new(ErrorKind::Syntax, error.to_string()),
            Planner::Plan(text) | Planner::Execution(text) => from_planner_text(&text),
            other => Self::internal(first_line(&other.strip_backtrace())),
        }
    }
}

/// A column that does not exist, exists twice in the output, or is ambiguous.
fn from_schema_error(error: &datafusion::common::SchemaError) -> Error {
    use datafusion::common::SchemaError as Schema;
    match error {
        Schema::FieldNotFound { field, valid_fields } => {
            let of = |table: &str| {
                let mut tables = valid_fields.iter().filter_map(|it| it.relation.as_ref());
                tables.next().is_some_and(|first| {
                    first.table() != table && tables.all(|other| other.table() != table)
                })
            };
            if let Some(table) = field.relation.as_ref().map(|it| it.table()).filter(|it| of(it)) {
                let message = format!("missing FROM-clause entry for table \"{table}\"");
                return Error::new(ErrorKind::UndefinedTable, message);
            }
            let message = format!("column \"{}\" does not exist", field.name);
            let names = valid_fields.iter().map(|column| column.name.as_str());
            let error = Error::new(ErrorKind::UndefinedColumn, message);
            match nearest(&field.name, names) {
                Some(name) => error.with_hint(format!("perhaps you meant \"{name}\"")),
                None => error,
            }
        }
        Schema::AmbiguousReference { field } => Error::new(
            ErrorKind::AmbiguousColumn,
            format!("column reference \"{}\" is ambiguous", field.name),
        )
        .with_hint("put the table's name or alias before it"),
        Schema::DuplicateQualifiedField { name, .. }
        | Schema::DuplicateUnqualifiedField { name } => Error::new(
            ErrorKind::DuplicateColumn,
            format!("column \"{name}\" is specified more than once"),
        ),
    }
}

/// The planner tells most faults of a user's SQL in text alone; the kind is read from it.
fn from_planner_text(text: &str) -> Error {
    let text = first_line(text);
    let lower = text.to_lowercase();
    let has = |part: &str| lower.contains(part);
    let signature =
        ["no function matches", "match any signature", "invalid function", "' requires "];
    let coercion = ["cannot coerce", "cannot infer common", "cannot get result type"];
    let kind = if signature.into_iter().chain(coercion).any(has) {
        ErrorKind::UndefinedFunction
    } else if has("unsupported cast") || has("can't cast") || has("cannot cast") {
        ErrorKind::DatatypeMismatch
    } else if has("more than one row") {
        ErrorKind::Cardinality
    } else if has("must appear in the group by") || has("must be in an aggregate") {
        ErrorKind::Grouping
    } else if has("not supported") || has("not implemented") || has("unsupported") {
        ErrorKind::Unsupported
    } else if has("divide by zero") {
        ErrorKind::DivisionByZero
    } else if has("overflow") {
        ErrorKind::OutOfRange
    } else {
        ErrorKind::InvalidSql
    };
    let text = text.split(", errors:").next().unwrap_or_default();
    let text = text.trim_start_matches("Error during planning: ");
    let text = text.trim_start_matches("Internal error: ");
    Error::new(kind, uncapitalised(text))
}

/// A message as ours begin; `UNION …` stays.
pub fn uncapitalised(message: &str) -> String {
    let mut letters = message.chars();
    match letters.next() {
        Some(first) if !letters.as_str().starts_with(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => message.to_string(),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_end_matches('.').to_string()
}

/// The name that a mistyped one was most likely meant to be.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let distance = |name: &str| strsim::osa_distance(&wrong, &name.to_lowercase());
    let limit = 1 + wrong.chars().count() / 4;
    names
        .into_iter()
        .map(|name| (distance(name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}
