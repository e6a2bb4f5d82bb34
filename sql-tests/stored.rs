//! Data directories of every form that a released version has written open in this version.
//!
//! `sql-tests/stored/N` is a data directory whose manifest has version N, as a killed server left
//! it. `FRAZIL_WRITE_STORED=1 cargo test --test slt stored` writes that of this version; it is done
//! once, when the version of the manifest goes up.

use std::path::{Path, PathBuf};

use super::{Rows, Server};

/// Rows with NULLs, large texts, numbers of all widths, times, and keys of one and of two columns.
const TABLES: &str = "
    CREATE TABLE items (k BIGINT PRIMARY KEY, g INT, t TEXT, n NUMERIC(12,2), f DOUBLE PRECISION);
    CREATE TABLE parts (a INT, b TEXT, at TIMESTAMP, d DATE, y BYTEA, PRIMARY KEY (a, b));
    CREATE TABLE bag (a INT, t TEXT);
    CREATE TABLE log (a INT, ok BOOLEAN) APPEND ONLY;
    INSERT INTO items SELECT g, g % 5, repeat('x', (g % 40)::int), g * 1.25, g / 4.0
        FROM generate_series(1, 400) AS g;
    INSERT INTO items VALUES (1000, NULL, NULL, NULL, NULL);
    INSERT INTO parts SELECT g, 'b' || g, TIMESTAMP '2024-02-29 12:00:00', DATE '2024-02-29',
        '\\x00ff' FROM generate_series(1, 50) AS g;
    INSERT INTO bag VALUES (1, 'a'), (1, 'a'), (2, NULL), (NULL, NULL);
    INSERT INTO log SELECT g % 7, g % 2 = 0 FROM generate_series(1, 100) AS g;";

/// One of each operator; they are made when half of the rows are there.
const VIEWS: [(&str, &str); 10] = [
    ("filtered", "SELECT k, upper(t) AS t, n * 2 AS n2 FROM items WHERE g IS NOT NULL AND k > 10"),
    (
        "totals",
        "SELECT g, count(*) AS c, sum(n) AS s, min(t) AS a, max(f) AS b FROM items GROUP BY g",
    ),
    ("overall", "SELECT count(*) AS c, avg(n) AS a FROM items"),
    ("different", "SELECT DISTINCT g FROM items"),
    ("inner_join", "SELECT i.k, p.b, p.at FROM items AS i JOIN parts AS p ON i.k = p.a"),
    ("left_join", "SELECT i.k, p.b FROM items AS i LEFT JOIN parts AS p ON i.k = p.a"),
    ("logged", "SELECT l.a, i.k FROM log AS l JOIN items AS i ON l.a = i.g WHERE i.k < 20"),
    ("both", "SELECT a FROM bag UNION ALL SELECT a FROM log"),
    ("highest", "SELECT k, n FROM items ORDER BY n DESC NULLS LAST, k LIMIT 5"),
    ("nested", "SELECT c, count(*) AS groups FROM totals GROUP BY c"),
];

/// After the views: updates, deletes, keys that come back, and so many checkpoints that some are
/// merged.
const CHANGES: &str = "
    UPDATE items SET n = n + 1, t = NULL WHERE k % 3 = 0;
    DELETE FROM items WHERE k BETWEEN 100 AND 150;
    INSERT INTO items SELECT g, 9, 'again', 0, -0.5 FROM generate_series(120, 130) AS g;
    DELETE FROM parts WHERE a % 4 = 0;
    DELETE FROM bag WHERE a = 2;
    INSERT INTO log VALUES (3, NULL);";

/// What the tables hold then.
const TRUTH: [(&str, &str); 4] = [
    ("SELECT count(*), sum(k), sum(n), sum(length(t)), sum(f) FROM items", TRUTH_OF_ITEMS),
    ("SELECT count(*), sum(a), min(at), max(d), max(y) FROM parts", TRUTH_OF_PARTS),
    ("SELECT count(*), sum(a), count(t) FROM bag", "3|2|2"),
    ("SELECT count(*), sum(a), count(ok) FROM log", "101|300|100"),
];
const TRUTH_OF_ITEMS: &str = "361|76200|92397.25|4529|18450.75";
const TRUTH_OF_PARTS: &str = "38|963|2024-02-29 12:00:00|2024-02-29|\\x00ff";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sql-tests/stored")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        match from.is_dir() {
            true => copy(&from, &to.join(name)),
            false => drop(std::fs::copy(&from, to.join(name)).unwrap()),
        }
    }
}

async fn check_views(server: &Server) {
    for (name, query) in VIEWS {
        let kept = server.sorted(&format!("SELECT * FROM {name}")).await.unwrap();
        assert_eq!(kept, server.sorted(query).await.unwrap(), "{name}");
        assert!(!kept.is_empty(), "{name}");
    }
}

async fn check_tables(server: &Server) {
    for (query, truth) in TRUTH {
        let rows: Rows = server.sorted(query).await.unwrap();
        assert_eq!(rows[0].join("|"), truth, "{query}");
    }
}

/// Leaves no row, but objects of state: deltas of few rows lie in manifests.
const LARGE: &str = "
    INSERT INTO bag SELECT 100000 + g, repeat('y', 50) FROM generate_series(1, 3000) AS g;
    DELETE FROM bag WHERE a > 100000;";

/// Writes the data directory of this version.
async fn write() {
    let mut server = Server::start().await;
    server.query(TABLES).await.unwrap();
    for (name, query) in VIEWS {
        server.query(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).await.unwrap();
    }
    server.query(CHANGES).await.unwrap();
    server.query(LARGE).await.unwrap();
    for key in 0..6 {
        server.query(&format!("UPDATE items SET f = {key} WHERE k = 1")).await.unwrap();
    }
    server.query("UPDATE items SET f = 0.25 WHERE k = 1").await.unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let data = server.data_dir.path();
    let manifests = std::fs::read_dir(data.join("manifest")).unwrap();
    let newest = manifests.map(|entry| entry.unwrap().path()).max().unwrap();
    let text = String::from_utf8_lossy(&std::fs::read(&newest).unwrap()).into_owned();
    let version =
        text.split("\"version\":").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let to = folder().join(version);
    assert!(!to.exists(), "{} is there already", to.display());
    for part in ["fence", "manifest", "state"] {
        copy(&data.join(part), &to.join(part));
    }
}

#[tokio::test]
async fn data_directories_of_former_versions_open() {
    if std::env::var_os("FRAZIL_WRITE_STORED").is_some() {
        write().await;
    }
    let stored = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let stored: Vec<PathBuf> = stored.filter(|path| path.is_dir()).collect();
    assert!(!stored.is_empty(), "nothing is stored");
    for directory in stored {
        let mut server = Server::over(|data| copy(&directory, data)).await;
        check_tables(&server).await;
        check_views(&server).await;
        server
            .query("INSERT INTO items VALUES (7, 1, 'new', 3.5, 1), (5000, 77, 'n', 1, 1)")
            .await
            .unwrap();
        server.query("DELETE FROM parts WHERE a < 10").await.unwrap();
        check_views(&server).await;
        server.crash().await;
        check_views(&server).await;
    }
}
