//! Random typed expressions over the columns in scope.

use super::schema::{Column, Type};
use super::tape::Tape;

const COMPARISONS: [&str; 6] = ["=", "<", ">=", "<>", ">", "<="];

/// A constant of that type, from a small domain.
pub(super) fn literal(tape: &mut Tape<'_>, ty: Type) -> String {
    let choices: &[&str] = match ty {
        Type::Int => &["1", "0", "2", "3", "-1", "4"],
        Type::Text => &["'a'", "'b'", "'ab'", "''", "'é'"],
        Type::Num => &["1.50", "0.25", "-2.00", "10.00", "0.00"],
        Type::Bool => &["true", "false"],
        Type::Dbl => &["CAST(1.5 AS DOUBLE PRECISION)"],
    };
    tape.of(choices).to_string()
}

/// The name of a type.
fn sql_type(ty: Type) -> &'static str {
    match ty {
        Type::Int => "BIGINT",
        Type::Text => "TEXT",
        Type::Num => "NUMERIC(10,2)",
        Type::Bool => "BOOLEAN",
        Type::Dbl => "DOUBLE PRECISION",
    }
}

/// A column of that type, if there is one.
pub(super) fn column(tape: &mut Tape<'_>, scope: &[Column], ty: Type) -> Option<String> {
    let fitting: Vec<&Column> = scope.iter().filter(|column| column.ty == ty).collect();
    if fitting.is_empty() {
        return None;
    }
    Some(tape.of(&fitting).name.clone())
}

fn leaf(tape: &mut Tape<'_>, scope: &[Column], ty: Type) -> String {
    match column(tape, scope, ty) {
        Some(name) if !tape.chance(20) => name,
        _ => literal(tape, ty),
    }
}

/// An expression of that type, at most `depth` deep.
pub(super) fn expression(tape: &mut Tape<'_>, scope: &[Column], ty: Type, depth: usize) -> String {
    if depth == 0 || ty == Type::Dbl || tape.pick(10) < 5 {
        return leaf(tape, scope, ty);
    }
    let depth = depth - 1;
    let shape = tape.pick(12);
    let mut part = |ty| expression(tape, scope, ty, depth);
    match shape {
        0 => format!("coalesce({}, {})", part(ty), part(ty)),
        1 => {
            let (one, other) = (part(ty), part(ty));
            let condition = predicate(tape, scope, depth);
            format!("CASE WHEN {condition} THEN {one} ELSE {other} END")
        }
        2 => {
            let one = part(ty);
            let condition = predicate(tape, scope, depth);
            format!("CASE WHEN {condition} THEN {one} END")
        }
        3 => format!("nullif({}, {})", part(ty), part(ty)),
        4 => format!("CAST(NULL AS {})", sql_type(ty)),
        shape => operation(tape, scope, ty, depth, shape),
    }
}

fn operation(
    tape: &mut Tape<'_>,
    scope: &[Column],
    ty: Type,
    depth: usize,
    shape: usize,
) -> String {
    let mut part = |ty| expression(tape, scope, ty, depth);
    match (ty, shape) {
        (Type::Int, 5) => format!("({} + {})", part(ty), part(ty)),
        (Type::Int, 6) => format!("({} - {})", part(ty), part(ty)),
        (Type::Int, 7) => format!("({} * {})", part(ty), tape.of(&["2", "-1", "3"])),
        (Type::Int, 8) => format!("({} % {})", part(ty), tape.of(&["2", "3"])),
        (Type::Int, 9) => format!("CAST(length({}) AS BIGINT)", part(Type::Text)),
        (Type::Int, 10) => format!("abs({})", part(ty)),
        (Type::Int, _) => format!("greatest({}, {})", part(ty), part(ty)),
        (Type::Num, 5 | 6) => format!("({} + {})", part(ty), part(ty)),
        (Type::Num, 7 | 8) => format!("({} - {})", part(ty), part(ty)),
        (Type::Num, 9) => format!("CAST({} AS NUMERIC(10,2))", part(Type::Int)),
        (Type::Num, _) => format!("abs({})", part(ty)),
        (Type::Text, 5 | 6) => format!("({} || {})", part(ty), part(ty)),
        (Type::Text, 7) => format!("upper({})", part(ty)),
        (Type::Text, 8 | 9) => format!("CAST({} AS TEXT)", part(Type::Int)),
        (Type::Text, 10) => format!("CAST({} AS TEXT)", part(Type::Bool)),
        (Type::Text, _) => format!("substr({}, 2)", part(ty)),
        (Type::Bool | Type::Dbl, _) => format!("({})", predicate(tape, scope, depth)),
    }
}

/// A condition, at most `depth` deep.
pub(super) fn predicate(tape: &mut Tape<'_>, scope: &[Column], depth: usize) -> String {
    let below = depth.saturating_sub(1);
    let shape = tape.pick(if depth == 0 { 11 } else { 15 });
    match shape {
        0 | 1 => compared(tape, scope, Type::Int, depth),
        2 => compared(tape, scope, Type::Text, depth),
        3 => compared(tape, scope, Type::Num, depth),
        4 => {
            let ty = tape.of(&[Type::Int, Type::Text, Type::Num, Type::Bool]);
            let tested = expression(tape, scope, ty, depth);
            format!("{tested} IS {}", tape.of(&["NOT NULL", "NULL"]))
        }
        5 => {
            let tested = expression(tape, scope, Type::Int, depth);
            let not = tape.of(&["", " NOT"]);
            format!("{tested}{not} IN (1, {}, 3)", literal(tape, Type::Int))
        }
        6 => {
            let tested = expression(tape, scope, Type::Int, depth);
            format!("{tested} BETWEEN {} AND 3", literal(tape, Type::Int))
        }
        7 => leaf(tape, scope, Type::Bool),
        8 => {
            let tested = expression(tape, scope, Type::Bool, depth);
            format!("({tested}) IS {}", tape.of(&["TRUE", "NOT TRUE", "FALSE", "NOT FALSE"]))
        }
        9 => {
            let tested = expression(tape, scope, Type::Text, depth);
            format!("{tested} LIKE {}", tape.of(&["'a%'", "'%b'", "'_'"]))
        }
        10 => {
            let ty = tape.of(&[Type::Int, Type::Text]);
            let (one, other) = (expression(tape, scope, ty, 0), expression(tape, scope, ty, 0));
            format!("{one} IS {}DISTINCT FROM {other}", tape.of(&["", "NOT "]))
        }
        11 => format!("NOT ({})", predicate(tape, scope, below)),
        12 | 13 => {
            let one = predicate(tape, scope, below);
            format!("({one} AND {})", predicate(tape, scope, below))
        }
        _ => {
            let one = predicate(tape, scope, below);
            format!("({one} OR {})", predicate(tape, scope, below))
        }
    }
}

fn compared(tape: &mut Tape<'_>, scope: &[Column], ty: Type, depth: usize) -> String {
    let one = expression(tape, scope, ty, depth.min(1));
    let sign = tape.of(&COMPARISONS);
    let other = match tape.chance(40) {
        true => expression(tape, scope, ty, 0),
        false => literal(tape, ty),
    };
    format!("{one} {sign} {other}")
}

/// An aggregate, and its type.
pub(super) fn aggregate(tape: &mut Tape<'_>, scope: &[Column]) -> (String, Type) {
    let int = |tape: &mut Tape<'_>| expression(tape, scope, Type::Int, 1);
    let num = |tape: &mut Tape<'_>| expression(tape, scope, Type::Num, 1);
    let (call, ty) = match tape.pick(12) {
        0 => ("count(*)".to_string(), Type::Int),
        1 => (format!("sum({})", int(tape)), Type::Int),
        2 => (format!("sum({})", num(tape)), Type::Num),
        3 => {
            let ty = tape.of(&[Type::Int, Type::Text, Type::Num, Type::Bool]);
            (format!("count({})", expression(tape, scope, ty, 1)), Type::Int)
        }
        4 => (format!("avg({})", int(tape)), Type::Dbl),
        5 => (format!("avg({})", num(tape)), Type::Num),
        6 | 7 => {
            let ty = tape.of(&[Type::Int, Type::Text, Type::Num]);
            (format!("min({})", expression(tape, scope, ty, 1)), ty)
        }
        8 | 9 => {
            let ty = tape.of(&[Type::Int, Type::Text, Type::Num]);
            (format!("max({})", expression(tape, scope, ty, 1)), ty)
        }
        10 => {
            let ty = tape.of(&[Type::Int, Type::Text, Type::Num]);
            (format!("count(DISTINCT {})", expression(tape, scope, ty, 1)), Type::Int)
        }
        _ => (format!("sum(DISTINCT {})", int(tape)), Type::Int),
    };
    if tape.chance(25) {
        return (format!("{call} FILTER (WHERE {})", predicate(tape, scope, 1)), ty);
    }
    (call, ty)
}
