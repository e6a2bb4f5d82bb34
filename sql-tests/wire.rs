//! What a client may send without harm to others: deep statements, endless queries, odd messages.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt as _;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::{Server, SqlError};

pub(super) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(test)
}

async fn code(server: &Server, sql: &str) -> String {
    server.query(sql).await.map_or_else(|error| error.code, |_| "00000".to_string())
}

fn chain(count: usize, term: impl Fn(usize) -> String, word: &str) -> String {
    (0..count).map(term).collect::<Vec<_>>().join(word)
}

#[test]
fn deep_statements_work_or_are_refused() {
    run(async {
        let server = Server::start().await;
        server
            .query("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (7)")
            .await
            .unwrap();
        let id = |n: usize| format!("id = {n}");
        let one = |_: usize| "id".to_string();
        for (name, query) in [
            ("ors", format!("SELECT id FROM t WHERE {}", chain(5000, id, " OR "))),
            ("ands", format!("SELECT id FROM t WHERE {}", chain(5000, |_| id(7), " AND "))),
            ("sum", format!("SELECT {} FROM t", chain(200, one, " + "))),
            ("unions", chain(100, |_| "SELECT id FROM t".to_string(), " UNION ALL ")),
            ("nested", format!("SELECT {}id{} FROM t", "(".repeat(100), ")".repeat(100))),
        ] {
            let rows = server.query(&query).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!rows.0.unwrap().is_empty(), "{name}");
            assert!(server.client.prepare(&query).await.is_ok(), "{name}");
        }
        for query in [
            format!("SELECT {} FROM t", chain(20_000, one, " + ")),
            chain(2000, |_| "SELECT 1".to_string(), " UNION ALL "),
            format!("SELECT {}1{}", "(SELECT ".repeat(3000), ")".repeat(3000)),
            format!("INSERT INTO t SELECT {} FROM t", chain(20_000, one, " + ")),
            format!("DELETE FROM t WHERE id > {}", chain(20_000, one, " + ")),
        ] {
            assert_eq!(code(&server, &query).await, "54001", "{}", &query[..40]);
            let error = server.client.prepare(&query).await.unwrap_err();
            assert_eq!(SqlError::from(error).code, "54001", "{}", &query[..40]);
        }
        assert_eq!(code(&server, &format!("{}SELECT 1", "EXPLAIN ".repeat(20_000))).await, "42601");
        // Live views are computed on the workers' threads.
        let view =
            format!("CREATE MATERIALIZED VIEW v AS SELECT {} AS s FROM t", chain(200, one, "+"));
        server.query(&view).await.unwrap();
        let view = format!(
            "CREATE MATERIALIZED VIEW w AS SELECT id FROM t WHERE {} AND 1 / id < 2",
            chain(2000, id, " OR ")
        );
        server.query(&view).await.unwrap();
        server.query("INSERT INTO t VALUES (1)").await.unwrap();
        assert_eq!(server.sorted("SELECT s FROM v").await.unwrap(), [["1400"], ["200"]]);
        assert_eq!(server.sorted("SELECT id FROM w").await.unwrap(), [["1"], ["7"]]);
    });
}

#[test]
fn numbers_of_parameters_are_bounded() {
    run(async {
        let server = Server::start().await;
        server.query("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
        for query in ["SELECT $2000000000::int", "INSERT INTO t VALUES ($2000000000)"] {
            assert_eq!(code(&server, query).await, "42P02");
            let error = server.client.prepare(query).await.unwrap_err();
            assert_eq!(SqlError::from(error).code, "42P02");
        }
        assert_eq!(code(&server, "SELECT $1::int").await, "42P02");
    });
}

const ENDLESS: &str =
    "SELECT count(*) FROM generate_series(1, 1000000000000) AS a(x) WHERE x % 3 = 5";

#[test]
fn a_statement_ends_at_its_timeout() {
    run(async {
        let server = Server::start().await;
        server.query("SET statement_timeout = '200ms'").await.unwrap();
        assert_eq!(code(&server, ENDLESS).await, "57014");
        let error = server.client.query(ENDLESS, &[]).await.unwrap_err();
        assert_eq!(SqlError::from(error).code, "57014");
        // Rows that have begun to flow end, too.
        let rows = "SELECT x FROM generate_series(1, 1000000000000) AS a(x)";
        assert_eq!(code(&server, rows).await, "57014");
        assert_eq!(code(&server, "SELECT 1").await, "00000");
        assert_eq!(code(&server, "SET statement_timeout = 'soon'").await, "22023");
        server.query("SET statement_timeout = 0").await.unwrap();
        assert_eq!(code(&server, "SELECT count(*) FROM generate_series(1, 100000)").await, "00000");
    });
}

#[test]
fn endless_queries_keep_nobody_waiting() {
    run(async {
        let server = Server::start().await;
        server.query("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
        let mut endless = Vec::new();
        for number in 0..3 {
            let client = server.connect().await;
            let cancel = client.cancel_token();
            let query = async move {
                match number {
                    0 => client.query(ENDLESS, &[]).await.map(drop),
                    _ => client.simple_query(ENDLESS).await.map(drop),
                }
            };
            endless.push((tokio::spawn(query), cancel));
        }
        for id in 0..5 {
            let insert = format!("INSERT INTO t VALUES ({id})");
            let write = tokio::time::timeout(Duration::from_secs(120), server.query(&insert));
            write.await.expect("a write waits for queries").unwrap();
        }
        for (query, cancel) in endless {
            assert!(!query.is_finished());
            cancel.cancel_query(NoTls).await.unwrap();
            let error = query.await.unwrap().unwrap_err();
            assert_eq!(SqlError::from(error).code, "57014");
        }
    });
}

#[test]
fn queries_have_a_limit_of_memory() {
    run(async {
        let server = Server::start_with("query_memory_bytes = 30000000").await;
        let all = "SELECT cardinality(array_agg(x)) FROM generate_series(1, 100000000) AS a(x)";
        assert_eq!(code(&server, all).await, "53200");
        // What is sorted goes to disk.
        let sorted = "SELECT x FROM (SELECT x, row_number() OVER (ORDER BY x % 1000, x DESC) AS n
                      FROM generate_series(1, 3000000) AS a(x)) AS s
                      WHERE n BETWEEN 2999991 AND 2999993 ORDER BY n";
        let rows = server.query(sorted).await.unwrap().0.unwrap();
        assert_eq!(rows, [["9999"], ["8999"], ["7999"]]);
    });
}

/// What a text is answered with: tags, numbers of rows, and the code of an error.
async fn answers(client: &tokio_postgres::Client, sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    let messages = client.simple_query_raw(sql).await.unwrap();
    let mut messages = std::pin::pin!(messages);
    while let Some(message) = messages.next().await {
        found.push(match message {
            Ok(SimpleQueryMessage::Row(row)) => row.get(0).unwrap_or("NULL").to_string(),
            Ok(SimpleQueryMessage::CommandComplete(count)) => format!("done {count}"),
            Ok(_) => continue,
            Err(error) => SqlError::from(error).code,
        });
    }
    found
}

#[test]
fn statements_of_one_text_are_answered_one_by_one() {
    run(async {
        let server = Server::start().await;
        server.query("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
        let text = "INSERT INTO t VALUES (1), (2); SELECT 7; SELECT 1 / (id - 1) FROM t;
                    INSERT INTO t VALUES (3)";
        assert_eq!(answers(&server.client, text).await, ["done 2", "7", "done 1", "22012"]);
        let count = "SELECT count(*) FROM t";
        assert_eq!(answers(&server.client, count).await, ["2", "done 1"]);
        // A fault within a transaction makes it a failed one.
        let text = "BEGIN; SELECT 1 / (id - 1) FROM t";
        assert_eq!(answers(&server.client, text).await, ["done 0", "22012"]);
        assert_eq!(answers(&server.client, "SELECT 1").await, ["25P02"]);
        assert_eq!(answers(&server.client, "ROLLBACK; SELECT 1").await, ["done 0", "1", "done 1"]);
    });
}

#[test]
fn if_exists_is_decided_once() {
    run(async {
        let server = Server::start().await;
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(server.connect().await);
        }
        for table in 0..8 {
            for sql in [
                format!("CREATE TABLE IF NOT EXISTS t{table} (id INT PRIMARY KEY)"),
                format!("DROP TABLE IF EXISTS t{table}"),
            ] {
                let all = clients.iter().map(|client| client.simple_query(&sql));
                for answer in futures::future::join_all(all).await {
                    answer.unwrap_or_else(|error| panic!("{sql}: {}", SqlError::from(error)));
                }
            }
        }
    });
}

/// A message of the protocol.
pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

/// The tags of the messages up to ReadyForQuery.
fn tags(socket: &mut TcpStream) -> String {
    let mut tags = String::new();
    while !tags.ends_with('Z') {
        let mut head = [0; 5];
        socket.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; length as usize - 4];
        socket.read_exact(&mut body).unwrap();
        tags.push(char::from(head[0]));
    }
    tags
}

/// A session whose messages are written by the test.
fn session(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket.write_all(&startup()).unwrap();
    assert!(tags(&mut socket).ends_with('Z'));
    socket
}

#[test]
fn any_number_of_rows_may_be_asked_for() {
    run(async {
        let server = Server::start().await;
        let mut socket = session(&server);
        for (rows, expected) in [
            (0, "12DDDCZ"),
            (-1, "12DDDCZ"),
            (i32::MIN, "12DDDCZ"),
            (i32::MAX, "12DDDCZ"),
            (3, "12DDDsZ"),
            (2, "12DDsZ"),
        ] {
            let parse = [b"\0SELECT * FROM generate_series(1, 3)\0".as_slice(), &[0, 0]].concat();
            let execute = [[0].as_slice(), &i32::to_be_bytes(rows)].concat();
            let messages = [
                message(b'P', &parse),
                message(b'B', &[0, 0, 0, 0, 0, 0, 0, 0]),
                message(b'E', &execute),
                message(b'S', &[]),
            ];
            socket.write_all(&messages.concat()).unwrap();
            assert_eq!(tags(&mut socket), expected, "{rows}");
        }
    });
}

#[test]
fn statements_without_rows_are_described_without_columns() {
    run(async {
        let server = Server::start().await;
        server.query("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await.unwrap();
        let mut socket = session(&server);
        for (sql, expected) in [
            ("INSERT INTO t VALUES ($1, $2)", "1tnZ"),
            ("DELETE FROM t WHERE id = $1", "1tnZ"),
            ("INSERT INTO t VALUES (1, 2)", "1tnZ"),
            ("BEGIN", "1tnZ"),
            ("SELECT a FROM t WHERE id = $1", "1tTZ"),
            ("INSERT INTO t VALUES ($1, $2) RETURNING id", "1tTZ"),
            ("UPDATE t SET a = $1 RETURNING *", "1tTZ"),
            ("DELETE FROM t WHERE id = $1 RETURNING a", "1tTZ"),
            ("INSERT INTO t VALUES ($1, 2) ON CONFLICT DO NOTHING RETURNING a", "1tTZ"),
            ("", "1tnZ"),
        ] {
            let parse = [b"\0", sql.as_bytes(), &[0, 0, 0]].concat();
            let messages = [message(b'P', &parse), message(b'D', b"S\0"), message(b'S', &[])];
            socket.write_all(&messages.concat()).unwrap();
            assert_eq!(tags(&mut socket), expected, "{sql}");
        }
    });
}

/// The tag of the last statement of a text.
fn tag(socket: &mut TcpStream, sql: &str) -> String {
    socket.write_all(&message(b'Q', &[sql.as_bytes(), &[0]].concat())).unwrap();
    let mut tag = String::new();
    loop {
        let mut head = [0; 5];
        socket.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; length as usize - 4];
        socket.read_exact(&mut body).unwrap();
        match head[0] {
            b'C' => tag = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned(),
            b'E' => tag = String::from_utf8_lossy(&body).into_owned(),
            b'Z' => return tag,
            _ => {}
        }
    }
}

#[test]
fn writes_that_return_rows_have_tags_of_their_own() {
    run(async {
        let server = Server::start().await;
        server.query("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await.unwrap();
        let mut socket = session(&server);
        for (sql, expected) in [
            ("INSERT INTO t VALUES (1, 1), (2, 2) RETURNING id", "INSERT 0 2"),
            ("INSERT INTO t VALUES (1, 1), (3, 3) ON CONFLICT DO NOTHING", "INSERT 0 1"),
            ("INSERT INTO t VALUES (1, 1) ON CONFLICT DO NOTHING RETURNING a", "INSERT 0 0"),
            (
                "INSERT INTO t VALUES (1, 1), (4, 4) ON CONFLICT (id) DO UPDATE SET a = 9
                 RETURNING a",
                "INSERT 0 2",
            ),
            ("UPDATE t SET a = a + 1 RETURNING id, a", "UPDATE 4"),
            ("DELETE FROM t WHERE id = 77 RETURNING id", "DELETE 0"),
            ("DELETE FROM t RETURNING id", "DELETE 4"),
        ] {
            assert_eq!(tag(&mut socket, sql), expected, "{sql}");
        }
    });
}

/// What an ORM does: it inserts, and takes the key and the other columns from the answer.
#[test]
fn rows_come_back_over_the_extended_protocol() {
    run(async {
        let server = Server::start().await;
        let create = "CREATE TABLE t (id INT PRIMARY KEY, n NUMERIC(10, 2), x TEXT)";
        server.query(create).await.unwrap();
        let upsert = "INSERT INTO t (id, x) VALUES ($1, $2) ON CONFLICT (id)
                      DO UPDATE SET x = t.x || excluded.x || $3 WHERE t.id < $4
                      RETURNING id AS key, x, upper(x)";
        let prepared = server.client.prepare(upsert).await.unwrap();
        let types: Vec<&str> = prepared.params().iter().map(|it| it.name()).collect();
        assert_eq!(types, ["int4", "text", "text", "int4"]);
        let columns: Vec<_> =
            prepared.columns().iter().map(|it| (it.name(), it.type_().name())).collect();
        assert_eq!(columns, [("key", "int4"), ("x", "text"), ("upper", "text")]);
        for (text, expected) in [("a", "a"), ("b", "ab!"), ("c", "ab!c!")] {
            let rows = server.client.query(&prepared, &[&1_i32, &text, &"!", &5_i32]).await;
            let rows = rows.unwrap();
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0].get::<_, i32>(0), 1);
            assert_eq!(rows[0].get::<_, &str>("x"), expected);
            assert_eq!(rows[0].get::<_, String>(2), expected.to_uppercase());
        }
        let none = server.client.query(&prepared, &[&1_i32, &"d", &"", &0_i32]).await.unwrap();
        assert!(none.is_empty());
        // Plans that are kept, and plans of other types.
        let update = "UPDATE t SET x = $1 WHERE id = $2 RETURNING id, x, $1";
        let update = server.client.prepare(update).await.unwrap();
        for text in ["one", "two", "three"] {
            let row = server.client.query_one(&update, &[&text, &1_i32]).await.unwrap();
            assert_eq!((row.get(0), row.get(1), row.get(2)), (1_i32, text, text));
        }
        let row = server.client.query_one("DELETE FROM t RETURNING *", &[]).await.unwrap();
        assert_eq!((row.len(), row.get(2)), (3, "three"));
        assert!(server.sorted("SELECT id FROM t").await.unwrap().is_empty());
    });
}

/// Inserts some rows in clients at the same time; the numbers that they were told.
async fn told_numbers(server: &Server, tasks: usize) -> Vec<i64> {
    let mut clients = Vec::new();
    for _ in 0..tasks {
        clients.push(server.connect().await);
    }
    let all = clients.iter().map(|client| async move {
        let mut told = Vec::new();
        for _ in 0..15 {
            let insert = "INSERT INTO t (x) VALUES ($1), ($1) RETURNING id";
            let rows = client.query(insert, &[&"a"]).await.unwrap();
            told.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        }
        told
    });
    futures::future::join_all(all).await.concat()
}

#[test]
fn numbers_of_identity_columns_are_given_once_across_clients_and_kills() {
    run(async {
        let mut server = Server::start().await;
        server.query("CREATE TABLE t (id BIGSERIAL PRIMARY KEY, x TEXT)").await.unwrap();
        let mut told = Vec::new();
        for _ in 0..3 {
            told.extend(told_numbers(&server, 4).await);
            server.crash().await;
        }
        told.sort_unstable();
        let count = told.len();
        told.dedup();
        assert_eq!((told.len(), count), (360, 360));
        // The gaps are what was written down ahead.
        assert!(told.last().is_some_and(|last| *last < 360 + 3 * 64), "{told:?}");
        let found = server.sorted("SELECT count(*), count(DISTINCT id) FROM t").await.unwrap();
        assert_eq!(found, [["360", "360"]]);
    });
}

/// Drivers encode a value after the type that the server tells.
#[test]
fn parameters_have_the_types_of_the_columns_that_they_are_for() {
    run(async {
        let server = Server::start().await;
        server
            .query(
                "CREATE TABLE t (id INT PRIMARY KEY, i2 SMALLINT, i8 BIGINT, f REAL, d FLOAT8,
                   n NUMERIC(10, 2), b BOOLEAN, x TEXT, y BYTEA, day DATE, at TIMESTAMP,
                   tz TIMESTAMPTZ)",
            )
            .await
            .unwrap();
        for sql in [
            "UPDATE t SET id = $1, i2 = $2, i8 = $3, f = $4, d = $5, n = $6, b = $7, x = $8,
               y = ($9), day = $10, at = $11, tz = $12",
            "INSERT INTO t SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12",
            "INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        ] {
            let prepared = server.client.prepare(sql).await.unwrap();
            let types: Vec<&str> = prepared.params().iter().map(|it| it.name()).collect();
            let expected = [
                "int4",
                "int2",
                "int8",
                "float4",
                "float8",
                "numeric",
                "bool",
                "text",
                "bytea",
                "date",
                "timestamp",
                "timestamptz",
            ];
            assert_eq!(types, expected, "{sql}");
        }
        server.query("INSERT INTO t (id, x) VALUES (1, 'a')").await.unwrap();
        let update = "UPDATE t SET i2 = $1, x = $2 WHERE id = $3";
        let count = server.client.execute(update, &[&7_i16, &"b", &1_i32]).await.unwrap();
        assert_eq!(count, 1);
        assert_eq!(server.sorted("SELECT i2, x FROM t").await.unwrap(), [["7", "b"]]);
    });
}

/// Values beyond what drivers hold end no connection.
#[test]
fn values_at_their_limits_are_sent_or_refused() {
    run(async {
        let server = Server::start().await;
        for sql in [
            "SELECT ARRAY[1.5, '9223372036854775808'::numeric]",
            "SELECT ARRAY['1e27'::numeric(38, 10), 0]",
            "SELECT ARRAY['262142-01-01'::timestamp]",
            "SELECT '262142-12-31'::date, ARRAY['262142-12-31'::date]",
            "SELECT interval '178956970 years', ARRAY[interval '1000000 days']",
        ] {
            // An error is an answer, too.
            let _ = server.query(sql).await;
            let _ = server.client.query(sql, &[]).await;
            assert_eq!(code(&server, "SELECT 1").await, "00000", "{sql}");
        }
    });
}

/// A value in the binary form of its type.
#[derive(Debug, PartialEq)]
struct Raw(Vec<u8>);

impl ToSql for Raw {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[test]
fn values_keep_their_types_in_binary_form() {
    run(async {
        let server = Server::start().await;
        let create =
            "CREATE TABLE t (id UUID PRIMARY KEY, doc JSONB, n NUMERIC(12, 4), iv INTERVAL)";
        server.query(create).await.unwrap();
        let client = &server.client;
        let insert = client.prepare("INSERT INTO t VALUES ($1, $2, $3, $4)").await.unwrap();
        let types = [Type::UUID, Type::JSONB, Type::NUMERIC, Type::INTERVAL];
        assert_eq!(insert.params(), types);
        let id = Raw((0..16).collect());
        let doc = Raw(b"\x01{\"b\":1.50,\"a\":[null]}".to_vec());
        let number = Raw(vec![0, 2, 0, 0, 0, 0, 0, 2, 4, 210, 21, 224]);
        let interval = Raw([&7_000_000_i64.to_be_bytes()[..], &[0, 0, 0, 3, 0, 0, 0, 2]].concat());
        client.execute(&insert, &[&id, &doc, &number, &interval]).await.unwrap();
        let rows = "SELECT id, doc, n, iv, '{00010203-0405-0607-0809-0a0b0c0d0e0f}'::uuid[] FROM t \
                    WHERE id = $1 AND doc @> $2 AND n > $3 AND iv >= $4";
        let select = client.prepare(rows).await.unwrap();
        assert_eq!(select.params(), types);
        let described: Vec<_> = select.columns().iter().map(|it| it.type_().clone()).collect();
        assert_eq!(described, [&types[..], &[Type::UUID_ARRAY]].concat());
        let part = Raw(b"\x01{\"a\": [null]}".to_vec());
        let less = Raw(vec![0, 1, 0, 0, 0, 0, 0, 0, 4, 210]);
        let row = client.query_one(&select, &[&id, &part, &less, &interval]).await.unwrap();
        assert_eq!(row.get::<_, Raw>(0), id);
        assert_eq!(row.get::<_, Raw>(1), Raw(b"\x01{\"a\": [null], \"b\": 1.5}".to_vec()));
        assert_eq!(row.get::<_, Raw>(3), interval);
        let list = row.get::<_, Raw>(4).0;
        assert_eq!(
            list[..24],
            [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 11, 134, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 16]
        );
        assert_eq!(list[24..], id.0);
        let member = client.prepare("SELECT doc ->> $1, doc -> 'a' FROM t").await.unwrap();
        let row = client.query_one(&member, &[&"b"]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "1.5");
        let literal = client.prepare("SELECT 1, coalesce(NULL, 2), 3000000000, 1.5").await.unwrap();
        let described: Vec<_> = literal.columns().iter().map(|it| it.type_().clone()).collect();
        assert_eq!(described, [Type::INT4, Type::INT4, Type::INT8, Type::NUMERIC]);
        // A value that is none of its type harms nothing.
        let bad = client.query(&select, &[&Raw(vec![1]), &part, &less, &interval]).await;
        assert_eq!(SqlError::from(bad.unwrap_err()).code, "22P03");
        assert_eq!(code(&server, "SELECT 1").await, "00000");
    });
}

#[test]
fn parameters_keep_the_type_that_the_client_tells() {
    run(async {
        let server = Server::start().await;
        let text = "SELECT $1, coalesce($1, 0), $1 * 1000000";
        let select = server.client.prepare_typed(text, &[Type::INT8]).await.unwrap();
        let types: Vec<_> = select.columns().iter().map(|it| it.type_().clone()).collect();
        assert_eq!(types, [Type::INT8, Type::INT8, Type::INT8]);
        let row = server.client.query_one(&select, &[&3000_i64]).await.unwrap();
        let value = |at: usize| row.get::<_, i64>(at);
        assert_eq!([value(0), value(1), value(2)], [3000, 3000, 3_000_000_000]);
    });
}

/// The message that begins a session.
pub(super) fn startup() -> Vec<u8> {
    let body = [&196_608_u32.to_be_bytes()[..], b"user\0root\0database\0dev\0\0"].concat();
    let length = u32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes()[..], &body].concat()
}

/// Damaged, truncated and random messages, before and after the start of a session.
#[test]
fn garbage_on_the_wire_harms_its_connection_alone() {
    run(async {
        let mut server = Server::start().await;
        server
            .query("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (7)")
            .await
            .unwrap();
        let whole: Vec<Vec<u8>> = vec![
            message(b'Q', b"SELECT id FROM t\0"),
            message(b'P', b"s\0SELECT id FROM t WHERE id = $1\0\0\x01\0\0\0\x17"),
            message(b'B', b"p\0s\0\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x07\0\x01\0\x01"),
            message(b'D', b"Pp\0"),
            message(b'E', b"p\0\0\0\0\0"),
            message(b'C', b"Ss\0"),
            message(b'S', b""),
            message(b'd', b"1\tx\n"),
            message(b'c', b""),
            message(b'f', b"no\0"),
            message(b'F', b"\0\0\0\x01\0\0\0\0\0\0"),
            message(b'p', b"secret\0"),
        ];
        let mut random = StdRng::seed_from_u64(super::seed());
        let port = server.port;
        for _ in 0..400 {
            let mut bytes = if random.random_ratio(4, 5) { startup() } else { Vec::new() };
            for _ in 0..random.random_range(1..8) {
                bytes.extend_from_slice(&whole[random.random_range(0..whole.len())]);
            }
            for _ in 0..random.random_range(0..4) {
                let at = random.random_range(0..bytes.len());
                match random.random_range(0..4) {
                    0 => bytes.truncate(at + 1),
                    1 => bytes[at] = random.random(),
                    2 => bytes[at] ^= 1 << random.random_range(0..8),
                    _ => bytes.insert(at, random.random()),
                }
            }
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            // The server may have closed the connection by then.
            let _ = stream.write_all(&bytes);
            let _ = stream.read(&mut [0; 4096]);
        }
        assert!(server.child.try_wait().unwrap().is_none(), "the server ended");
        assert_eq!(server.sorted("SELECT id FROM t").await.unwrap(), [["7"]]);
        let again = server.connect().await;
        assert!(again.simple_query("SELECT id FROM t").await.is_ok());
    });
}
