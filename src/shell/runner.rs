//! [`Runner`]: runs what was typed or piped in and writes what came of it.

use std::io::{self, Write};

use super::meta_command::{HELP, MetaCommand};
use super::statements::{is_blank, split};
use super::{Client, ClientReply, Failure, Layout, write_table};
use crate::env::Env;

/// What the shell does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Reads on.
    Go,
    /// Something failed; a script stops, a user goes on.
    Failed,
    /// The user has had enough.
    Quit,
}

/// Runs statements and commands of the shell.
pub(super) struct Runner {
    client: Box<dyn Client>,
    env: Env,
    width: Option<u16>,
    timing: bool,
    expanded: bool,
    interactive: bool,
}

impl Runner {
    /// A runner for a user at a terminal.
    pub(super) fn interactive(client: Box<dyn Client>, env: Env) -> Self {
        Self { client, env, width: None, timing: false, expanded: false, interactive: true }
    }

    /// A runner for a script.
    pub(super) fn script(client: Box<dyn Client>, env: Env) -> Self {
        Self { interactive: false, ..Self::interactive(client, env) }
    }

    /// Columns that tables may take from now on.
    pub(super) fn set_width(&mut self, width: Option<u16>) {
        self.width = width;
    }

    /// Names for completion.
    pub(super) async fn names(&mut self) -> Vec<String> {
        self.client.names().await
    }

    /// Runs all of a text: statements, and commands on lines of their own. A statement at the end
    /// may lack its semicolon.
    pub(super) async fn run_text(&mut self, text: &str, out: &mut dyn Write) -> io::Result<Next> {
        let mut pending = String::new();
        for line in text.lines() {
            if line.trim_start().starts_with('\\') && is_blank(&pending) {
                match self.run_command(line, out).await? {
                    Next::Go => {}
                    other => return Ok(other),
                }
                continue;
            }
            pending.push_str(line);
            pending.push('\n');
            let parts = split(&pending);
            for statement in parts.whole {
                if self.run_statement(statement, out).await? == Next::Failed {
                    return Ok(Next::Failed);
                }
            }
            pending = parts.rest.to_string();
        }
        if is_blank(&pending) {
            return Ok(Next::Go);
        }
        self.run_statement(pending.trim(), out).await
    }

    async fn run_command(&mut self, line: &str, out: &mut dyn Write) -> io::Result<Next> {
        match MetaCommand::parse(line) {
            Err(failure) => {
                write_failure(out, "", &failure)?;
                Ok(Next::Failed)
            }
            Ok(MetaCommand::Quit) => Ok(Next::Quit),
            Ok(MetaCommand::Help) => out.write_all(HELP.as_bytes()).map(|()| Next::Go),
            Ok(MetaCommand::Timing) => {
                self.timing = !self.timing;
                writeln!(out, "timing is {}", if self.timing { "on" } else { "off" })?;
                Ok(Next::Go)
            }
            Ok(MetaCommand::Expanded) => {
                self.expanded = !self.expanded;
                writeln!(out, "expanded is {}", if self.expanded { "on" } else { "off" })?;
                Ok(Next::Go)
            }
            Ok(MetaCommand::Include(file)) => match std::fs::read_to_string(&file) {
                Ok(text) => Box::pin(self.run_text(&text, out)).await,
                Err(error) => {
                    let message = format!("file \"{file}\" cannot be read: {error}");
                    write_failure(out, "", &Failure::local(message))?;
                    Ok(Next::Failed)
                }
            },
            Ok(MetaCommand::Statement(sql)) => self.run_statement(&sql, out).await,
        }
    }

    async fn run_statement(&mut self, text: &str, out: &mut dyn Write) -> io::Result<Next> {
        let start = self.env.elapsed();
        let result = if self.interactive {
            tokio::select! {
                result = self.client.run(text) => Some(result),
                _ = tokio::signal::ctrl_c() => None,
            }
        } else {
            Some(self.client.run(text).await)
        };
        let Some(result) = result else {
            self.client.cancel().await;
            writeln!(out, "cancelled")?;
            return Ok(Next::Failed);
        };
        let next = match result {
            Ok(reply) => self.write_reply(&reply, out).map(|()| Next::Go)?,
            Err(failure) => write_failure(out, text, &failure).map(|()| Next::Failed)?,
        };
        if self.timing {
            let taken = self.env.elapsed().saturating_sub(start);
            writeln!(out, "time: {:.3} ms", taken.as_secs_f64() * 1000.0)?;
        }
        out.flush()?;
        Ok(next)
    }

    fn write_reply(&self, reply: &ClientReply, out: &mut dyn Write) -> io::Result<()> {
        for notice in &reply.notices {
            writeln!(out, "notice: {notice}")?;
        }
        match &reply.table {
            None => writeln!(out, "{}", reply.tag),
            Some(table) if self.expanded => write_table(out, table, Layout::Expanded),
            Some(table) => write_table(out, table, Layout::Lines { width: self.width }),
        }
    }
}

/// Writes an error with a caret under its place in the statement.
pub(super) fn write_failure(out: &mut dyn Write, text: &str, failure: &Failure) -> io::Result<()> {
    writeln!(out, "error {}: {}", failure.code, failure.message)?;
    if let Some((line, column)) = failure.position.and_then(|position| place(text, position)) {
        writeln!(out, "  {line}")?;
        writeln!(out, "  {:column$}^", "")?;
    }
    if let Some(detail) = &failure.detail {
        writeln!(out, "detail: {detail}")?;
    }
    if let Some(hint) = &failure.hint {
        writeln!(out, "hint: {hint}")?;
    }
    Ok(())
}

/// The line that holds a character, and the characters before it there.
fn place(text: &str, position: usize) -> Option<(&str, usize)> {
    let mut before = position.checked_sub(1)?;
    for line in text.lines() {
        let length = line.chars().count();
        if before <= length {
            return Some((line, before));
        }
        before -= length + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let failure = Failure {
            code: "42703".into(),
            message: "column \"pric\" does not exist".into(),
            hint: Some("perhaps you meant \"price\"".into()),
            position: Some(12),
            ..Failure::default()
        };
        let mut out = Vec::new();
        write_failure(&mut out, "SELECT\n  ä, pric\nFROM t", &failure).unwrap();
        let wanted = "error 42703: column \"pric\" does not exist\n    ä, pric\n      ^\n\
                      hint: perhaps you meant \"price\"\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}
