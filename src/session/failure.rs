//! DataFusion's errors, and panics, as the engine's errors.

use std::any::Any;

use datafusion::common::{DataFusionError, SchemaError};

use crate::error::{Error, ErrorKind, uncapitalised};

/// The engine's error for one that planning or running a batch query met.
///
/// An [`Error`] that passed through DataFusion comes out as it went in.
pub fn query_error(error: DataFusionError) -> Error {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            query_error(*inner)
        }
        DataFusionError::Shared(inner) => shared_error(&inner),
        DataFusionError::External(inner) => Error::carried(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => Error::from(*inner),
        DataFusionError::Collection(errors) => match errors.into_iter().next() {
            Some(first) => query_error(first),
            None => Error::internal("a query failed without saying why"),
        },
        other => message_error(&other),
    }
}

fn shared_error(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            shared_error(inner)
        }
        DataFusionError::Shared(inner) => shared_error(inner),
        DataFusionError::External(inner) => Error::carried(inner.as_ref()),
        other => message_error(other),
    }
}

fn message_error(error: &DataFusionError) -> Error {
    let text = error.strip_backtrace();
    match error {
        DataFusionError::SQL(..) => Error::new(ErrorKind::Syntax, lower(&text)),
        DataFusionError::NotImplemented(message) => Error::unsupported(lower(message)),
        DataFusionError::SchemaError(inner, _) => match inner.as_ref() {
            SchemaError::FieldNotFound { field, .. } => Error::new(
                ErrorKind::UndefinedColumn,
                format!("column \"{}\" does not exist", field.name),
            ),
            other => Error::new(ErrorKind::UndefinedColumn, lower(&other.to_string())),
        },
        DataFusionError::Plan(message) => plan_error(message),
        DataFusionError::ArrowError(inner, _) => Error::from(inner.as_ref()),
        DataFusionError::ResourcesExhausted(_) => {
            Error::new(ErrorKind::StateTooLarge, lower(&text))
        }
        DataFusionError::Execution(message) => Error::of_values(message),
        _ => Error::internal(lower(&text)),
    }
}

/// DataFusion tells what a name is in words only.
fn plan_error(message: &str) -> Error {
    let text = lower(message);
    let kind = if text.starts_with("table '") && text.ends_with("not found") {
        ErrorKind::UndefinedTable
    } else if text.contains("invalid function") || text.contains("no function matches") {
        ErrorKind::UndefinedFunction
    } else {
        ErrorKind::DatatypeMismatch
    };
    Error::new(kind, text)
}

fn lower(message: &str) -> String {
    uncapitalised(message.trim().trim_end_matches('.'))
}

/// The error of a statement that has panicked.
pub(super) fn panic_error(panic: &(dyn Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(message, "a statement panicked");
    Error::internal("the statement met a fault of the engine").with_detail(message.to_string())
}
