//! What [`parse`] takes, and where it says that it does not.

use arrow::datatypes::DataType;

use super::super::{
    CopyKind, Direction, Discard, ObjectKind, Show, SinkSource, StatementKind, Transaction, parse,
};
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
        ("SAVEPOINT \"_pg3_1\"", Transaction::Savepoint("_pg3_1".to_string())),
        ("RELEASE SAVEPOINT s", Transaction::Release("s".to_string())),
        ("ROLLBACK TO SAVEPOINT s", Transaction::RollbackTo("s".to_string())),
        ("ROLLBACK WORK TO savepoint", Transaction::RollbackTo("savepoint".to_string())),
        ("ABORT TRANSACTION", Transaction::Rollback),
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
        ("SET TIME ZONE INTERVAL '+00:00' HOUR TO MINUTE", "timezone", vec!["+00:00"]),
        ("SET TIME ZONE LOCAL", "timezone", vec![]),
        ("SET LOCAL TIME ZONE 0", "timezone", vec!["0"]),
        ("SET NAMES 'utf8'", "client_encoding", vec!["utf8"]),
        ("SET NAMES", "client_encoding", vec![]),
        ("SET ROLE postgres", "role", vec!["postgres"]),
        ("SET SESSION ROLE NONE", "role", vec!["NONE"]),
        ("SET SESSION AUTHORIZATION DEFAULT", "session_authorization", vec![]),
        ("SET SCHEMA 'public'", "search_path", vec!["public"]),
        ("SET SESSION statement_timeout TO 5", "statement_timeout", vec!["5"]),
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
fn a_statement_within_another_keeps_its_text_and_places() {
    let StatementKind::Prepare(prepare) =
        one("PREPARE p (int, unknown, numeric(5, 1)) AS  SELECT $1").kind
    else {
        panic!("no PREPARE")
    };
    let types = [Some(DataType::Int32), None, Some(DataType::Decimal128(5, 1))];
    assert_eq!((prepare.name.as_str(), prepare.types.as_slice()), ("p", types.as_slice()));
    assert_eq!((prepare.statement.text.as_str(), prepare.statement.offset), ("SELECT $1", 44));
    let StatementKind::Declare(declare) =
        one("DECLARE \"C\" BINARY NO SCROLL CURSOR WITH HOLD FOR (VALUES (1))").kind
    else {
        panic!("no DECLARE")
    };
    assert_eq!((declare.name.as_str(), declare.is_binary, declare.is_held), ("C", true, true));
    assert_eq!(declare.query.text, "(VALUES (1))");
    for (text, position) in [
        ("PREPARE p AS SELECT (1", 23),
        ("DECLARE c CURSOR FOR SELECT 1 +", 32),
        ("EXECUTE p (1, +)", 16),
        ("PREPARE p AS DROP TABLE t", 14),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!((error.kind, error.position), (ErrorKind::Syntax, Some(position)), "{text}");
    }
}

#[test]
fn parses_which_rows_are_fetched() {
    for (text, direction) in [
        ("FETCH c", Direction::Forward(1)),
        ("FETCH next", Direction::Forward(1)),
        ("FETCH NEXT FROM c", Direction::Forward(1)),
        ("FETCH FROM c", Direction::Forward(1)),
        ("FETCH 5 IN c", Direction::Forward(5)),
        ("FETCH -5 c", Direction::Forward(-5)),
        ("MOVE ALL c", Direction::ForwardAll),
        ("FETCH FORWARD c", Direction::Forward(1)),
        ("FETCH FORWARD 7 FROM c", Direction::Forward(7)),
        ("FETCH FORWARD ALL FROM c", Direction::ForwardAll),
        ("FETCH BACKWARD 2 FROM c", Direction::Forward(-2)),
        ("FETCH PRIOR FROM c", Direction::Forward(-1)),
        ("FETCH FIRST FROM c", Direction::Absolute(1)),
        ("FETCH LAST FROM c", Direction::Absolute(-1)),
        ("FETCH ABSOLUTE -3 FROM c", Direction::Absolute(-3)),
        ("FETCH RELATIVE 3 FROM c", Direction::Relative(3)),
    ] {
        let StatementKind::Fetch(fetch) = one(text).kind else { panic!("{text}") };
        assert_eq!((fetch.direction, fetch.is_move), (direction, text.starts_with("MOVE")));
        assert_eq!(fetch.cursor, if text == "FETCH next" { "next" } else { "c" }, "{text}");
    }
    assert_eq!(parse("FETCH 3000000000 FROM c").unwrap_err().position, Some(7));
}

#[test]
fn parses_copies_as_queries() {
    let copy = |text: &str| {
        let StatementKind::Copy(copy) = one(text).kind else { panic!("{text}") };
        (copy.query.text, copy.format)
    };
    let (query, format) = copy("COPY shop (id, \"Name\") TO STDOUT");
    assert_eq!(query, "SELECT id, \"Name\" FROM shop");
    let told = (format.kind, format.delimiter, format.null.as_str());
    assert_eq!(told, (CopyKind::Text, '\t', "\\N"));
    let (query, format) = copy("COPY (SELECT 1) TO STDOUT WITH (FORMAT csv, HEADER true)");
    assert_eq!(query, "SELECT 1");
    assert_eq!((format.kind, format.header, format.delimiter), (CopyKind::Csv, true, ','));
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
        ("CREATE UNIQUE INDEX i ON t (a)", 8),
        ("LOCK TABLE t", 1),
        ("PREPARE TRANSACTION 'x'", 1),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", 8),
        ("ALTER TABLE t ADD COLUMN a INT", 1),
        ("EXPLAIN ANALYZE SELECT 1", 9),
        ("DECLARE c SCROLL CURSOR FOR SELECT 1", 11),
        ("COPY t FROM 'file'", 1),
        ("COPY t TO 'file'", 1),
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
