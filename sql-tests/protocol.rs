//! What drivers send beside queries: prepared statements by name, cursors, COPY in both directions.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, TryStreamExt as _};
use tokio_postgres::types::Type;

use super::wire::{message, run, startup};
use super::{Server, SqlError};

/// A client that speaks in messages.
struct Raw(TcpStream);

impl Raw {
    fn new(server: &Server) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket.write_all(&startup()).unwrap();
        let mut raw = Self(socket);
        raw.read_until(b'Z');
        raw
    }

    fn send(&mut self, messages: &[Vec<u8>]) {
        self.0.write_all(&messages.concat()).unwrap();
    }

    /// The messages up to one with this tag.
    fn read_until(&mut self, last: u8) -> Vec<(char, Vec<u8>)> {
        let mut messages = Vec::new();
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut body = vec![0; length as usize - 4];
            self.0.read_exact(&mut body).unwrap();
            messages.push((char::from(head[0]), body));
            if head[0] == last {
                return messages;
            }
        }
    }

    /// What messages are answered with up to ReadyForQuery: tags, values of rows, codes of errors.
    fn ask(&mut self, messages: &[Vec<u8>]) -> Vec<String> {
        self.send(messages);
        self.read_until(b'Z').iter().map(|(tag, body)| shown(*tag, body)).collect()
    }

    fn query(&mut self, sql: &str) -> Vec<String> {
        self.ask(&[query(sql)])
    }
}

fn shown(tag: char, body: &[u8]) -> String {
    let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    match tag {
        'C' => text(&body[..body.len() - 1]),
        'Z' => format!("Z{}", char::from(body[0])),
        'E' => {
            let field =
                |letter: u8| body.split(|it| *it == 0).find(|it| it.first() == Some(&letter));
            let code = field(b'C').map_or(String::new(), |it| text(&it[1..]));
            match field(b'W') {
                Some(place) => format!("E{code} {}", text(&place[1..])),
                None => format!("E{code}"),
            }
        }
        'D' => {
            let (mut rest, mut values) = (&body[2..], Vec::new());
            while let Some((length, behind)) = rest.split_first_chunk::<4>() {
                let length = i32::from_be_bytes(*length).max(0) as usize;
                values.push(text(&behind[..length]));
                rest = &behind[length..];
            }
            format!("D{}", values.join(","))
        }
        other => other.to_string(),
    }
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

/// Binds values as text to the portal without a name.
fn bind(name: &str, values: &[&str]) -> Vec<u8> {
    let mut body = [b"\0", name.as_bytes(), b"\0\0\0"].concat();
    body.extend((values.len() as i16).to_be_bytes());
    for value in values {
        body.extend((value.len() as i32).to_be_bytes());
        body.extend(value.as_bytes());
    }
    body.extend([0, 0]);
    message(b'B', &body)
}

fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[&[kind], name.as_bytes(), b"\0"].concat())
}

fn execute() -> Vec<u8> {
    message(b'E', &[0, 0, 0, 0, 0])
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

#[test]
fn prepared_statements_have_one_space_of_names() {
    run(async {
        let server = Server::start().await;
        server.query("CREATE TABLE t (id INT PRIMARY KEY, a TEXT)").await.unwrap();
        let mut raw = Raw::new(&server);
        let answer = raw.query("PREPARE p (int, text) AS INSERT INTO t VALUES ($1, $2)");
        assert_eq!(answer, ["PREPARE", "ZI"]);
        let answer = raw.ask(&[describe(b'S', "p"), bind("p", &["1", "x"]), execute(), sync()]);
        assert_eq!(answer, ["t", "n", "2", "INSERT 0 1", "ZI"]);
        let answer = raw.ask(&[parse("q", "SELECT a FROM t WHERE id = $1"), sync()]);
        assert_eq!(answer, ["1", "ZI"]);
        assert_eq!(raw.query("EXECUTE q (1)"), ["T", "Dx", "SELECT 1", "ZI"]);
        // Through the extended protocol, EXECUTE has the columns of its statement.
        let all =
            [parse("", "EXECUTE q (1)"), describe(b'S', ""), bind("", &[]), execute(), sync()];
        assert_eq!(raw.ask(&all), ["1", "t", "T", "2", "Dx", "SELECT 1", "ZI"]);
        assert_eq!(raw.query("PREPARE q AS SELECT 1"), ["E42P05", "ZI"]);
        assert_eq!(raw.ask(&[parse("p", "SELECT 1"), sync()]), ["E42P05", "ZI"]);
        assert_eq!(raw.ask(&[parse("", "SELECT 1"), parse("", "SELECT 2"), sync()]).len(), 3);
        assert_eq!(raw.query("DEALLOCATE q"), ["DEALLOCATE", "ZI"]);
        assert_eq!(raw.ask(&[bind("q", &["1"]), sync()]), ["E26000", "ZI"]);
        let close = message(b'C', b"Sp\0");
        assert_eq!(raw.ask(&[close.clone(), close, sync()]), ["3", "3", "ZI"]);
        assert_eq!(raw.query("EXECUTE p (2, 'y')"), ["E26000", "ZI"]);
        // A statement of the protocol may be what EXECUTE does not run: itself, above all.
        assert_eq!(raw.ask(&[parse("own", "DEALLOCATE ALL"), sync()]), ["1", "ZI"]);
        assert_eq!(raw.query("EXECUTE own"), ["E0A000", "ZI"]);
        assert_eq!(raw.query("DISCARD ALL"), ["DISCARD ALL", "ZI"]);
        assert_eq!(raw.query("EXECUTE own"), ["E26000", "ZI"]);
    });
}

#[test]
fn cursors_give_rows_in_pieces() {
    run(async {
        let server = Server::start().await;
        let rows = "CREATE TABLE t (id INT PRIMARY KEY);
                    INSERT INTO t SELECT x FROM generate_series(1, 5000) AS g(x)";
        server.query(rows).await.unwrap();
        let mut raw = Raw::new(&server);
        // As psycopg2 sends it.
        assert_eq!(raw.query("BEGIN"), ["BEGIN", "ZT"]);
        let declare = "DECLARE \"x\" CURSOR WITHOUT HOLD FOR SELECT id FROM t ORDER BY id";
        assert_eq!(raw.query(declare), ["DECLARE CURSOR", "ZT"]);
        let answer = raw.query("FETCH FORWARD 2000 FROM \"x\"");
        assert_eq!(answer.len(), 2003);
        assert_eq!(answer[1999..], ["D1999", "D2000", "FETCH 2000", "ZT"]);
        assert_eq!(raw.query("MOVE 1000 IN x"), ["MOVE 1000", "ZT"]);
        // Drivers ask for the columns of a cursor by its name.
        assert_eq!(raw.ask(&[describe(b'P', "x"), sync()]), ["T", "ZT"]);
        let fetch = [parse("", "FETCH 2 x"), describe(b'S', ""), bind("", &[]), execute(), sync()];
        let answer = raw.ask(&fetch);
        assert_eq!(answer, ["1", "t", "T", "2", "D3001", "D3002", "FETCH 2", "ZT"]);
        assert_eq!(
            raw.query("FETCH ALL FROM x").last_chunk(),
            Some(&["FETCH 1998", "ZT"].map(String::from))
        );
        assert_eq!(raw.query("FETCH x"), ["T", "FETCH 0", "ZT"]);
        assert_eq!(raw.query("CLOSE x"), ["CLOSE CURSOR", "ZT"]);
        // Parameters come through the extended protocol, rows in binary if the cursor says so.
        let declare = "DECLARE b BINARY CURSOR FOR SELECT id FROM t WHERE id = $1";
        let all = [parse("", declare), describe(b'S', ""), bind("", &["65"]), execute(), sync()];
        assert_eq!(raw.ask(&all), ["1", "t", "n", "2", "DECLARE CURSOR", "ZT"]);
        assert_eq!(raw.query("FETCH b"), ["T", "D\0\0\0A", "FETCH 1", "ZT"]);
        assert_eq!(raw.query("FETCH PRIOR b"), ["E55000", "ZE"]);
        assert_eq!(raw.query("CLOSE b"), ["E25P02", "ZE"]);
        assert_eq!(raw.query("ROLLBACK"), ["ROLLBACK", "ZI"]);
        assert_eq!(raw.query("CLOSE b"), ["E34000", "ZI"]);
        assert_eq!(raw.ask(&[describe(b'P', "b"), sync()]), ["E34000", "ZI"]);
        assert_eq!(raw.query("CLOSE ALL"), ["CLOSE CURSOR ALL", "ZI"]);
        // A FETCH that was described for another cursor of the name.
        let declare = |columns: &str| {
            query(&format!("DECLARE h CURSOR WITH HOLD FOR SELECT {columns} FROM t ORDER BY id"))
        };
        assert_eq!(raw.ask(&[declare("id")]), ["DECLARE CURSOR", "ZI"]);
        assert_eq!(raw.ask(&[parse("f", "FETCH h"), sync()]), ["1", "ZI"]);
        let again = [bind("f", &[]), describe(b'P', ""), execute(), sync()];
        assert_eq!(raw.ask(&again), ["2", "T", "D1", "FETCH 1", "ZI"]);
        assert_eq!(raw.query("CLOSE h"), ["CLOSE CURSOR", "ZI"]);
        assert_eq!(raw.ask(&[declare("id, id AS b")]), ["DECLARE CURSOR", "ZI"]);
        assert_eq!(raw.ask(&again), ["2", "T", "E0A000", "ZI"]);
        // A second BEGIN does not forget what was written: ROLLBACK says that it is not undone.
        let answer = raw.query("BEGIN; DELETE FROM t WHERE id = -1; BEGIN; ROLLBACK");
        assert_eq!(answer, ["BEGIN", "DELETE 0", "N", "BEGIN", "N", "ROLLBACK", "ZI"]);
        // ROLLBACK TO leaves the transaction open.
        let answer = raw.query("BEGIN; SAVEPOINT s; SELECT 1 / 0");
        assert_eq!(answer, ["BEGIN", "SAVEPOINT", "E22012", "ZE"]);
        assert_eq!(raw.query("ROLLBACK TO s"), ["ROLLBACK", "ZT"]);
        assert_eq!(
            raw.ask(&[parse("", "COMMIT"), bind("", &[]), execute(), sync()]).last(),
            Some(&"ZI".to_string())
        );
    });
}

/// A cursor computes what is fetched and no more.
#[test]
fn a_cursor_over_endless_rows_gives_the_first() {
    run(async {
        let server = Server::start().await;
        let mut raw = Raw::new(&server);
        let declare = "DECLARE e CURSOR WITH HOLD FOR
                       SELECT x FROM generate_series(1, 1000000000000) AS g(x)";
        assert_eq!(raw.query(declare), ["DECLARE CURSOR", "ZI"]);
        assert_eq!(raw.query("FETCH 2 e"), ["T", "D1", "D2", "FETCH 2", "ZI"]);
        assert_eq!(raw.query("MOVE 100000 e"), ["MOVE 100000", "ZI"]);
        assert_eq!(raw.query("FETCH e"), ["T", "D100003", "FETCH 1", "ZI"]);
        assert_eq!(raw.query("SET statement_timeout = '200ms'"), ["SET", "ZI"]);
        let answer = raw.query("MOVE ALL e");
        assert_eq!(answer, ["E57014", "ZI"]);
        // What a cancelled FETCH has read is lost, so that nothing can follow it.
        assert_eq!(raw.query("FETCH e"), ["E55000", "ZI"]);
        assert_eq!(raw.query("CLOSE e"), ["CLOSE CURSOR", "ZI"]);
    });
}

/// Sends rows by a driver, in pieces; gives how many there were.
async fn load(server: &Server, sql: &str, pieces: &[&[u8]]) -> Result<u64, SqlError> {
    let sink = server.client.copy_in::<_, Bytes>(sql).await?;
    let mut sink = std::pin::pin!(sink);
    for piece in pieces {
        sink.send(Bytes::copy_from_slice(piece)).await?;
    }
    Ok(sink.finish().await?)
}

async fn refused(server: &Server, sql: &str, rows: &str) -> String {
    load(server, sql, &[rows.as_bytes()]).await.unwrap_err().to_string()
}

const TABLE: &str = "CREATE TABLE t (id INT PRIMARY KEY, b TEXT, n NUMERIC(10, 2), at TIMESTAMP,
                     day DATE NOT NULL, ok BOOLEAN, y BYTEA)";

#[test]
fn copy_reads_text_and_csv() {
    run(async {
        let server = Server::start().await;
        server.query(TABLE).await.unwrap();
        let rows: [&[u8]; 3] = [
            b"1\ta\\tb\t1.5\t2026-01-02 03:04:05+02\t2026-01-0",
            b"2\tt\t\\\\x00ff\n2\t\\N\t\\N\t\\N\t2026-02-03\t\\N\t\\N\n3\t\t-7\t2026-05",
            b"-06\t2026-05-06\tfalse\t\\\\x\n",
        ];
        assert_eq!(load(&server, "COPY t FROM STDIN", &rows).await.unwrap(), 3);
        let all = server.sorted("SELECT * FROM t").await.unwrap();
        let expected = [
            ["1", "a\tb", "1.50", "2026-01-02 03:04:05", "2026-01-02", "t", "\\x00ff"],
            ["2", "NULL", "NULL", "NULL", "2026-02-03", "NULL", "NULL"],
            ["3", "(empty)", "-7.00", "2026-05-06 00:00:00", "2026-05-06", "f", "\\x"],
        ];
        assert_eq!(all, expected);
        // Columns outside the list get their default, here NULL. A row with an existing key is replaced.
        let csv =
            "COPY t (day, b, id) FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';', NULL '-')";
        let rows = "day;b;id\r\n2027-01-01;\"x;\"\"y\"\"\";1\r\n2027-01-02;-;9";
        assert_eq!(load(&server, csv, &[rows.as_bytes()]).await.unwrap(), 2);
        let found = server.sorted("SELECT id, b, n FROM t WHERE day > '2026-12-31'").await.unwrap();
        assert_eq!(found, [["1", "x;\"y\"", "NULL"], ["9", "NULL", "NULL"]]);
        // The last of a key stays, as of several INSERTs.
        let old = "COPY t (id, b, day) FROM STDIN CSV QUOTE '''' ESCAPE '\\'";
        let rows = "1,'first',2026-01-01\n1,'it\\'s\nlast',2026-01-01\n";
        assert_eq!(load(&server, old, &[rows.as_bytes()]).await.unwrap(), 2);
        let found = server.sorted("SELECT b FROM t WHERE id = 1").await.unwrap();
        assert_eq!(found, [["it's\nlast"]]);
        assert_eq!(load(&server, "COPY t FROM STDIN", &[]).await.unwrap(), 0);
        // What COPY sends, COPY reads.
        let sent: Vec<Bytes> = server
            .client
            .copy_out("COPY (SELECT id + 100, b, n, at, day, ok, y FROM t) TO STDOUT")
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(sent.len(), 4, "a row is a message");
        assert_eq!(load(&server, "COPY t FROM STDIN", &[&sent.concat()]).await.unwrap(), 4);
        let pairs = "SELECT count(*) FROM t AS a JOIN t AS b ON b.id = a.id + 100
                     WHERE a.b IS NOT DISTINCT FROM b.b AND a.day = b.day
                       AND a.n IS NOT DISTINCT FROM b.n AND a.y IS NOT DISTINCT FROM b.y";
        assert_eq!(server.sorted(pairs).await.unwrap(), [["4"]]);
    });
}

#[test]
fn copy_writes_all_rows_or_none() {
    run(async {
        let server = Server::start().await;
        server.query("CREATE TABLE t (a INT PRIMARY KEY, b INT, c TEXT NOT NULL)").await.unwrap();
        let copy = "COPY t FROM STDIN";
        for (rows, code) in [
            ("1\t2\tx\n2\t3\ty\n3\tx\tz\n", "22P02"),
            ("1\t2\tx\n2\t99999999999\ty\n", "22003"),
            ("1\t2\tx\n2\t3\t\\N\n", "23502"),
            ("1\t2\tx\n2\t3\n", "22P04"),
            ("1\t2\tx\n2\t3\tx\ty\n", "22P04"),
            ("1\t2\t\\377\n", "22021"),
        ] {
            let error = refused(&server, copy, rows).await;
            assert!(error.starts_with(code), "{rows:?}: {error}");
            let answer = server.sorted("SELECT count(*) FROM t").await.unwrap();
            assert_eq!(answer, [["0"]], "{rows:?}");
        }
        // What fails before rows are asked for.
        let mut raw = Raw::new(&server);
        for (sql, code) in [
            ("COPY nothere FROM STDIN", "42P01"),
            ("COPY t (nope) FROM STDIN", "42703"),
            ("COPY t (a, a) FROM STDIN", "42701"),
            ("COPY t FROM STDIN (FORMAT xml)", "22023"),
            ("COPY t FROM STDIN (FORMAT binary, DELIMITER ';')", "42601"),
            ("COPY t FROM STDIN (DELIMITER 'a')", "22023"),
            ("COPY t FROM STDIN (QUOTE 'a')", "0A000"),
            ("COPY t FROM STDIN (FORMAT csv, DELIMITER ';', NULL ';')", "0A000"),
        ] {
            assert_eq!(raw.query(sql), [format!("E{code}").as_str(), "ZI"], "{sql}");
        }
        // A client that gives up, or goes away.
        raw.send(&[query(copy)]);
        assert_eq!(raw.read_until(b'G').len(), 1);
        let answer = raw.ask(&[message(b'd', b"1\t2\tx\n"), message(b'f', b"enough\0")]);
        assert_eq!(answer, ["E57014", "ZI"]);
        raw.send(&[query(copy)]);
        raw.read_until(b'G');
        raw.send(&[message(b'd', b"1\t2\tx\n")]);
        drop(raw);
        assert_eq!(server.sorted("SELECT count(*) FROM t").await.unwrap(), [["0"]]);
    });
}

#[test]
fn copy_in_a_simple_query_tells_where_it_fails() {
    run(async {
        let server = Server::start().await;
        server.query("CREATE TABLE t (a INT PRIMARY KEY, b INT NOT NULL)").await.unwrap();
        let mut raw = Raw::new(&server);
        let rows = |text: &str| message(b'd', text.as_bytes());
        let done = || message(b'c', b"");
        // The statements before and after the COPY run, and the transaction stays open.
        raw.send(&[query("BEGIN; COPY t FROM STDIN; SELECT count(*) FROM t")]);
        raw.read_until(b'G');
        let answer = raw.ask(&[rows("1\t2\n3"), rows("\t4\n"), done()]);
        assert_eq!(answer, ["COPY 2", "T", "D2", "SELECT 1", "ZT"]);
        raw.send(&[query("COPY t (a) FROM STDIN; SELECT 1")]);
        raw.read_until(b'G');
        assert_eq!(raw.ask(&[rows("5\n"), done()]), ["E23502 COPY t, line 1", "ZE"]);
        assert_eq!(raw.query("COPY t FROM STDIN"), ["E25P02", "ZE"]);
        // The notice says that the first COPY is not undone.
        assert_eq!(raw.query("COMMIT"), ["N", "ROLLBACK", "ZI"]);
        // The server discards the rows that follow an error.
        for (text, place) in [
            ("7\t8\n9\tx\n", "E22P02 COPY t, line 2, column b: \"x\""),
            ("7\t8\nx\ty\nz\t1\n", "E22P02 COPY t, line 2, column a: \"x\""),
            ("7\t8\n\n", "E22P04 COPY t, line 2: \"\""),
            ("7\t8\n9\t1\t2\n", "E22P04 COPY t, line 2: \"9\t1\t2\""),
        ] {
            raw.send(&[query("COPY t FROM STDIN")]);
            raw.read_until(b'G');
            let answer = raw.ask(&[rows(text), done(), query("SELECT count(*) FROM t")]);
            assert_eq!(answer.first().map(String::as_str), Some(place));
            if answer.len() == 2 {
                assert_eq!(raw.read_until(b'Z').len(), 4);
            }
        }
        assert_eq!(raw.query("SELECT count(*) FROM t"), ["T", "D2", "SELECT 1", "ZI"]);
        // The time of a statement is that of its rows, too.
        assert_eq!(raw.query("SET statement_timeout = '20ms'"), ["SET", "ZI"]);
        raw.send(&[query("COPY t FROM STDIN")]);
        raw.read_until(b'G');
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(raw.ask(&[rows("8\t8\n"), done()]), ["E57014", "ZI"]);
        assert_eq!(raw.query("RESET statement_timeout"), ["RESET", "ZI"]);
        // A place deep in rows that are cast together.
        let many: String = (10..5000).map(|a| format!("{a}\t{a}\n")).collect();
        raw.send(&[query("COPY t FROM STDIN")]);
        raw.read_until(b'G');
        let answer = raw.ask(&[rows(&many), rows("6000\t6e3\n"), rows(&many), done()]);
        assert_eq!(answer, ["E22P02 COPY t, line 4991, column b: \"6e3\"", "ZI"]);
    });
}

#[test]
fn copy_sends_and_reads_binary() {
    run(async {
        let server = Server::start().await;
        let rows = "CREATE TABLE t (id INT PRIMARY KEY, i2 SMALLINT, i8 BIGINT, f REAL, d FLOAT8,
                      n NUMERIC(10, 2), b BOOLEAN, x TEXT, y BYTEA, day DATE, at TIMESTAMP,
                      tz TIMESTAMPTZ);
                    CREATE TABLE u (id INT PRIMARY KEY, i2 SMALLINT, i8 BIGINT, f REAL, d FLOAT8,
                      n NUMERIC(10, 2), b BOOLEAN, x TEXT, y BYTEA, day DATE, at TIMESTAMP,
                      tz TIMESTAMPTZ);
                    INSERT INTO t (id) VALUES (1);
                    INSERT INTO t VALUES (2, -3, 4, 1.5, -2.25, '-12345.67', true, 'ä', '\\x00ff',
                      '1999-12-31', '2026-01-02 03:04:05.678', '1969-07-20 20:17:40+00')";
        server.query(rows).await.unwrap();
        let copy = "COPY (SELECT * FROM t ORDER BY id) TO STDOUT (FORMAT \"binary\")";
        let sent: Vec<Bytes> =
            server.client.copy_out(copy).await.unwrap().try_collect().await.unwrap();
        assert_eq!(sent.len(), 3, "a row is a message");
        assert!(sent[0].starts_with(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x0c"));
        assert_eq!(&sent[2][..], b"\xff\xff");
        let all = sent.concat();
        let pieces: Vec<&[u8]> = all.chunks(7).collect();
        assert_eq!(load(&server, "COPY u FROM STDIN BINARY", &pieces).await.unwrap(), 2);
        let both = "SELECT count(*) FROM (SELECT * FROM t INTERSECT SELECT * FROM u) AS x";
        assert_eq!(server.sorted(both).await.unwrap(), [["2"]]);
        // As a driver writes it.
        let sink = server.client.copy_in("COPY u (id, x, i8) FROM STDIN BINARY").await.unwrap();
        let types = [Type::INT4, Type::TEXT, Type::INT8];
        let writer = tokio_postgres::binary_copy::BinaryCopyInWriter::new(sink, &types);
        let mut writer = std::pin::pin!(writer);
        writer.as_mut().write(&[&7_i32, &"seven", &None::<i64>]).await.unwrap();
        writer.as_mut().write(&[&8_i32, &None::<&str>, &-8_i64]).await.unwrap();
        assert_eq!(writer.finish().await.unwrap(), 2);
        let found = server.sorted("SELECT id, x, i8 FROM u WHERE id > 5").await.unwrap();
        assert_eq!(found, [["7", "seven", "NULL"], ["8", "NULL", "-8"]]);
        let error = load(&server, "COPY u FROM STDIN BINARY", &[b"1\t2\n"]).await.unwrap_err();
        assert_eq!(error.code, "22P04");
        let error = load(&server, "COPY u FROM STDIN BINARY", &[&all[..40]]).await.unwrap_err();
        assert_eq!(error.code, "22P04");
        let empty = "COPY (SELECT * FROM t WHERE id < 0) TO STDOUT BINARY";
        let sent: Vec<Bytes> =
            server.client.copy_out(empty).await.unwrap().try_collect().await.unwrap();
        assert_eq!(sent.concat(), b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xff");
    });
}

/// What does not fit the memory of queries is refused, and nothing of it is written.
#[test]
fn a_copy_beyond_the_memory_of_queries_is_refused() {
    run(async {
        let server = Server::start_with("query_memory_bytes = 20000000").await;
        server.query("CREATE TABLE t (a INT PRIMARY KEY, b TEXT)").await.unwrap();
        let text = "x".repeat(1000);
        let rows: Vec<String> = (0..100)
            .map(|part| (0..1000).map(|row| format!("{}\t{text}\n", part * 1000 + row)).collect())
            .collect();
        let pieces: Vec<&[u8]> = rows.iter().map(String::as_bytes).collect();
        let error = load(&server, "COPY t FROM STDIN", &pieces).await.unwrap_err();
        assert_eq!(error.code, "53200");
        assert_eq!(server.sorted("SELECT count(*) FROM t").await.unwrap(), [["0"]]);
        assert_eq!(load(&server, "COPY t FROM STDIN", &pieces[..5]).await.unwrap(), 5000);
        assert_eq!(server.sorted("SELECT count(*) FROM t").await.unwrap(), [["5000"]]);
    });
}

#[test]
fn changed_settings_are_reported() {
    run(async {
        let server = Server::start().await;
        let mut raw = Raw::new(&server);
        assert_eq!(raw.query("SET application_name = 'a'"), ["S", "SET", "ZI"]);
        assert_eq!(raw.query("SET application_name = 'a'"), ["SET", "ZI"]);
        assert_eq!(raw.query("SET lock_timeout = 5"), ["SET", "ZI"]);
        assert_eq!(raw.query("BEGIN; SET LOCAL application_name = 'b'").len(), 4);
        assert_eq!(raw.query("COMMIT"), ["S", "COMMIT", "ZI"]);
        assert_eq!(raw.query("DISCARD ALL"), ["S", "DISCARD ALL", "ZI"]);
        // A notice says what has no effect.
        assert_eq!(raw.query("VACUUM"), ["N", "VACUUM", "ZI"]);
    });
}

#[test]
fn options_of_the_start_are_settings() {
    run(async {
        let server = Server::start().await;
        let connect = |options: &str| {
            let mut config = tokio_postgres::Config::new();
            config.host("127.0.0.1").port(server.port).user("root").dbname("dev").options(options);
            async move {
                let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
                tokio::spawn(connection);
                Ok::<_, tokio_postgres::Error>(client)
            }
        };
        let client = connect("-c statement_timeout=7s -c application_name=mine").await.unwrap();
        for reset in ["SET application_name = 'x'", "RESET ALL", "DISCARD ALL"] {
            client.batch_execute(reset).await.unwrap();
        }
        for (name, value) in [("statement_timeout", "7s"), ("application_name", "mine")] {
            let row = client.query_one(&format!("SHOW {name}"), &[]).await.unwrap();
            assert_eq!(row.get::<_, &str>(0), value);
        }
        for (wrong, code) in [("-c statement_timeout=soon", "22023"), ("--what", "42601")] {
            let error = connect(wrong).await.err().unwrap();
            assert_eq!(SqlError::from(error).code, code);
        }
    });
}
