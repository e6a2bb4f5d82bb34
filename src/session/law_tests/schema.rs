//! The tables, and what queries can read.

use std::collections::BTreeSet;

/// Types of columns, as far as the grammar tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// BIGINT.
    Int,
    /// TEXT.
    Text,
    /// NUMERIC.
    Num,
    /// BOOLEAN.
    Bool,
    /// DOUBLE PRECISION: only exact quotients, with which nothing is computed.
    Dbl,
}

/// A column that an expression can name.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Its name, with the alias of its relation where it is in scope.
    pub(super) name: String,
    /// Its type.
    pub(super) ty: Type,
}

/// A table of the tests.
#[derive(Debug)]
pub(super) struct Table {
    /// Its name.
    pub(super) name: &'static str,
    /// Its definition.
    pub(super) ddl: &'static str,
    /// Its columns.
    pub(super) columns: &'static [(&'static str, Type)],
    /// How many of its first columns are the primary key.
    pub(super) key: usize,
    /// Whether only INSERT is allowed.
    pub(super) is_append_only: bool,
}

/// One more table: a row with `d = 0` fails the views that follow it.
pub(super) const DIVISORS: &str = "divisors";
/// The views that it fails.
pub(super) const FOLLOWERS: [&str; 2] = ["quotients", "quotient_sums"];

/// A key, a key of two columns, no key at all, and only inserts.
pub(super) const TABLES: [Table; 4] = [
    Table {
        name: "items",
        ddl: "CREATE TABLE items (k BIGINT PRIMARY KEY, a BIGINT, t TEXT, n NUMERIC(8,2), \
              f BOOLEAN)",
        columns: &[
            ("k", Type::Int),
            ("a", Type::Int),
            ("t", Type::Text),
            ("n", Type::Num),
            ("f", Type::Bool),
        ],
        key: 1,
        is_append_only: false,
    },
    Table {
        name: "parts",
        ddl: "CREATE TABLE parts (k BIGINT, t TEXT, b BIGINT, f BOOLEAN, PRIMARY KEY (k, t))",
        columns: &[("k", Type::Int), ("t", Type::Text), ("b", Type::Int), ("f", Type::Bool)],
        key: 2,
        is_append_only: false,
    },
    Table {
        name: "log",
        ddl: "CREATE TABLE log (a BIGINT, b BIGINT, t TEXT, n NUMERIC(12,3), f BOOLEAN) \
              APPEND ONLY",
        columns: &[
            ("a", Type::Int),
            ("b", Type::Int),
            ("t", Type::Text),
            ("n", Type::Num),
            ("f", Type::Bool),
        ],
        key: 0,
        is_append_only: true,
    },
    Table {
        name: "bag",
        ddl: "CREATE TABLE bag (a BIGINT, t TEXT, n NUMERIC(6,1))",
        columns: &[("a", Type::Int), ("t", Type::Text), ("n", Type::Num)],
        key: 0,
        is_append_only: false,
    },
];

impl Table {
    /// The columns under their own names.
    pub(super) fn scope(&self) -> Vec<Column> {
        let column = |(name, ty): &(&str, Type)| Column { name: (*name).to_string(), ty: *ty };
        self.columns.iter().map(column).collect()
    }
}

/// A table or view that queries can read.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// Its name.
    pub(super) name: String,
    /// The query over the tables that gives a view's rows; empty for a table.
    pub(super) batch: String,
    /// Its columns.
    pub(super) columns: Vec<Column>,
    /// Its rows grow as the tables' rows to this power.
    pub(super) rank: usize,
    /// How many tables that query names.
    pub(super) leaves: usize,
    /// What it reads, directly.
    pub(super) reads: BTreeSet<String>,
}

impl Relation {
    /// What stands for it in a batch query: a table's name, a view's query.
    pub(super) fn inlined(&self) -> String {
        match self.batch.as_str() {
            "" => self.name.clone(),
            query => format!("({query})"),
        }
    }
}

/// The tables as relations.
pub(super) fn tables() -> Vec<Relation> {
    let relation = |table: &Table| Relation {
        name: table.name.to_string(),
        batch: String::new(),
        columns: table.scope(),
        rank: 1,
        leaves: 1,
        reads: BTreeSet::new(),
    };
    TABLES.iter().map(relation).collect()
}
