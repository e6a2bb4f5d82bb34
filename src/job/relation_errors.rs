//! Why a relation is not created, read or written.

use crate::catalog::Relation;
use crate::error::{Error, ErrorKind};

/// Why a relation cannot be created over failed ones.
pub(super) fn input_failed(name: &str, error: &Error) -> Error {
    Error::job_failed(format!("what \"{name}\" reads has failed"), error)
        .with_hint("look at SHOW JOBS; ALTER … RESUME starts a failed job again")
}

/// Why a relation is not read or written.
pub(super) fn being_resumed(relation: &Relation) -> Error {
    let (noun, name) = (relation.definition.noun(), &relation.name);
    Error::new(ErrorKind::JobFailed, format!("{noun} \"{name}\" is being resumed"))
        .with_hint("wait for ALTER … RESUME; SHOW JOBS shows how far it is")
}

/// A relation was dropped while a statement was on its way that names it.
pub(super) fn dropped() -> Error {
    Error::new(ErrorKind::UndefinedTable, "the relation has been dropped meanwhile")
}

/// Why a relation does not run that reads `input`.
pub(super) fn follows(input: &str, error: &Error) -> Error {
    Error::job_failed(format!("\"{input}\", which it reads, has failed"), error)
}
