//! What [`parse`] takes, and where it says that it does not.

use super::super::{ObjectKind, Show, SinkSource, StatementKind, Transaction, parse};
use super::support::one;
use crate::error::ErrorKind;

#[test]
fn parses_the_table_of_the_design() {
    let statement = one("CREATE TABLE IF NOT EXISTS public.Orders (
           id BIGINT PRIMARY KEY, amount NUMERIC(12,2) NOT NULL)
         WITH (connector = 'kafka', topic = 'shop.public.orders',
               properties.bootstrap.server = '127.0.0.1:9092', rate = 5, fast = true)
         FORMAT DEBEZIUM ENCODE JSON (on_error = 'skip')");
    let StatementKind::CreateTable(table) = statement.kind else { panic!("not a table") };
    assert_eq!(table.name.value, "orders");
    assert!(table.if_not_exists);
    assert_eq!(table.columns.unwrap().columns.len(), 2);
    assert_eq!(table.options.get("properties.bootstrap.server"), Some("127.0.0.1:9092"));
    assert_eq!(table.options.get("rate"), Some("5"));
    assert_eq!(table.options.get("fast"), Some("true"));
    let format = table.format.unwrap();
    assert_eq!((format.format.as_str(), format.encode.as_str()), ("DEBEZIUM", "JSON"));
    assert_eq!(format.options.get("on_error"), Some("skip"));
}

#[test]
fn parses_append_only_tables_and_key_constraints() {
    let StatementKind::CreateTable(table) =
        one("CREATE TABLE log (a INT, b TEXT, PRIMARY KEY (a, b)) APPEND ONLY").kind
    else {
        panic!("not a table")
    };
    assert!(table.append_only);
    assert_eq!(table.columns.unwrap().constraints.len(), 1);
}

#[test]
fn parses_a_source_without_columns() {
    let StatementKind::CreateSource(source) =
        one("CREATE SOURCE bids WITH (connector = 'generator', dataset = 'nexmark')").kind
    else {
        panic!("not a source")
    };
    assert!(source.columns.is_none() && source.format.is_none());
}

#[test]
fn keeps_the_text_of_a_views_query() {
    let StatementKind::CreateMaterializedView(view) =
        one("CREATE MATERIALIZED VIEW v (x) AS\n  SELECT a + 1 FROM t -- end").kind
    else {
        panic!("not a view")
    };
    assert_eq!(view.query_text, "SELECT a + 1 FROM t");
    assert_eq!(view.columns[0].value, "x");
}

#[test]
fn parses_sinks_from_names_and_queries() {
    let StatementKind::CreateSink(sink) =
        one("CREATE SINK s FROM v WITH (connector = 'iceberg', catalog.uri = 'x')").kind
    else {
        panic!("not a sink")
    };
    assert!(matches!(sink.source, SinkSource::Relation(name) if name.value == "v"));
    assert_eq!(sink.options.get("catalog.uri"), Some("x"));
    let text = "CREATE SINK s AS WITH c AS (SELECT 1) SELECT * FROM c JOIN d ON c.x = d.x
                WITH (connector = 'iceberg')";
    let StatementKind::CreateSink(sink) = one(text).kind else { panic!("not a sink") };
    assert!(matches!(sink.source, SinkSource::Query(_)));
    assert_eq!(sink.options.get("connector"), Some("iceberg"));
}

#[test]
fn parses_pipelines_and_catalogs() {
    let text = "CREATE PIPELINE hourly SCHEDULE '0 * * * *' AS
                INSERT INTO lake.shop.daily SELECT a FROM t";
    let StatementKind::CreatePipeline(pipeline) = one(text).kind else { panic!("no pipeline") };
    let target: Vec<_> = pipeline.target.iter().map(|name| name.value.as_str()).collect();
    assert_eq!((pipeline.schedule.as_str(), target), ("0 * * * *", vec!["lake", "shop", "daily"]));
    let StatementKind::CreateCatalog(catalog) =
        one("CREATE CATALOG c WITH (type = 'iceberg', catalog.uri = 'sqlite://x')").kind
    else {
        panic!("not a catalog")
    };
    assert_eq!(catalog.options.get("type"), Some("iceberg"));
}

#[test]
fn parses_drops() {
    let kinds = [
        ("TABLE", ObjectKind::Table),
        ("SOURCE", ObjectKind::Source),
        ("MATERIALIZED VIEW", ObjectKind::MaterializedView),
        ("VIEW", ObjectKind::View),
        ("SINK", ObjectKind::Sink),
        ("PIPELINE", ObjectKind::Pipeline),
        ("CATALOG", ObjectKind::Catalog),
    ];
    for (text, kind) in kinds {
        let StatementKind::Drop(drop) = one(&format!("DROP {text} IF EXISTS a, b CASCADE")).kind
        else {
            panic!("not a drop")
        };
        assert_eq!((drop.kind, drop.names.len()), (kind, 2));
        assert!(drop.if_exists && drop.cascade);
    }
}

#[test]
fn parses_what_to_show() {
    let shows = [
        ("SHOW JOBS", Show::Jobs),
        ("SHOW MEMORY", Show::Memory),
        ("SHOW WORKERS", Show::Workers),
        ("SHOW TABLES", Show::Tables),
        ("SHOW SOURCES", Show::Sources),
        ("SHOW SINKS", Show::Sinks),
        ("SHOW VIEWS", Show::Views),
        ("SHOW MATERIALIZED VIEWS", Show::MaterializedViews),
        ("SHOW PIPELINES", Show::Pipelines),
        ("SHOW PIPELINE RUNS", Show::PipelineRuns),
        ("SHOW CATALOGS", Show::Catalogs),
        ("SHOW ALL", Show::All),
        ("SHOW TIME ZONE", Show::Variable("timezone".into())),
        ("SHOW search_path", Show::Variable("search_path".into())),
        ("SHOW TRANSACTION ISOLATION LEVEL", Show::Variable("transaction_isolation".into())),
    ];
    for (text, expected) in shows {
        let StatementKind::Show(show) = one(text).kind else { panic!("{text}") };
        assert_eq!(show, expected, "{text}");
    }
    for text in ["SHOW CREATE TABLE t", "SHOW CREATE MATERIALIZED VIEW t"] {
        assert!(matches!(one(text).kind, StatementKind::Show(Show::Create { .. })), "{text}");
    }
    for text in ["SHOW COLUMNS FROM t", "DESCRIBE t"] {
        assert!(matches!(one(text).kind, StatementKind::Show(Show::Columns { .. })), "{text}");
    }
}

#[test]
fn parses_what_clients_send() {
    let transactions = [
        ("BEGIN", Transaction::Begin),
        ("START TRANSACTION READ ONLY", Transaction::Begin),
        ("COMMIT", Transaction::Commit),
        ("END", Transaction::Commit),
        ("ROLLBACK", Transaction::Rollback),
        ("SAVEPOINT \"_pg3_1\"", Transaction::Savepoint),
        ("RELEASE SAVEPOINT s", Transaction::Release),
        ("ROLLBACK TO SAVEPOINT s", Transaction::RollbackTo),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Transaction::SetCharacteristics),
    ];
    for (text, expected) in transactions {
        let StatementKind::Transaction(transaction) = one(text).kind else { panic!("{text}") };
        assert_eq!(transaction, expected);
    }
    assert!(matches!(one("DISCARD ALL").kind, StatementKind::Discard(Discard::All)));
    assert!(matches!(one("UNLISTEN *").kind, StatementKind::Unlisten));
    assert!(matches!(one("FLUSH").kind, StatementKind::Flush));
    assert!(matches!(one("RUN PIPELINE p").kind, StatementKind::RunPipeline { .. }));
    assert!(matches!(one("RESET ALL").kind, StatementKind::Reset { name: None }));
    let sets = [
        ("SET extra_float_digits = 3", "extra_float_digits", vec!["3"]),
        ("SET search_path TO a, 'b'", "search_path", vec!["a", "b"]),
        ("SET TIME ZONE 'UTC'", "timezone", vec!["UTC"]),
        ("SET application_name TO DEFAULT", "application_name", vec![]),
        ("SET x = -5", "x", vec!["-5"]),
    ];
    for (text, expected, values) in sets {
        let StatementKind::Set { name, value, .. } = one(text).kind else { panic!("{text}") };
        assert_eq!(
            (name.as_str(), value),
            (expected, values.iter().map(|v| v.to_string()).collect())
        );
    }
}

#[test]
fn parses_copies_as_queries() {
    let copy = |text: &str| {
        let StatementKind::Copy(copy) = one(text).kind else { panic!("{text}") };
        (copy.query.text, copy.format)
    };
    let (query, format) = copy("COPY shop (id, \"Name\") TO STDOUT");
    assert_eq!(query, "SELECT id, \"Name\" FROM shop");
    assert_eq!((format.csv, format.delimiter, format.null.as_str()), (false, '\t', "\\N"));
    let (query, format) = copy("COPY (SELECT 1) TO STDOUT WITH (FORMAT csv, HEADER true)");
    assert_eq!(query, "SELECT 1");
    assert_eq!((format.csv, format.header, format.delimiter), (true, true, ','));
    assert_eq!(copy("COPY t TO STDOUT CSV HEADER DELIMITER ';'").1.delimiter, ';');
}

#[test]
fn parses_several_statements_and_none() {
    assert!(parse("").unwrap().is_empty());
    assert!(parse(" ;; -- nothing\n").unwrap().is_empty());
    let statements =
        parse("SELECT 1; INSERT INTO t VALUES (1);\nUPDATE t SET a = 1; DELETE FROM t").unwrap();
    let tags: Vec<_> = statements.iter().map(|statement| statement.kind.tag()).collect();
    assert_eq!(tags, ["SELECT", "INSERT", "UPDATE", "DELETE"]);
    assert_eq!(statements[2].offset, 36);
}

#[test]
fn tells_where_text_is_not_sql() {
    let cases = [
        ("SELECT * FORM t", "syntax error at or near \"FORM\"", 10, Some("FROM")),
        ("SELEC 1", "syntax error at or near \"SELEC\"", 1, Some("SELECT")),
        ("SELECT a FORM t", "syntax error at or near \"t\"", 15, Some("FROM")),
        ("SELECT 1;\nDROP TABEL t", "syntax error at or near \"TABEL\"", 16, Some("TABLE")),
        ("CREATE TABLE t (a INT", "syntax error at end of input", 22, None),
        ("CREATE TABLE t (a INT,,)", "syntax error at or near \",\"", 23, None),
        (
            "CREATE MATERIALIZED VEIW v AS SELECT 1",
            "syntax error at or near \"VEIW\"",
            21,
            Some("VIEW"),
        ),
        ("CREATE SINK s FROM v", "syntax error at end of input", 21, None),
        ("CREATE TABLE t (a INT) WITH (x 1)", "syntax error at or near \"1\"", 32, None),
        (
            "CREATE PIPELINE p SCHEDUEL '* * * * *'",
            "syntax error at or near \"SCHEDUEL\"",
            19,
            Some("SCHEDULE"),
        ),
        ("SHOW CREATE x", "syntax error at or near \"x\"", 13, None),
        ("SELECT 1 2", "syntax error at or near \"2\"", 10, None),
        ("SELECT * FROM", "syntax error at end of input", 14, None),
    ];
    for (text, message, position, meant) in cases {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Syntax, "{text}: {error:?}");
        assert_eq!((error.message.as_str(), error.position), (message, Some(position)), "{text}");
        let hint = meant.map(|word| format!("perhaps you meant \"{word}\""));
        assert_eq!(error.hint, hint, "{text}");
    }
}

#[test]
fn refuses_what_is_understood_but_not_supported() {
    let cases = [
        ("CREATE SOURCE s (at TIMESTAMP, WATERMARK FOR at AS at) WITH (connector = 'x')", 32),
        ("CREATE TABLE t (a INT) INCLUDE payload AS k WITH (connector = 'x')", 32),
        ("CREATE INDEX i ON t (a)", 8),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", 8),
        ("ALTER TABLE t ADD COLUMN a INT", 1),
        ("EXPLAIN ANALYZE SELECT 1", 9),
        ("DECLARE c CURSOR FOR SELECT 1", 1),
        ("COPY t FROM STDIN", 1),
        ("COPY t TO 'file'", 1),
        ("COPY t TO STDOUT WITH (FORMAT binary)", 1),
    ];
    for (text, position) in cases {
        let error = parse(text).unwrap_err();
        assert_eq!(
            (error.kind, error.position),
            (ErrorKind::Unsupported, Some(position)),
            "{text}"
        );
    }
}

#[test]
fn refuses_an_option_given_twice() {
    let error = parse("CREATE SOURCE s WITH (connector = 'a', connector = 'b')").unwrap_err();
    assert_eq!((error.kind, error.position), (ErrorKind::InvalidParameter, Some(40)));
}
