//! Files of statements, applied so that doing it again changes nothing.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::job::Engine;
use crate::session::{Outcome, Session, Statement, query_error};
use crate::sql::same_text;

/// What became of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AppliedStatement {
    /// It ran.
    Ran,
    /// What it creates exists already, made by the same text but for blanks and comments.
    Skipped,
}

/// Runs a statement, but skips a CREATE of what is there already.
///
/// # Errors
/// `DuplicateTable` if it is there with another definition; what running it says.
pub(super) async fn apply(
    engine: &Engine,
    session: &mut Session,
    statement: &Statement,
) -> Result<AppliedStatement> {
    if is_applied(engine, statement)? {
        return Ok(AppliedStatement::Skipped);
    }
    match session.execute(statement, &[]).await? {
        Outcome::Command { notices, .. } => {
            for notice in notices {
                tracing::info!(notice, "notice");
            }
        }
        Outcome::Rows { mut stream, .. } => {
            use futures::StreamExt;
            while let Some(rows) = stream.next().await {
                rows.map_err(query_error)?;
            }
        }
    }
    Ok(AppliedStatement::Ran)
}

/// Whether a CREATE's thing is there, made by the same text.
fn is_applied(engine: &Engine, statement: &Statement) -> Result<bool> {
    let Some((name, _)) = statement.kind.created() else { return Ok(false) };
    let catalog = engine.catalog();
    let Some(known) = catalog.get(&name.value) else { return Ok(false) };
    if same_text(&known.sql, &statement.text) {
        return Ok(true);
    }
    let name = &name.value;
    Err(Error::new(
        ErrorKind::DuplicateTable,
        format!("\"{name}\" is already there with another definition"),
    )
    .with_detail(format!("it was made by: {}", known.sql))
    .with_hint("drop it first, or give the new one another name"))
}

/// Tells the file and the line of an error.
pub(super) fn in_file(error: Error, file: &Path, text: &str) -> Error {
    let place = match error.position {
        Some(position) => {
            let before: String = text.chars().take(position.saturating_sub(1)).collect();
            format!("{}:{}", file.display(), before.matches('\n').count() + 1)
        }
        None => file.display().to_string(),
    };
    error.within(place)
}
