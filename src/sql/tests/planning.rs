//! Modes, upsert keys and refusals of incremental plans.

use super::support::{apply, bound, one, shop};
use crate::catalog::ChangelogMode;
use crate::error::{ErrorKind, Result};
use crate::plan::IncrementalPlan;
use crate::sql::{Bound, Explain, bind};

fn plan(query: &str) -> Result<IncrementalPlan> {
    let text = format!("EXPLAIN CREATE MATERIALIZED VIEW v AS {query}");
    match bound(&shop(), &text)? {
        Bound::Explain(Explain::Incremental(plan)) => Ok(plan),
        other => panic!("not a plan: {other:?}"),
    }
}

#[test]
fn derives_modes_and_upsert_keys() {
    let (append, retract) = (ChangelogMode::AppendOnly, ChangelogMode::Retract);
    let cases: [(&str, ChangelogMode, Option<&[&str]>); 22] = [
        ("SELECT * FROM orders", retract, Some(&["id"])),
        ("SELECT status, id AS number FROM orders WHERE amount > 1", retract, Some(&["number"])),
        ("SELECT status FROM orders", retract, None),
        ("SELECT * FROM clicks WHERE who > 1", append, None),
        ("SELECT line FROM log UNION ALL SELECT page FROM clicks", append, None),
        ("SELECT id FROM orders UNION ALL SELECT id FROM customers", retract, None),
        ("SELECT id FROM orders UNION SELECT id FROM customers", retract, Some(&["id"])),
        ("SELECT DISTINCT line, level FROM log", append, Some(&["line", "level"])),
        ("SELECT DISTINCT status FROM orders", retract, Some(&["status"])),
        ("SELECT level, count(*) AS n FROM log GROUP BY level", retract, Some(&["level"])),
        ("SELECT count(*) AS n FROM log", retract, Some(&[])),
        ("SELECT level FROM log GROUP BY level HAVING count(*) > 1", retract, Some(&["level"])),
        (
            "SELECT o.id, name FROM orders o JOIN customers c ON o.customer = c.id",
            retract,
            Some(&["id"]),
        ),
        (
            "SELECT o.id, c.id AS c FROM orders o JOIN customers c ON o.status = c.name",
            retract,
            Some(&["id", "c"]),
        ),
        (
            "SELECT o.id, name FROM orders o LEFT JOIN customers c ON o.customer = c.id",
            retract,
            Some(&["id"]),
        ),
        (
            "SELECT c.id, o.id AS o FROM customers c LEFT JOIN orders o ON o.customer = c.id",
            retract,
            Some(&["id", "o"]),
        ),
        (
            "SELECT o.id, name FROM customers c RIGHT JOIN orders o ON o.customer = c.id",
            retract,
            Some(&["id"]),
        ),
        ("SELECT l.line, c.page FROM log l JOIN clicks c ON l.level = c.who", append, None),
        ("SELECT l.line, c.page FROM log l LEFT JOIN clicks c ON l.level = c.who", retract, None),
        ("SELECT id, amount FROM orders ORDER BY amount DESC LIMIT 3", retract, Some(&["id"])),
        (
            "SELECT id FROM orders WHERE EXISTS (SELECT 1 FROM clicks WHERE who = customer)",
            retract,
            Some(&["id"]),
        ),
        (
            "SELECT id FROM orders WHERE NOT EXISTS (SELECT 1 FROM clicks WHERE who = customer)",
            retract,
            Some(&["id"]),
        ),
    ];
    for (query, mode, key) in cases {
        let plan = plan(query).unwrap_or_else(|error| panic!("{query}: {error:?}"));
        let found = plan.upsert_key.as_ref().map(|key| {
            key.iter().map(|index| plan.schema.field(*index).name().as_str()).collect::<Vec<_>>()
        });
        assert_eq!((plan.mode, found.as_deref()), (mode, key), "{query}");
    }
}

#[test]
fn refuses_what_has_no_operator() {
    let cases = [
        ("SELECT id, row_number() OVER (ORDER BY id) AS n FROM orders", "a window function (OVER)"),
        ("SELECT * FROM orders LIMIT 3", "LIMIT without ORDER BY"),
        ("SELECT o.id FROM orders o FULL JOIN customers c ON o.id = c.id", "FULL JOIN"),
        ("SELECT id FROM orders INTERSECT SELECT id FROM customers", "INTERSECT or EXCEPT"),
        ("SELECT id FROM orders WHERE customer NOT IN (SELECT who FROM clicks)", "NOT IN"),
        ("SELECT DISTINCT ON (status) status, id FROM orders", "DISTINCT ON"),
        ("SELECT status, count(*) AS n FROM orders GROUP BY ROLLUP (status)", "GROUPING SETS"),
        ("SELECT stddev(id) AS s FROM orders", "aggregate \"stddev\""),
        ("SELECT now() AS t FROM orders", "function \"now\""),
        ("SELECT random() AS r FROM orders", "function \"random\""),
        ("SELECT id FROM orders WHERE at > now()", "function \"now\""),
        ("SELECT id, (SELECT name FROM customers) AS n FROM orders", "a scalar subquery"),
        (
            "SELECT id FROM orders WHERE id = 1 OR EXISTS (SELECT 1 FROM log WHERE level = id)",
            "EXISTS or IN",
        ),
        ("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT n FROM r", ""),
    ];
    for (query, message) in cases {
        let error = plan(query).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported, "{query}: {error:?}");
        assert!(error.message.starts_with(message), "{query}: {error:?}");
        assert!(error.hint.is_some() || message.is_empty(), "{query}: {error:?}");
    }
}

#[test]
fn leaves_errors_of_rows_to_the_run() {
    assert!(plan("SELECT id / 0 AS x FROM orders").is_ok());
    assert!(plan("SELECT CAST(status AS INT) AS x FROM orders").is_ok());
}

#[test]
fn plans_alike_every_time() {
    let text = "CREATE MATERIALIZED VIEW v AS SELECT name, avg(amount) AS a FROM orders o
                JOIN customers c ON c.id = o.customer WHERE status = 'paid' GROUP BY name";
    let explained = || {
        let statement = one(&format!("EXPLAIN {text}"));
        match bind(&shop(), &statement).unwrap() {
            Bound::Explain(Explain::Incremental(plan)) => crate::plan::explain(&plan),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(explained(), explained());
    let mut catalog = shop();
    assert_eq!(apply(&mut catalog, text), ["v"]);
}

#[test]
fn keeps_text_and_microseconds_in_views() {
    let plan = plan(
        "SELECT upper(status) AS s, substr(status, 2) AS t, date_trunc('hour', at) AS h,
                     date_bin(INTERVAL '10 seconds', at) AS b, CAST('2024-01-01' AS TIMESTAMP) AS l
                     FROM orders",
    )
    .unwrap();
    let types: Vec<String> =
        plan.schema.fields().iter().map(|field| crate::types::pg_name(field.data_type())).collect();
    let zone = "timestamp with time zone";
    assert_eq!(types, ["text", "text", zone, zone, "timestamp without time zone"]);
    for field in plan.schema.fields() {
        assert_eq!(&crate::types::stored_type(field.data_type()), field.data_type());
    }
}
