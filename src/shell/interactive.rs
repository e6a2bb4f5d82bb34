//! [`interactive`]: a user at a terminal.

use std::io::{self, Write};
use std::path::Path;

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};

use super::Client;
use super::prompt::Prompt;
use super::runner::{Next, Runner};
use crate::env::Env;

/// Entries of the history file.
const HISTORY_MAX: usize = 10_000;

/// Reads, runs and shows statements until the user quits. `greeting` comes first.
///
/// # Errors
/// The terminal's.
pub async fn interactive(
    client: Box<dyn Client>,
    env: Env,
    history: Option<&Path>,
    greeting: &str,
) -> io::Result<()> {
    let mut out = io::stdout();
    let mut runner = Runner::interactive(client, env);
    let mut editor = editor(history).map_err(io::Error::other)?;
    writeln!(out, "{greeting}")?;
    loop {
        let names = runner.names().await;
        if let Some(prompt) = editor.helper_mut() {
            prompt.set_names(names);
        }
        match editor.readline("frazil> ") {
            Ok(text) => {
                if !text.trim().is_empty() {
                    editor.add_history_entry(text.as_str()).map_err(io::Error::other)?;
                }
                runner.set_width(terminal_width(&mut editor));
                if runner.run_text(&text, &mut out).await? == Next::Quit {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    if let Some(history) = history
        && let Err(error) = editor.save_history(history)
    {
        tracing::warn!(%error, "the history could not be saved");
    }
    Ok(())
}

fn editor(history: Option<&Path>) -> rustyline::Result<Editor<Prompt, DefaultHistory>> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY_MAX)?
        .history_ignore_space(true)
        .build();
    let mut editor = Editor::with_default(config)?;
    if let Some(history) = history.filter(|history| history.exists()) {
        // A damaged history is no reason not to start.
        if let Err(error) = editor.load_history(history) {
            tracing::warn!(%error, "the history could not be read");
        }
    }
    Ok(editor)
}

fn terminal_width(editor: &mut Editor<Prompt, DefaultHistory>) -> Option<u16> {
    let (columns, _) = editor.dimensions()?;
    Some(columns).filter(|columns| *columns > 0)
}
