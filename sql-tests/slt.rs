//! Runs `sql-tests/**/*.slt` three ways against the binary: as batch queries, as views that are
//! fed piece by piece, and as those views across a kill.
//!
//! `SEED=n` cuts the input in another way; a failure prints the seed. `SLT=text` runs only files
//! whose path holds the text.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test runner that tells its seed")]

mod churn;
mod protocol;
mod stored;
mod wire;

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqllogictest::{
    AsyncDB, DBOutput, DefaultColumnType, Record, Runner, StatementExpect, parse_file,
};
use tokio_postgres::types::Type;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Looks at the port of a starting server.
const START_TRIES: usize = 600;
const START_PAUSE: Duration = Duration::from_millis(50);

/// An error with its SQLSTATE in front, for `statement error 42P01`.
#[derive(Debug)]
struct SqlError {
    code: String,
    message: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for SqlError {}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(told) => {
                Self { code: told.code().code().to_string(), message: told.message().to_string() }
            }
            None => Self { code: "08006".to_string(), message: error.to_string() },
        }
    }
}

type Rows = Vec<Vec<String>>;

/// A server process and a client of it.
struct Server {
    child: Child,
    data_dir: tempfile::TempDir,
    port: u16,
    client: tokio_postgres::Client,
}

impl Server {
    async fn start() -> Self {
        Self::start_with("").await
    }

    /// A server with settings in TOML.
    async fn start_with(settings: &str) -> Self {
        let write = |data: &Path| std::fs::write(data.join("frazil.toml"), settings).unwrap();
        Self::over(write).await
    }

    /// A server over a data directory that is filled first.
    async fn over(fill: impl FnOnce(&Path)) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        fill(data_dir.path());
        let (child, port, client) = Self::spawn(data_dir.path()).await;
        Self { child, data_dir, port, client }
    }

    /// Another client of the same server.
    async fn connect(&self) -> tokio_postgres::Client {
        let address = format!("host=127.0.0.1 port={} user=root dbname=dev", self.port);
        let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn spawn(data_dir: &Path) -> (Child, u16, tokio_postgres::Client) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_frazil"));
        command
            .args(["serve", "--workers", "2", "--checkpoint-interval-ms", "20", "--data-dir"])
            .arg(data_dir);
        let config = data_dir.join("frazil.toml");
        if config.exists() {
            command.arg("--config").arg(config);
        }
        let mut child = command
            .args(["--pg-listen", &format!("127.0.0.1:{port}")])
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("host=127.0.0.1 port={port} user=root dbname=dev");
        for _ in 0..START_TRIES {
            if let Ok((client, connection)) = tokio_postgres::connect(&address, NoTls).await {
                tokio::spawn(connection);
                return (child, port, client);
            }
            assert!(child.try_wait().unwrap().is_none(), "the server ended at its start");
            tokio::time::sleep(START_PAUSE).await;
        }
        child.kill().unwrap();
        panic!("the server did not answer");
    }

    /// SIGKILL, and a new process over the same data.
    async fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let (child, port, client) = Self::spawn(self.data_dir.path()).await;
        (self.child, self.port, self.client) = (child, port, client);
    }

    async fn query(&self, sql: &str) -> Result<(Option<Rows>, u64), SqlError> {
        let (mut rows, mut count) = (None, 0);
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(_) => rows = Some(Rows::new()),
                SimpleQueryMessage::Row(row) => {
                    let value = |at| match row.get(at) {
                        None => "NULL".to_string(),
                        Some("") => "(empty)".to_string(),
                        Some(text) => text.to_string(),
                    };
                    rows.get_or_insert_default().push((0..row.len()).map(value).collect());
                }
                SimpleQueryMessage::CommandComplete(done) => count = done,
                _ => {}
            }
        }
        Ok((rows, count))
    }

    async fn sorted(&self, sql: &str) -> Result<Rows, SqlError> {
        let mut rows = self.query(sql).await?.0.unwrap_or_default();
        rows.sort();
        Ok(rows)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[async_trait::async_trait]
impl AsyncDB for Server {
    type Error = SqlError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, SqlError> {
        Ok(match self.query(sql).await? {
            (Some(rows), _) => {
                let width = rows.first().map_or(0, Vec::len);
                DBOutput::Rows { types: vec![DefaultColumnType::Any; width], rows }
            }
            (None, count) => DBOutput::StatementComplete(count),
        })
    }

    async fn shutdown(&mut self) {}
}

fn files() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "slt") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sql-tests"), &mut found);
    found.sort();
    if let Ok(wanted) = std::env::var("SLT") {
        found.retain(|path| path.to_string_lossy().contains(&wanted));
    }
    assert!(!found.is_empty(), "there is nothing to run");
    found
}

fn seed() -> u64 {
    std::env::var("SEED").ok().map_or(1, |seed| seed.parse().expect("SEED is a number"))
}

/// What a file asks, in order.
enum Step {
    Create(String),
    Other(String),
    /// A SELECT whose rows are compared, and after which step its view can be made; none if a
    /// DROP comes between.
    Query {
        sql: String,
        made_after: Option<usize>,
    },
}

fn steps(file: &Path) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut last_create = None;
    for record in parse_file::<DefaultColumnType>(file).unwrap() {
        match record {
            Record::Statement { sql, expected, .. } => {
                let words = sql.trim_start().to_lowercase();
                let fails = matches!(expected, StatementExpect::Error(_));
                if words.starts_with("create") && !fails {
                    last_create = Some(steps.len());
                    steps.push(Step::Create(sql));
                } else {
                    if words.starts_with("drop") {
                        last_create = None;
                    }
                    steps.push(Step::Other(sql));
                }
            }
            Record::Query { sql, .. } => {
                let text = sql.trim_start().to_lowercase();
                // The catalog of a session is no relation that a view could follow.
                let own = text.contains("pg_catalog") || text.contains("current_schema");
                if (text.starts_with("select") || text.starts_with("with")) && !own {
                    steps.push(Step::Query { sql, made_after: last_create });
                }
            }
            _ => {}
        }
    }
    steps
}

/// `INSERT … VALUES (…), (…)` cut at random into INSERTs that together do the same.
fn pieces(sql: &str, random: &mut StdRng) -> Vec<String> {
    let Some(at) = sql.to_lowercase().find("values") else { return vec![sql.to_string()] };
    if !sql.trim_start().to_lowercase().starts_with("insert") {
        return vec![sql.to_string()];
    }
    let (head, tail) = sql.split_at(at + "values".len());
    let (mut tuples, mut depth, mut quoted) = (vec![String::new()], 0, false);
    for letter in tail.chars() {
        quoted ^= letter == '\'';
        match letter {
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                tuples.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(tuple) = tuples.last_mut() {
            tuple.push(letter);
        }
    }
    let mut pieces: Vec<String> = Vec::new();
    for tuple in tuples {
        match pieces.last_mut() {
            Some(piece) if random.random_bool(0.5) => *piece += &format!(", {tuple}"),
            _ => pieces.push(format!("{head} {tuple}")),
        }
    }
    pieces
}

/// How a file went as views.
#[derive(Default)]
struct Tally {
    compared: usize,
    refused: usize,
}

/// Makes every query of the file a view before the data comes, feeds the data in random pieces,
/// and compares each view with its query. Kills the server after step `crash_after`.
async fn run_as_views(
    file: &Path,
    random: &mut StdRng,
    crash_after: Option<usize>,
) -> Result<Tally, String> {
    let steps = steps(file);
    // Across a kill all rows are in scratch files as well, which must not tell.
    let settings = if crash_after.is_some() { "memory_soft_limit = 1" } else { "" };
    let mut server = Server::start_with(settings).await;
    let mut viewed = vec![false; steps.len()];
    let mut tally = Tally::default();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Create(sql) => {
                server.query(sql).await.map_err(|error| format!("{sql}\n{error}"))?;
                for (index, other) in steps.iter().enumerate() {
                    let Step::Query { sql, made_after } = other else { continue };
                    if *made_after != Some(at) {
                        continue;
                    }
                    let create = format!("CREATE MATERIALIZED VIEW slt_view_{index} AS {sql}");
                    match server.query(&create).await {
                        Ok(_) => viewed[index] = true,
                        // Refused as a view, or with columns that only a query may have twice.
                        Err(error) if error.code == "0A000" || error.code == "42701" => {
                            tally.refused += 1;
                        }
                        // The catalog's functions and tables are there for queries only.
                        Err(error)
                            if matches!(error.code.as_str(), "42883" | "42P01")
                                && (sql.contains("version()") || sql.contains("frazil.")) =>
                        {
                            tally.refused += 1;
                        }
                        Err(error) => return Err(format!("{create}\n{error}")),
                    }
                }
            }
            Step::Other(sql) => {
                for piece in pieces(sql, random) {
                    // Whether it should fail is for the batch run to tell.
                    let _ = server.query(&piece).await;
                }
            }
            Step::Query { sql, .. } if viewed[at] => {
                let told = |error: SqlError| format!("{sql}\n{error}");
                let batch = server.sorted(sql).await.map_err(told)?;
                let view = format!("SELECT * FROM slt_view_{at}");
                let view = server.sorted(&view).await.map_err(told)?;
                if batch != view {
                    return Err(format!("{sql}\nbatch: {batch:?}\nview:  {view:?}"));
                }
                tally.compared += 1;
            }
            Step::Query { .. } => {}
        }
        if crash_after == Some(at) {
            server.crash().await;
        }
    }
    Ok(tally)
}

fn run_all_as_views(crashes: bool) {
    let seed = seed();
    println!("SEED={seed}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut failures, mut sum) = (Vec::new(), Tally::default());
    for (number, file) in files().into_iter().enumerate() {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
        let crash_after = crashes.then(|| random.random_range(0..steps(&file).len().max(1)));
        match runtime.block_on(run_as_views(&file, &mut random, crash_after)) {
            Ok(tally) => {
                sum.compared += tally.compared;
                sum.refused += tally.refused;
            }
            Err(error) => {
                failures.push(format!("{} (kill: {crash_after:?})\n{error}", file.display()))
            }
        }
    }
    println!("views equal to their queries: {}, refused as views: {}", sum.compared, sum.refused);
    assert!(failures.is_empty(), "SEED={seed}\n{}", failures.join("\n\n"));
    assert!(sum.compared > 0 || std::env::var("SLT").is_ok(), "no view was compared");
}

#[test]
fn queries_give_what_the_files_say() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut failures = Vec::new();
    for file in files() {
        let result = runtime.block_on(async {
            let mut runner = Runner::new(|| async { Ok(Server::start().await) });
            runner.run_file_async(&file).await
        });
        if let Err(error) = result {
            failures.push(format!("{}\n{}", file.display(), error.display(false)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn views_fed_in_pieces_equal_their_queries() {
    run_all_as_views(false);
}

#[test]
fn views_equal_their_queries_across_a_kill() {
    run_all_as_views(true);
}

/// What a Rust client does: statements prepared once, parameters and results in binary.
async fn speak_extended_protocol(
    client: &tokio_postgres::Client,
) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(
            "CREATE TABLE people (id BIGINT PRIMARY KEY, name TEXT, height DOUBLE PRECISION);
             CREATE MATERIALIZED VIEW tall AS SELECT id, name FROM people WHERE height > 1.8",
        )
        .await?;
    let insert = client.prepare("INSERT INTO people VALUES ($1, $2, $3)").await?;
    assert_eq!(client.execute(&insert, &[&1_i64, &"Ada", &1.9_f64]).await?, 1);
    assert_eq!(client.execute(&insert, &[&2_i64, &None::<&str>, &2.0_f64]).await?, 1);
    assert_eq!(client.execute(&insert, &[&3_i64, &"Bo", &1.7_f64]).await?, 1);
    let rows =
        client.query("SELECT id, name FROM tall WHERE id <= $1 ORDER BY id", &[&3_i64]).await?;
    let found: Vec<(i64, Option<&str>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(found, [(1, Some("Ada")), (2, None)]);
    let error = client.query("SELECT nope FROM people", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42703");
    assert_eq!(client.query("SELECT 1::bigint", &[]).await?.len(), 1);
    // A value of the client's own type is not bent to the column's.
    let below =
        client.prepare_typed("SELECT id FROM people WHERE id < $1", &[Type::FLOAT8]).await?;
    assert_eq!(client.query(&below, &[&2.5_f64]).await?.len(), 2);
    let below = client.prepare_typed("SELECT id FROM people WHERE id < $1", &[Type::INT2]).await?;
    assert_eq!(client.query(&below, &[&2_i16]).await?.len(), 1);
    // Types that the statement tells itself.
    let page = "SELECT id FROM people WHERE id > $1::int OR id = ANY($2::bigint[]) \
                ORDER BY id LIMIT $3";
    let page = client.prepare(page).await?;
    assert_eq!(page.params(), [Type::INT4, Type::INT8_ARRAY, Type::INT8]);
    let rows = client.query(&page, &[&2_i32, &vec![1_i64, 9], &5_i64]).await?;
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1, 3]);
    let named =
        "SELECT id FROM people WHERE name = ANY($1) OR coalesce(name, $2) = 'nobody' ORDER BY id";
    let named = client.prepare(named).await?;
    assert_eq!(named.params(), [Type::TEXT_ARRAY, Type::TEXT]);
    let rows = client.query(&named, &[&vec!["Ada", "a,\"b"], &"nobody"]).await?;
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1, 2]);
    assert!(client.query(&named, &[&Vec::<&str>::new(), &"x"]).await?.is_empty());
    // NULLs of unknown type keep their places.
    let nulls = "SELECT $1::bigint, $2::text, $3::bigint";
    let nulls = client.prepare_typed(nulls, &[Type::INT8, Type::UNKNOWN, Type::INT8]).await?;
    let row = client.query_one(&nulls, &[&None::<i64>, &None::<&str>, &7_i64]).await?;
    assert_eq!((row.get(0), row.get(1), row.get(2)), (None::<i64>, None::<&str>, Some(7_i64)));
    Ok(())
}

#[test]
fn a_client_speaks_the_extended_protocol() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = Server::start().await;
        speak_extended_protocol(&server.client).await.unwrap();
    });
}

/// What `COPY … TO STDOUT` sends, as text.
async fn try_copied(server: &Server, sql: &str) -> Result<String, SqlError> {
    use futures::TryStreamExt as _;
    let chunks: Vec<bytes::Bytes> = server.client.copy_out(sql).await?.try_collect().await?;
    Ok(String::from_utf8(chunks.concat()).unwrap())
}

async fn copied(server: &Server, sql: &str) -> String {
    try_copied(server, sql).await.unwrap()
}

#[test]
fn copy_sends_text_and_csv() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = Server::start().await;
        let rows = "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT);
             INSERT INTO t VALUES (1, 'a,b'), (2, NULL), (3, '')";
        server.query(rows).await.unwrap();
        let mut lines: Vec<String> =
            copied(&server, "COPY t TO STDOUT").await.lines().map(str::to_string).collect();
        lines.sort();
        assert_eq!(lines, ["1\ta,b", "2\t\\N", "3\t"]);
        let csv = "COPY (SELECT name, id FROM t ORDER BY id DESC) TO STDOUT WITH CSV HEADER";
        assert_eq!(copied(&server, csv).await, "name,id\n\"\",3\n,2\n\"a,b\",1\n");
        let options = "COPY (SELECT * FROM t WHERE id < 3 ORDER BY id) TO STDOUT \
                       WITH (FORMAT csv, DELIMITER ';', NULL '-')";
        assert_eq!(copied(&server, options).await, "1;a,b\n2;-\n");
        // What fails on the way is an error, and the connection goes on.
        let failing = "COPY (SELECT 1 / (id - 1) FROM t) TO STDOUT";
        assert_eq!(try_copied(&server, failing).await.unwrap_err().code, "22012");
        assert_eq!(copied(&server, "COPY t (id) TO STDOUT").await.lines().count(), 3);
    });
}

/// The questions that psql's backslash commands ask, as `psql -E` shows them, each with the number
/// of rows of its answer.
#[test]
fn psql_gets_answers_to_its_backslash_commands() {
    let recorded = include_str!("clients/psql15.sql");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let failures = runtime.block_on(async {
        let server = Server::start().await;
        server.query(include_str!("clients/setup.sql")).await.unwrap();
        let mut failures = Vec::new();
        for question in recorded.split("\n-- ").filter(|question| !question.trim().is_empty()) {
            let (command, sql) = question.split_once('\n').unwrap();
            let (command, expected) = command.rsplit_once(": ").unwrap();
            match server.query(sql).await {
                Ok((rows, _)) => {
                    let rows = rows.unwrap_or_default().len();
                    if rows.to_string() != expected.trim_end_matches(" rows") {
                        failures.push(format!("{command}: {rows} instead of {expected}\n{sql}"));
                    }
                }
                Err(error) => failures.push(format!("{command}: {error}\n{sql}")),
            }
        }
        failures
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
