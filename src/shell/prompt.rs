//! [`Prompt`]: completion and the end of statements, for the line editor.

use rustyline::completion::Completer;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper, Highlighter, Hinter};

use super::statements::{is_blank, split};

/// What completion offers besides names.
const KEYWORDS: &[&str] = &[
    "AND",
    "APPEND ONLY",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "CREATE",
    "CREATE MATERIALIZED VIEW",
    "CREATE PIPELINE",
    "CREATE SINK",
    "CREATE SOURCE",
    "CREATE TABLE",
    "DELETE FROM",
    "DESC",
    "DISTINCT",
    "DROP",
    "ELSE",
    "ENCODE",
    "END",
    "EXPLAIN",
    "FLUSH",
    "FORMAT",
    "FROM",
    "GROUP BY",
    "HAVING",
    "IN",
    "INSERT INTO",
    "INTERVAL",
    "IS NULL",
    "JOIN",
    "LEFT JOIN",
    "LIKE",
    "LIMIT",
    "MATERIALIZED VIEW",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER BY",
    "PRIMARY KEY",
    "RUN PIPELINE",
    "SCHEDULE",
    "SELECT",
    "SET",
    "SHOW JOBS",
    "SHOW PIPELINE RUNS",
    "SHOW SINKS",
    "SHOW SOURCES",
    "SHOW TABLES",
    "SINK",
    "SOURCE",
    "TABLE",
    "THEN",
    "UNION ALL",
    "UPDATE",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Helps the line editor.
#[derive(Debug, Default, Helper, Highlighter, Hinter)]
pub(super) struct Prompt {
    names: Vec<String>,
}

impl Prompt {
    /// Names of relations and columns to offer from now on.
    pub(super) fn set_names(&mut self, names: Vec<String>) {
        self.names = names;
    }

    fn candidates(&self, word: &str) -> Vec<String> {
        let folded = word.to_lowercase();
        let names = self.names.iter().filter(|name| name.starts_with(&folded)).cloned();
        let keywords =
            KEYWORDS.iter().filter(|keyword| keyword.to_lowercase().starts_with(&folded));
        // In the case that the user writes in.
        let lower = word.chars().any(char::is_lowercase);
        let cased = |keyword: &&str| match lower {
            true => keyword.to_lowercase(),
            false => (*keyword).to_string(),
        };
        names.chain(keywords.map(cased)).collect()
    }
}

impl Completer for Prompt {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = &line[..position];
        let start = before
            .rfind(|c: char| !c.is_alphanumeric() && c != '_' && c != '$')
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let word = &before[start..];
        let candidates = if word.is_empty() { Vec::new() } else { self.candidates(word) };
        Ok((start, candidates))
    }
}

impl Validator for Prompt {
    /// Enter ends the input when a statement is whole; until then it begins a new line.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let input = context.input();
        if is_blank(input) || input.trim_start().starts_with('\\') {
            return Ok(ValidationResult::Valid(None));
        }
        if is_blank(split(input).rest) {
            return Ok(ValidationResult::Valid(None));
        }
        Ok(ValidationResult::Incomplete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_names_and_keywords_in_the_users_case() {
        let mut prompt = Prompt::default();
        prompt.set_names(vec!["orders".into(), "total".into()]);
        assert_eq!(prompt.candidates("or"), ["orders", "or", "order by"]);
        assert_eq!(prompt.candidates("SELE"), ["SELECT"]);
        assert_eq!(prompt.candidates("xyz"), Vec::<String>::new());
    }
}
