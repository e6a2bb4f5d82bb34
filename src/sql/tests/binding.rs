//! What [`bind`] makes of names and types.

use arrow::datatypes::DataType;
use frazil_connector_api::SinkMode;

use super::super::{Bound, Write, WriteKind, bind, parameter_types, parse, visible_columns};
use super::support::{apply, bound, refused, shop};
use crate::catalog::{Catalog, Definition};
use crate::catalog::{ChangelogMode, RelationId};
use crate::error::{ErrorKind, Result};
use crate::plan::RelationSource;

fn written(catalog: &Catalog, text: &str) -> Result<Write> {
    match bound(catalog, text)? {
        Bound::Write(write) => Ok(*write),
        other => panic!("{text} is no write: {other:?}"),
    }
}

#[test]
fn binds_columns_and_key_of_a_table() {
    let catalog = shop();
    let orders = catalog.get("orders").unwrap();
    assert_eq!(orders.upsert_key, Some(vec![0]));
    assert_eq!(orders.mode, ChangelogMode::Retract);
    assert!(!orders.schema.field(0).is_nullable());
    assert_eq!(orders.schema.field(2).data_type(), &DataType::Decimal128(12, 2));
    assert_eq!(orders.schema.field(3).data_type(), &DataType::Utf8);
    assert_eq!(catalog.get("log").unwrap().mode, ChangelogMode::AppendOnly);
}

#[test]
fn makes_an_errors_table_with_what_a_connector_feeds() {
    let catalog = shop();
    let errors = catalog.get("clicks$errors").unwrap();
    assert_eq!(errors.depends_on, [catalog.get("clicks").unwrap().id]);
    assert_eq!(errors.schema.fields().len(), 6);
    assert!(bound(&catalog, "SELECT reason FROM clicks$errors").is_ok());
    assert!(catalog.get("orders$errors").is_none());
}

#[test]
fn ids_are_not_used_again() {
    let mut catalog = Catalog::default();
    apply(&mut catalog, "CREATE TABLE a (x INT); DROP TABLE a; CREATE TABLE b (x INT)");
    assert_eq!(catalog.get("b").unwrap().id, RelationId(2));
    assert!(matches!(*catalog.get("lake").unwrap().definition, Definition::Catalog(_)));
}

#[test]
fn tells_names_that_do_not_exist() {
    let catalog = shop();
    let cases = [
        ("SELECT * FROM ordrs", ErrorKind::UndefinedTable, 15, Some("orders")),
        ("SELECT ordrs.id FROM ordrs", ErrorKind::UndefinedTable, 22, Some("orders")),
        ("SELECT amont FROM orders", ErrorKind::UndefinedColumn, 8, Some("amount")),
        ("SELECT o.amont FROM orders o", ErrorKind::UndefinedColumn, 8, Some("amount")),
        ("SELECT id FROM orders WHERE statu = 'x'", ErrorKind::UndefinedColumn, 29, Some("status")),
        ("SELECT summ(amount) FROM orders", ErrorKind::UndefinedFunction, 8, Some("sum")),
        ("INSERT INTO ordrs VALUES (1)", ErrorKind::UndefinedTable, 13, Some("orders")),
        ("INSERT INTO orders (idd) VALUES (1)", ErrorKind::UndefinedColumn, 21, Some("id")),
        ("UPDATE orders SET amont = 1", ErrorKind::UndefinedColumn, 19, Some("amount")),
        ("DELETE FROM ordrs", ErrorKind::UndefinedTable, 13, Some("orders")),
        ("DROP TABLE ordrs", ErrorKind::UndefinedTable, 12, Some("orders")),
        ("CREATE TABLE t (a INT, PRIMARY KEY (b))", ErrorKind::UndefinedColumn, 37, Some("a")),
        (
            "CREATE SINK s FROM ordrs WITH (connector = 'x')",
            ErrorKind::UndefinedTable,
            20,
            Some("orders"),
        ),
        ("SHOW CREATE TABLE ordrs", ErrorKind::UndefinedTable, 19, Some("orders")),
    ];
    for (text, kind, position, meant) in cases {
        let error = refused(&catalog, text);
        assert_eq!((error.kind, error.position), (kind, Some(position)), "{text}: {error:?}");
        let hint = meant.map(|name| format!("perhaps you meant \"{name}\""));
        assert_eq!(error.hint, hint, "{text}");
    }
}

#[test]
fn counts_positions_from_the_beginning_of_the_input() {
    let catalog = shop();
    let statements = parse("SELECT 1;\nSELECT amont FROM orders").unwrap();
    let error = bind(&catalog, &statements[1]).unwrap_err();
    assert_eq!(error.position, Some(18));
    let error = refused(&shop(), "EXPLAIN SELECT nosuch FROM orders");
    assert_eq!(error.position, Some(16));
}

#[test]
fn tells_types_and_groups_that_do_not_fit() {
    let catalog = shop();
    let cases = [
        ("SELECT sum(status) FROM orders", ErrorKind::UndefinedFunction),
        ("SELECT customer, sum(amount) FROM orders", ErrorKind::Grouping),
        ("SELECT id FROM orders, customers", ErrorKind::AmbiguousColumn),
        ("SELECT id FROM orders UNION ALL SELECT id, name FROM customers", ErrorKind::InvalidSql),
        ("INSERT INTO log VALUES ('a', 1, 2)", ErrorKind::InvalidSql),
        ("INSERT INTO log VALUES ('a', 1), ('b')", ErrorKind::InvalidSql),
        ("INSERT INTO log SELECT 'a', 1, 2", ErrorKind::InvalidSql),
        ("INSERT INTO orders (id, id) VALUES (1, 1)", ErrorKind::DuplicateColumn),
        ("CREATE TABLE t (a INT, a TEXT)", ErrorKind::DuplicateColumn),
        ("CREATE TABLE t (a MONEY)", ErrorKind::Unsupported),
        ("CREATE TABLE t (a INT DEFAULT b)", ErrorKind::Unsupported),
        ("CREATE TABLE t (a INT DEFAULT (SELECT 1))", ErrorKind::Unsupported),
        ("CREATE TABLE t (a INT DEFAULT sum(1))", ErrorKind::Grouping),
        ("CREATE TABLE t (a INT DEFAULT 1 DEFAULT 2)", ErrorKind::Syntax),
        ("CREATE TABLE t (a INT DEFAULT $1)", ErrorKind::UndefinedParameter),
        ("CREATE TABLE t (a INT UNIQUE)", ErrorKind::Unsupported),
        ("CREATE TABLE orders (a INT)", ErrorKind::DuplicateTable),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT count(*), count(*) FROM log",
            ErrorKind::DuplicateColumn,
        ),
        ("CREATE TABLE t (a INT) FORMAT PLAIN ENCODE JSON", ErrorKind::InvalidSql),
        ("CREATE TABLE t (a INT) WITH (topic = 'x')", ErrorKind::InvalidParameter),
        (
            "CREATE TABLE t (a INT) WITH (connector = 'kafka') FORMAT DEBEZIUM ENCODE JSON",
            ErrorKind::InvalidSql,
        ),
        (
            "CREATE SOURCE t (a INT) WITH (connector = 'kafka') FORMAT DEBEZIUM ENCODE JSON",
            ErrorKind::Unsupported,
        ),
        ("INSERT INTO clicks VALUES ('a', 1)", ErrorKind::WrongObjectType),
        ("DELETE FROM log", ErrorKind::WrongObjectType),
        ("DROP SOURCE orders", ErrorKind::WrongObjectType),
        ("RUN PIPELINE orders", ErrorKind::WrongObjectType),
        ("SELECT * FROM lake", ErrorKind::WrongObjectType),
        ("SELECT * FROM TUMBLE(orders, at, INTERVAL '1 minute')", ErrorKind::Unsupported),
    ];
    for (text, kind) in cases {
        let error = refused(&catalog, text);
        assert_eq!(error.kind, kind, "{text}: {error:?}");
    }
}

#[test]
fn binds_an_insert_to_all_columns_in_order() -> Result<()> {
    let catalog = shop();
    let write = written(&catalog, "INSERT INTO orders (amount, id) VALUES (12.5, 1)")?;
    let Write { kind: WriteKind::Insert, table, plan, .. } = write else { panic!("not an insert") };
    let types = |schema: &arrow::datatypes::Schema| {
        schema
            .fields()
            .iter()
            .map(|f| (f.name().clone(), f.data_type().clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(types(plan.schema().as_arrow()), types(&table.schema));
    Ok(())
}

#[test]
fn values_may_leave_the_last_columns_out() -> Result<()> {
    let Write { plan, .. } = written(&shop(), "INSERT INTO log VALUES ('a'), ('b')")?;
    assert_eq!(plan.schema().fields().len(), 2);
    Ok(())
}

/// Only a VALUES that is all of an INSERT's rows has anything to do with the table's columns.
#[test]
fn values_within_an_insert_have_columns_of_their_own() -> Result<()> {
    let sources = [
        "SELECT 'a', k FROM (VALUES (1), (2)) AS keys(k)",
        "WITH keys(k, l, m) AS (VALUES (1, 2, 3)) SELECT 'a', k FROM keys",
        "SELECT name, id FROM customers JOIN (VALUES (1), (2)) AS keys(k) ON id = k",
        "SELECT 'a', 1 UNION ALL SELECT 'b', k FROM (VALUES (1)) AS keys(k)",
        "VALUES ('a', (SELECT max(k) FROM (VALUES (1), (2)) AS keys(k)))",
        "VALUES ('a', 1) UNION ALL VALUES ('b', 2)",
        "VALUES (1, '2'), (3, NULL) ORDER BY 1 LIMIT 1",
        "WITH one(k) AS (VALUES (1)) VALUES ('a', (SELECT k FROM one))",
        "VALUES (1, '2'), (NULL, $1)",
    ];
    let types = |schema: &arrow::datatypes::Schema| {
        let fields = schema.fields().iter();
        fields.map(|field| (field.name().clone(), field.data_type().clone())).collect::<Vec<_>>()
    };
    for source in sources {
        let Write { table, plan, .. } = written(&shop(), &format!("INSERT INTO log {source}"))?;
        assert_eq!(types(plan.schema().as_arrow()), types(&table.schema), "{source}");
    }
    Ok(())
}

#[test]
fn tells_that_live_views_do_not_read_catalogs() {
    let text = "CREATE MATERIALIZED VIEW v AS SELECT * FROM lake.shop.daily";
    let error = refused(&shop(), text);
    assert_eq!((error.kind, error.position), (ErrorKind::UndefinedTable, Some(45)));
    assert!(error.hint.unwrap().contains("catalog \"lake\""));
}

#[test]
fn binds_an_update_to_old_and_new_rows() -> Result<()> {
    let catalog = shop();
    let text = "UPDATE orders AS o SET amount = o.amount * 2, status = 'x' WHERE id = 1";
    let Write { kind: WriteKind::Update, table, plan, .. } = written(&catalog, text)? else {
        panic!("not an update")
    };
    let count = table.schema.fields().len();
    assert_eq!(plan.schema().fields().len(), 2 * count);
    for (index, field) in table.schema.fields().iter().enumerate() {
        assert_eq!(plan.schema().field(index).data_type(), field.data_type());
        assert_eq!(plan.schema().field(count + index).data_type(), field.data_type());
    }
    let write = written(&catalog, "DELETE FROM orders WHERE id = 1")?;
    let Write { kind: WriteKind::Delete, table, plan, .. } = write else { panic!("not a delete") };
    assert_eq!(plan.schema().fields().len(), table.schema.fields().len());
    Ok(())
}

#[test]
fn keeps_parameters_and_tells_their_types() -> Result<()> {
    let catalog = shop();
    let Bound::Query(plan) =
        bound(&catalog, "SELECT id FROM orders WHERE status = $2 AND customer = $1")?
    else {
        panic!("not a query")
    };
    assert_eq!(parameter_types(&plan)?, [Some(DataType::Int64), Some(DataType::Utf8)]);
    let Write { plan, .. } = written(&catalog, "INSERT INTO log VALUES ($1, $2)")?;
    assert_eq!(parameter_types(&plan)?, [Some(DataType::Utf8), Some(DataType::Int32)]);
    Ok(())
}

#[test]
fn scans_carry_the_relation() -> Result<()> {
    let catalog = shop();
    let Bound::Query(plan) = bound(&catalog, "SELECT * FROM public.orders")? else {
        panic!("not a query")
    };
    let text = plan.display_indent().to_string();
    assert!(text.contains("TableScan: public.orders"), "{text}");
    let datafusion::logical_expr::LogicalPlan::TableScan(scan) = plan.inputs()[0] else {
        panic!("not a scan")
    };
    let source = scan.source.downcast_ref::<RelationSource>().unwrap();
    assert_eq!(source.id, catalog.get("orders").unwrap().id);
    Ok(())
}

#[test]
fn drops_what_depends_only_with_cascade() {
    let mut catalog = shop();
    apply(
        &mut catalog,
        "CREATE MATERIALIZED VIEW a AS
           SELECT customer, sum(amount) AS total FROM orders GROUP BY customer;
         CREATE MATERIALIZED VIEW b AS SELECT count(*) AS n FROM a;
         CREATE SINK s FROM a WITH (connector = 'iceberg');",
    );
    let error = refused(&catalog, "DROP TABLE orders");
    assert_eq!(error.kind, ErrorKind::DependentObjects);
    assert_eq!(error.detail.as_deref(), Some("it is read by \"a\", \"s\", \"b\""));
    assert_eq!(apply(&mut catalog, "DROP TABLE orders CASCADE"), ["b", "s", "a", "orders"]);
    assert_eq!(apply(&mut catalog, "DROP SOURCE clicks"), ["clicks$errors", "clicks"]);
    assert!(apply(&mut catalog, "DROP SOURCE IF EXISTS clicks").is_empty());
}

#[test]
fn logical_views_are_put_in_place() {
    let mut catalog = shop();
    apply(
        &mut catalog,
        "CREATE VIEW paid AS SELECT id, amount FROM orders WHERE status = 'paid';
         CREATE MATERIALIZED VIEW total AS SELECT sum(amount) AS total FROM paid;",
    );
    let paid = catalog.get("paid").unwrap().id;
    assert!(catalog.get("total").unwrap().depends_on.contains(&paid));
    assert_eq!(refused(&catalog, "DROP TABLE orders").kind, ErrorKind::DependentObjects);
    assert!(matches!(
        bound(&catalog, "CREATE TABLE IF NOT EXISTS paid (a INT)"),
        Ok(Bound::AlreadyExists { .. })
    ));
}

#[test]
fn names_columns_as_postgres_does() {
    let mut catalog = shop();
    apply(
        &mut catalog,
        "CREATE MATERIALIZED VIEW v AS
           SELECT customer, count(*), sum(amount)::double precision, 1 + 1, max(id) AS top
           FROM orders GROUP BY customer;
         CREATE MATERIALIZED VIEW w (a, b) AS SELECT *, 1 AS one FROM customers;",
    );
    let names = |name: &str| -> Vec<String> {
        let schema = &catalog.get(name).unwrap().schema;
        schema.fields().iter().map(|field| field.name().clone()).collect()
    };
    assert_eq!(names("v"), ["customer", "count", "sum", "?column?", "top"]);
    assert_eq!(names("w"), ["a", "b", "one"]);
}

#[test]
fn queries_may_have_columns_of_one_name() -> Result<()> {
    let catalog = shop();
    let names = |text: &str| -> Result<Vec<String>> {
        let Bound::Query(plan) = bound(&catalog, text)? else { panic!("not a query") };
        let columns = visible_columns(&plan);
        Ok(columns.fields().iter().map(|field| field.name().clone()).collect())
    };
    assert_eq!(names("SELECT count(*), sum(id) + 1 FROM orders")?, ["count", "?column?"]);
    assert_eq!(names("SELECT 1, 1")?, ["?column?", "?column?"]);
    let counted = "SELECT count(*), count(*), id FROM orders GROUP BY id ORDER BY count";
    assert_eq!(names(counted)?, ["count", "count", "id"]);
    assert_eq!(names("SELECT sum(id), sum(amount) FROM orders")?, ["sum", "sum"]);
    assert_eq!(names("SELECT id, id::text, -id FROM orders")?, ["id", "id", "?column?"]);
    let joined = "SELECT o.id, c.id FROM orders o, customers c";
    assert_eq!(names(joined)?, ["id", "id"]);
    assert_eq!(names("SELECT id FROM orders ORDER BY amount LIMIT 1")?, ["id"]);
    Ok(())
}

/// ORDER BY and outer queries see the names that clients see.
#[test]
fn output_names_can_be_used() -> Result<()> {
    let catalog = shop();
    for query in [
        "SELECT status, count(*) FROM orders GROUP BY 1 ORDER BY count DESC",
        "SELECT upper(status) FROM orders GROUP BY upper(status) ORDER BY upper(status)",
        "SELECT DISTINCT id + 1 FROM orders ORDER BY id + 1",
        "SELECT max(sum) FROM (SELECT sum(id) FROM orders GROUP BY customer) s",
        "WITH c AS (SELECT count(*) FROM orders) SELECT count FROM c",
        "SELECT *, id + 1 AS next FROM orders ORDER BY next",
        "SELECT next FROM (SELECT *, id + 1 AS next FROM orders) o",
        "SELECT o.*, o.id FROM orders o ORDER BY id",
        "SELECT q.id FROM (SELECT o.*, o.id FROM orders o) q",
        "SELECT q.id FROM (SELECT o.id, c.id FROM orders o, customers c) q",
        "SELECT sum(id), sum(id) + 1 FROM orders HAVING sum(id) > 1",
    ] {
        bound(&catalog, query).map_err(|error| error.within(query))?;
    }
    Ok(())
}

#[test]
fn chooses_mode_and_key_of_a_sink() {
    let mut catalog = shop();
    apply(
        &mut catalog,
        "CREATE MATERIALIZED VIEW v AS
           SELECT customer, sum(amount) AS total FROM orders GROUP BY customer;
         CREATE SINK a FROM v WITH (connector = 'iceberg', commit_interval = '1 minute');
         CREATE SINK b FROM log WITH (connector = 'iceberg', type = 'append-only');
         CREATE SINK c AS SELECT total, customer FROM v
           WITH (connector = 'iceberg', type = 'upsert');
         CREATE SINK d FROM clicks
           WITH (connector = 'iceberg', type = 'upsert', primary_key = 'who, page');",
    );
    let sink = |name: &str| match catalog.get(name).unwrap().definition.as_ref() {
        Definition::Sink(sink) => (sink.mode.clone(), sink.commit_interval_ms),
        _ => panic!("not a sink"),
    };
    assert_eq!(sink("a"), (SinkMode::Upsert { key: vec![0] }, 60_000));
    assert_eq!(sink("b"), (SinkMode::AppendOnly, 1_000));
    assert_eq!(sink("c"), (SinkMode::Upsert { key: vec![1] }, 1_000));
    assert_eq!(sink("d"), (SinkMode::Upsert { key: vec![1, 0] }, 1_000));
    let cases = [
        "CREATE SINK x FROM v WITH (connector = 'iceberg', type = 'append-only')",
        "CREATE SINK x FROM clicks WITH (connector = 'iceberg', type = 'upsert')",
        "CREATE SINK x FROM v WITH (type = 'upsert')",
        "CREATE SINK x FROM v WITH (connector = 'iceberg', type = 'other')",
        "CREATE SINK x FROM v WITH (connector = 'iceberg', commit_interval = 'soon')",
    ];
    for text in cases {
        let error = refused(&catalog, text);
        assert_eq!(error.kind, ErrorKind::InvalidParameter, "{text}: {error:?}");
        assert!(error.hint.is_some() && error.position.is_some(), "{text}: {error:?}");
    }
    let text = "CREATE SINK x FROM v WITH (connector = 'iceberg', primary_key = 'custmer')";
    assert_eq!(refused(&catalog, text).kind, ErrorKind::UndefinedColumn);
}

#[test]
fn composes_the_target_of_a_pipeline() {
    let mut catalog = shop();
    apply(
        &mut catalog,
        "CREATE PIPELINE p SCHEDULE '0 * * * *' AS INSERT INTO lake.shop.daily
           SELECT customer, sum(amount) AS total FROM orders GROUP BY customer",
    );
    let Definition::Pipeline(pipeline) = catalog.get("p").unwrap().definition.as_ref() else {
        panic!("not a pipeline")
    };
    let options = &pipeline.sink.connector;
    let expected = [
        ("connector", "iceberg"),
        ("catalog.uri", "sqlite://lake/catalog.db"),
        ("warehouse.path", "lake"),
        ("database.name", "shop"),
        ("table.name", "daily"),
        ("create_table_if_not_exists", "true"),
    ];
    for (name, value) in expected {
        assert_eq!(options.get(name), Some(value), "{name}");
    }
    assert_eq!(pipeline.sink.mode, SinkMode::Upsert { key: vec![0] });
    let text = "CREATE PIPELINE q SCHEDULE '0 * * *' AS INSERT INTO lake.shop.d SELECT 1 AS a";
    let error = refused(&catalog, text);
    assert_eq!((error.kind, error.position), (ErrorKind::InvalidParameter, Some(28)));
    let text = "CREATE PIPELINE q SCHEDULE '0 * * * *' AS INSERT INTO pond.shop.d SELECT 1 AS a";
    let error = refused(&catalog, text);
    assert_eq!((error.kind, error.position), (ErrorKind::UndefinedTable, Some(55)));
}
