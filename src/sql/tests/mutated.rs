//! Statements with random damage: each is bound or refused, at a place within its text.
//!
//! `PROPTEST_CASES=n` tries more of them.

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::{bind, parse};
use super::support::shop;

const STATEMENTS: &[&str] = &[
    "SELECT o . id , c . name , sum ( o . amount ) FILTER ( WHERE o . status = 'paid' ) AS total \
     FROM orders o LEFT JOIN customers c ON o . customer = c . id GROUP BY 1 , 2 \
     HAVING count ( * ) > 1 ORDER BY total DESC NULLS LAST LIMIT 3 OFFSET 1",
    "WITH x AS ( SELECT id FROM orders WHERE at > TIMESTAMPTZ '2026-01-01 00:00:00+00' ) \
     SELECT * FROM x WHERE id IN ( SELECT customer FROM orders ) AND NOT EXISTS ( SELECT 1 )",
    "SELECT CASE WHEN level BETWEEN 1 AND 2 THEN line :: text ELSE coalesce ( line , '' ) END , \
     CAST ( level AS NUMERIC ( 5 , 2 ) ) / 3.0 , - level % 2 , line LIKE 'a%' ESCAPE '!' FROM log",
    "CREATE MATERIALIZED VIEW v AS SELECT DISTINCT status , max ( amount ) OVER ( ) FROM orders \
     UNION ALL SELECT line , 1.5 FROM log",
    "CREATE TABLE t ( id BIGINT , v VARCHAR ( 5 ) NOT NULL DEFAULT 'x' , PRIMARY KEY ( id ) ) \
     WITH ( connector = 'kafka' , topic = 't' , properties.bootstrap.server = 'h:1' ) \
     FORMAT DEBEZIUM ENCODE JSON ( decimal.handling.mode = 'string' )",
    "CREATE SINK s FROM orders WITH ( connector = 'iceberg' , type = 'upsert' , \
     primary_key = 'id' , commit_interval = '5s' , catalog.type = 'sql' )",
    "CREATE PIPELINE p SCHEDULE '0 * * * *' AS INSERT INTO lake . shop . daily \
     SELECT id FROM orders",
    "INSERT INTO customers ( name , id ) VALUES ( 'a' , 1 ) , ( $1 , $2 :: bigint )",
    "UPDATE orders SET amount = amount * 2 , status = NULL WHERE id = 7 OR customer IS NOT NULL",
    "DELETE FROM orders USING customers WHERE id > ALL ( SELECT id FROM customers )",
    "DROP MATERIALIZED VIEW IF EXISTS v , w CASCADE ; SHOW JOBS ; SET timezone = 'UTC'",
    "EXPLAIN CREATE MATERIALIZED VIEW v AS SELECT count ( * ) FROM orders ; FLUSH",
];

const WORDS: &[&str] = &[
    "(",
    ")",
    ",",
    ";",
    ".",
    "*",
    "'",
    "\"",
    "$",
    "$$",
    "--",
    "/*",
    "::",
    "=",
    "<",
    "SELECT",
    "FROM",
    "WHERE",
    "AND",
    "NOT",
    "NULL",
    "IN",
    "AS",
    "ON",
    "JOIN",
    "LATERAL",
    "WITH",
    "RECURSIVE",
    "ARRAY[1,2]",
    "ROW(1,2)",
    "INTERVAL '1 day'",
    "1e400",
    "99999999999999999999",
    "'é😀'",
    "U&'\\0041'",
    "E'\\x'",
    "B'1'",
    "orders",
    "id",
    "$1",
    "$99999",
    "[",
    "]",
    "{",
    "}",
    "\\",
    "\u{0}",
    "CREATE",
    "ALTER",
];

#[derive(Debug, Clone)]
enum Edit {
    Remove(Index),
    Repeat(Index),
    Swap(Index, Index),
    Insert(Index, usize),
    Cut(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        3 => at().prop_map(Edit::Remove),
        1 => at().prop_map(Edit::Repeat),
        2 => (at(), at()).prop_map(|(one, other)| Edit::Swap(one, other)),
        4 => (at(), 0..WORDS.len()).prop_map(|(at, word)| Edit::Insert(at, word)),
        1 => at().prop_map(Edit::Cut),
    ]
}

fn apply(words: &mut Vec<&str>, edit: &Edit) {
    if words.is_empty() {
        return;
    }
    let count = words.len();
    let place = |at: &Index| at.index(count);
    match edit {
        Edit::Remove(at) => _ = words.remove(place(at)),
        Edit::Repeat(at) => words.insert(place(at), words[place(at)]),
        Edit::Swap(one, other) => words.swap(place(one), place(other)),
        Edit::Insert(at, word) => words.insert(place(at), WORDS[*word]),
        Edit::Cut(at) => words.truncate(place(at)),
    }
}

proptest! {
    #[test]
    fn damage_is_bound_or_refused(
        statement in 0..STATEMENTS.len(),
        edits in proptest::collection::vec(edit(), 1..5),
    ) {
        let mut words: Vec<&str> = STATEMENTS[statement].split_whitespace().collect();
        edits.iter().for_each(|edit| apply(&mut words, edit));
        let text = words.join(" ");
        let catalog = shop();
        let refused = match parse(&text) {
            Err(error) => Some(error),
            Ok(parsed) => parsed.iter().find_map(|it| bind(&catalog, it).err()),
        };
        if let Some(position) = refused.and_then(|error| error.position) {
            let end = text.chars().count() + 1;
            prop_assert!((1..=end).contains(&position), "{} of {} in {}", position, end, text);
        }
    }
}
