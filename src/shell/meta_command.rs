//! [`MetaCommand`]: what begins with a backslash.

use super::Failure;

/// What `\?` shows.
pub(super) const HELP: &str = "\
statements end with a semicolon
  \\d            tables, views, sources, sinks, pipelines
  \\d NAME       columns of one of them
  \\dt \\dv \\ds \\dk \\dp   tables, views, sources, sinks, pipelines
  \\timing       shows how long statements take, or no longer
  \\x            shows a value a line, or a row a line
  \\i FILE       runs the statements of a file
  \\q            quits
";

/// A command to the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MetaCommand {
    /// `\q`.
    Quit,
    /// `\?`.
    Help,
    /// `\timing`.
    Timing,
    /// `\x`.
    Expanded,
    /// `\i file`.
    Include(String),
    /// One that is a statement in short.
    Statement(String),
}

impl MetaCommand {
    /// Reads a line that begins with a backslash.
    pub(super) fn parse(line: &str) -> Result<Self, Failure> {
        let line = line.trim().trim_end_matches(';').trim_end();
        let (command, argument) = match line.split_once(char::is_whitespace) {
            Some((command, argument)) => (command, argument.trim()),
            None => (line, ""),
        };
        match (command, argument) {
            ("\\q", _) => Ok(Self::Quit),
            ("\\?" | "\\h", _) => Ok(Self::Help),
            ("\\timing", _) => Ok(Self::Timing),
            ("\\x", _) => Ok(Self::Expanded),
            ("\\i", "") => Err(Failure::local("\\i needs the name of a file")),
            ("\\i", file) => Ok(Self::Include(file.trim_matches('\'').to_string())),
            ("\\d", "") => Ok(Self::Statement(relations("", &[]))),
            ("\\d", name) => Ok(Self::Statement(columns(name))),
            ("\\dt", name) => Ok(Self::Statement(relations(name, &["table"]))),
            ("\\dv" | "\\dm", name) => Ok(Self::Statement(relations(name, &["materialized view"]))),
            ("\\ds", name) => Ok(Self::Statement(relations(name, &["source"]))),
            ("\\dk", name) => Ok(Self::Statement(relations(name, &["sink"]))),
            ("\\dp", name) => Ok(Self::Statement(relations(name, &["pipeline"]))),
            _ => Err(Failure {
                hint: Some("\\? lists what there is".to_string()),
                ..Failure::local(format!("command {command} is not known"))
            }),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Relations of some kinds, whose names begin with `name`.
fn relations(name: &str, kinds: &[&str]) -> String {
    let mut sql = String::from("SELECT name, kind, columns FROM frazil.relations WHERE true");
    if !kinds.is_empty() {
        let kinds: Vec<String> = kinds.iter().map(|kind| quoted(kind)).collect();
        sql += &format!(" AND kind IN ({})", kinds.join(", "));
    }
    if !name.is_empty() {
        sql += &format!(" AND starts_with(name, {})", quoted(name.trim_end_matches('*')));
    }
    sql + " ORDER BY name"
}

fn columns(name: &str) -> String {
    let name = match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(name) => name.to_string(),
        None => name.to_lowercase().replace('"', "\"\""),
    };
    format!("SHOW COLUMNS FROM \"{name}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        let sql = |line: &str| match MetaCommand::parse(line).unwrap() {
            MetaCommand::Statement(sql) => sql,
            other => panic!("{other:?} is no statement"),
        };
        assert_eq!(sql("\\d o'Brien;"), "SHOW COLUMNS FROM \"o'brien\"");
        assert_eq!(sql("\\d \"O\""), "SHOW COLUMNS FROM \"O\"");
        assert!(sql("\\dt o'b*").contains("starts_with(name, 'o''b')"), "{}", sql("\\dt o'b*"));
    }

    #[test]
    fn an_unknown_command_points_to_help() {
        let failure = MetaCommand::parse("\\nope").unwrap_err();
        assert_eq!(failure.message, "command \\nope is not known");
        assert_eq!(MetaCommand::parse("\\i a.sql").unwrap(), MetaCommand::Include("a.sql".into()));
        assert_eq!(MetaCommand::parse("\\q").unwrap(), MetaCommand::Quit);
    }
}
