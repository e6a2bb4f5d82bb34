//! [`Client`]: who runs the shell's statements.

use async_trait::async_trait;

use crate::error::Error;

/// Rows as text; NULL is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Option<String>>>,
}

/// What a statement gave.
#[derive(Debug, Clone, Default)]
pub struct ClientReply {
    /// Its rows, if it gives rows.
    pub table: Option<Table>,
    /// What was done, if it gives none.
    pub tag: String,
    /// Notices, in order.
    pub notices: Vec<String>,
}

/// What went wrong, as the shell shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// SQLSTATE.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// More of it.
    pub detail: Option<String>,
    /// The next step.
    pub hint: Option<String>,
    /// Character in the statement's text, counted from 1.
    pub position: Option<usize>,
}

impl Failure {
    /// A failure of the shell itself, such as a file that is not there.
    pub fn local(message: impl Into<String>) -> Self {
        Self { code: "58030".to_string(), message: message.into(), ..Self::default() }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let places: String = error.context.iter().map(|place| format!("{place}: ")).collect();
        Self {
            code: error.kind.sqlstate().to_string(),
            message: places + &error.message,
            detail: error.detail.clone(),
            hint: error.hint.clone(),
            position: error.position,
        }
    }
}

/// Who runs the shell's statements.
#[async_trait]
pub trait Client: Send {
    /// Runs one statement and reads all its rows.
    ///
    /// # Errors
    /// What the engine says, or that the server is gone.
    async fn run(&mut self, statement: &str) -> Result<ClientReply, Failure>;

    /// Stops what runs, after the future of [`Client::run`] was dropped.
    async fn cancel(&mut self);

    /// Names of relations and columns, for completion.
    async fn names(&mut self) -> Vec<String>;
}
