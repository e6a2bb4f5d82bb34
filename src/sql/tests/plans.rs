//! Golden plans: `sql-tests/plans/*.txt`. `UPDATE=1` writes what is found.
//!
//! A case is SQL, a line `----`, and up to an empty line the plan of its last statement, or the
//! error. Statements stay for the cases below.

use std::fmt::Write as _;
use std::path::Path;

use super::super::{Bound, Statement, bind, parse};
use crate::catalog::Catalog;
use crate::error::Error;
use crate::plan::explain;

fn told(error: &Error) -> String {
    let mut text = format!("{}: {}", error.kind.sqlstate(), error.message);
    if let Some(position) = error.position {
        let _ = write!(text, " at {position}");
    }
    if let Some(hint) = &error.hint {
        let _ = write!(text, "\nhint: {hint}");
    }
    text
}

fn run(catalog: &mut Catalog, statement: &Statement) -> Result<String, Error> {
    match bind(catalog, statement)? {
        Bound::Create(new) => {
            let made = new.enter(catalog, &statement.text)?.remove(0);
            match made.fragment.and_then(|fragment| fragment.plan) {
                Some(plan) => Ok(explain(&plan)),
                None => Ok(format!("{} without a plan", made.relation.definition.noun())),
            }
        }
        other => panic!("a golden case makes something: {other:?}"),
    }
}

fn found(text: &str) -> String {
    let mut catalog = Catalog::default();
    let mut out = String::new();
    let mut sql = String::new();
    let mut skipping = false;
    for line in text.lines() {
        if skipping {
            skipping = !line.is_empty();
            continue;
        }
        if line != "----" {
            let _ = writeln!(sql, "{line}");
            continue;
        }
        let result = parse(&sql).and_then(|statements| {
            let plans = statements.iter().map(|statement| run(&mut catalog, statement));
            plans.collect::<Result<Vec<_>, _>>()
        });
        let told = match result {
            Ok(mut plans) => plans.pop().unwrap_or_default(),
            Err(error) => told(&error),
        };
        let _ = writeln!(out, "{sql}----\n{told}\n");
        sql.clear();
        skipping = true;
    }
    format!("{}\n", out.trim_end())
}

#[test]
fn plans_are_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql-tests/plans");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let found = found(&text);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, found).unwrap();
        } else {
            assert_eq!(text, found, "{} (UPDATE=1 writes it anew)", file.display());
        }
    }
}
