//! [`piped`]: statements from a file or pipe.

use std::io::{self, Read, Write};

use super::Client;
use super::runner::{Next, Runner};
use crate::env::Env;

/// Runs all that `input` holds and writes plain results; stops at the first error. Tells whether
/// all went well.
///
/// # Errors
/// That of the input or the output.
pub async fn piped(
    client: Box<dyn Client>,
    env: Env,
    input: &mut dyn Read,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    let mut runner = Runner::script(client, env);
    Ok(runner.run_text(&text, out).await? != Next::Failed)
}
