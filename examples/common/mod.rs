//! [`run`]: the statements of an example, and what they answer.

#![expect(clippy::print_stdout, reason = "an example prints what it finds")]

use frazil::error::Result;
use frazil::job::Engine;
use frazil::session::{Outcome, Sessions, query_error};
use futures::TryStreamExt;

/// Runs statements one after the other in a session of their own, and prints their outcomes.
pub(crate) async fn run(engine: &Engine, script: &str) -> Result<()> {
    let mut session = Sessions::new(engine.clone()).open();
    for statement in session.parse(script)? {
        match session.execute(&statement, &[]).await? {
            Outcome::Rows { stream, .. } => {
                let rows: Vec<_> = stream.try_collect().await.map_err(query_error)?;
                arrow::util::pretty::print_batches(&rows)?;
            }
            outcome => println!("{outcome:?}"),
        }
    }
    Ok(())
}
