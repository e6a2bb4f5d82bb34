//! Random INSERT, UPDATE and DELETE.

use super::expression::{expression, literal, predicate};
use super::schema::{TABLES, Table, Type};
use super::tape::Tape;

/// A write to one table.
#[derive(Debug, Clone)]
pub(super) struct Write {
    /// The table's name.
    pub(super) table: &'static str,
    /// The statement.
    pub(super) sql: String,
}

/// A write that these numbers choose.
pub(super) fn write(numbers: &[u16]) -> Write {
    let mut tape = Tape::new(numbers);
    let table = &TABLES[tape.pick(TABLES.len())];
    let sql = match tape.pick(10) {
        _ if table.is_append_only => insert(&mut tape, table),
        0..=4 => insert(&mut tape, table),
        5 | 6 => delete(&mut tape, table),
        _ => update(&mut tape, table),
    };
    Write { table: table.name, sql }
}

fn insert(tape: &mut Tape<'_>, table: &Table) -> String {
    let mut rows = Vec::new();
    for _ in 0..=tape.pick(5) {
        let mut cells = Vec::new();
        for (index, (_, ty)) in table.columns.iter().enumerate() {
            let is_key = index < table.key;
            cells.push(match tape.chance(15) && !is_key {
                true => "NULL".to_string(),
                false => value(tape, *ty, is_key),
            });
        }
        rows.push(format!("({})", cells.join(", ")));
    }
    format!("INSERT INTO {} VALUES {}", table.name, rows.join(", "))
}

/// Keys have a wider domain, so that some are met again and not all.
fn value(tape: &mut Tape<'_>, ty: Type, is_key: bool) -> String {
    match (ty, is_key) {
        (Type::Int, true) => tape.pick(9).to_string(),
        _ => literal(tape, ty),
    }
}

fn delete(tape: &mut Tape<'_>, table: &Table) -> String {
    if tape.chance(8) {
        return format!("DELETE FROM {}", table.name);
    }
    let name = table.name;
    format!("DELETE FROM {name} WHERE {}", predicate(tape, &table.scope(), 1))
}

fn update(tape: &mut Tape<'_>, table: &Table) -> String {
    let first = if tape.chance(15) { 0 } else { table.key };
    let index = first + tape.pick(table.columns.len() - first);
    let (name, ty) = table.columns[index];
    let scope = table.scope();
    let new = match (index < table.key, ty) {
        // Rows may come to have one key: the last of them stays.
        (true, Type::Int) => format!("{name} + 1"),
        (true, _) => literal(tape, ty),
        (false, Type::Int) => expression(tape, &scope, ty, 1),
        (false, _) => expression(tape, &scope, ty, 0),
    };
    let table = table.name;
    if tape.chance(15) {
        return format!("UPDATE {table} SET {name} = {new}");
    }
    format!("UPDATE {table} SET {name} = {new} WHERE {}", predicate(tape, &scope, 1))
}
