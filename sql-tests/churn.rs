//! Tables, views, sources, sinks and keys come and go: a server holds afterwards what it held
//! before.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Server;

/// Rounds before the first look: buffers reach their size in them.
const FIRST_ROUNDS: usize = 2;
const ROUNDS: usize = 6;
/// Looks at the server until it holds what it held before.
const LOOKS: usize = 200;
const PAUSE: Duration = Duration::from_millis(100);

/// What a server holds.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    /// Bytes by owner, in memory and in scratch files.
    memory: BTreeMap<String, (u64, u64)>,
    /// Threads by name; those of pools come and go by themselves.
    threads: BTreeMap<String, usize>,
    files: usize,
    objects: usize,
    relations: String,
}

impl Held {
    async fn look(server: &Server) -> Self {
        let rows = server.query("SHOW MEMORY").await.unwrap().0.unwrap();
        let mut memory: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for row in rows.iter().filter(|row| row[0] != "NULL") {
            let sums = memory.entry(row[0].clone()).or_default();
            sums.0 += row[2].parse::<u64>().unwrap();
            sums.1 += row[3].parse::<u64>().unwrap();
        }
        let process = format!("/proc/{}", server.child.id());
        let mut threads: BTreeMap<String, usize> = BTreeMap::new();
        for thread in std::fs::read_dir(format!("{process}/task")).unwrap().flatten() {
            let name = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            let name = name.trim().to_string();
            if !name.is_empty() && !name.starts_with("tokio") && name != "frazil-query" {
                *threads.entry(name).or_default() += 1;
            }
        }
        let relations = server.sorted("SELECT name FROM frazil.relations").await.unwrap();
        Self {
            memory,
            threads,
            files: std::fs::read_dir(format!("{process}/fd")).unwrap().count(),
            objects: files(&server.data_dir.path().join("state")),
            relations: format!("{relations:?}"),
        }
    }

    /// A look when the readers of dropped sources have ended.
    async fn when_settled(server: &Server) -> Self {
        for _ in 0..LOOKS {
            let held = Self::look(server).await;
            if !held.threads.keys().any(|name| name.starts_with("frazil-source")) {
                return held;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("threads of dropped sources: {:?}", Self::look(server).await.threads);
    }

    /// Why this is more than there was before, if it is.
    fn surplus(&self, before: &Self) -> Option<String> {
        // What merges have not reached yet: a dozen objects for each table and worker.
        let is_more = |now: u64, then: u64, room: u64| now > then + then / 4 + room;
        for (owner, (memory, scratch)) in &self.memory {
            let then = before.memory.get(owner).copied();
            let Some(then) = then else { return Some(format!("memory of {owner}")) };
            // A key table may double once, and not with every round: it rehashes when places of
            // keys that are gone fill it. The keys of all rounds would take four times as much.
            if *memory > 2 * then.0 + 4096 || is_more(*scratch, then.1, 65536) {
                return Some(format!("{memory} and {scratch} bytes of {owner}, before {then:?}"));
            }
        }
        if self.threads != before.threads {
            return Some(format!("threads {:?}, before {:?}", self.threads, before.threads));
        }
        if is_more(self.files as u64, before.files as u64, 4) {
            return Some(format!("{} open files, before {}", self.files, before.files));
        }
        if is_more(self.objects as u64, before.objects as u64, 24) {
            return Some(format!("{} objects, before {}", self.objects, before.objects));
        }
        (self.relations != before.relations).then(|| self.relations.clone())
    }
}

fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let count = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => files(&path),
        _ => 1,
    };
    entries.flatten().map(count).sum()
}

/// One of everything, with rows, and keys of tables that stay; all of it goes again.
async fn round(server: &Server, number: usize, folder: &Path) {
    let place = folder.display();
    let lake = folder.join(format!("lake-{number}"));
    let lake = lake.display();
    let input = format!("connector = 'files', path = '{place}/*.jsonl', follow = 'true'");
    let first = number * 1000;
    let statements = [
        "CREATE TABLE c (k BIGINT PRIMARY KEY, a TEXT)".to_string(),
        "CREATE MATERIALIZED VIEW by_a AS SELECT a, count(*) AS n, max(k) AS m FROM c GROUP BY a"
            .into(),
        "CREATE MATERIALIZED VIEW joined AS SELECT c.k, c.a, t.a AS b FROM c \
         LEFT JOIN t ON c.k = t.k"
            .into(),
        format!("CREATE SOURCE s (k BIGINT, a TEXT) WITH ({input}) FORMAT PLAIN ENCODE JSON"),
        "CREATE MATERIALIZED VIEW of_s AS SELECT count(*) AS n FROM s".into(),
        format!(
            "CREATE TABLE f (k BIGINT PRIMARY KEY, a TEXT) WITH ({input}) FORMAT PLAIN ENCODE JSON"
        ),
        format!(
            "CREATE SINK out_of_c FROM joined WITH (connector = 'iceberg', type = 'upsert', \
             primary_key = 'k', catalog.type = 'sql', catalog.uri = 'sqlite://{lake}.db', \
             warehouse.path = '{lake}', database.name = 'd', table.name = 'x', \
             create_table_if_not_exists = 'true', commit_interval = '100ms')"
        ),
        format!(
            "INSERT INTO c SELECT v, 'a' || (v % 7) FROM generate_series({first}, {}) AS v",
            first + 999
        ),
        format!(
            "INSERT INTO t SELECT v, 'key-' || v FROM generate_series({first}, {}) AS v",
            first + 999
        ),
        "UPDATE c SET a = 'b' WHERE k % 3 = 0".into(),
        "FLUSH".into(),
        "SELECT count(*) FROM joined JOIN f ON joined.k = f.k".into(),
        format!("DELETE FROM t WHERE k >= {first}"),
        "FLUSH".into(),
        "DROP SINK out_of_c".into(),
        "DROP TABLE c CASCADE".into(),
        "DROP SOURCE s CASCADE".into(),
        "DROP TABLE f".into(),
    ];
    for sql in statements {
        server.query(&sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    }
}

#[test]
fn what_comes_and_goes_leaves_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let lines: String =
            (0..300).map(|key| format!("{{\"k\":{key},\"a\":\"text {key}\"}}\n")).collect();
        std::fs::write(folder.path().join("a.jsonl"), lines + "BROKEN\n").unwrap();
        // All rows are in scratch files.
        let server = Server::start_with("memory_soft_limit = 1").await;
        let tables = "CREATE TABLE t (k BIGINT PRIMARY KEY, a TEXT);
            CREATE MATERIALIZED VIEW n AS SELECT a, count(*) AS n FROM t GROUP BY a;
            INSERT INTO t SELECT -v, 'stays' FROM generate_series(1, 500) AS v";
        server.query(tables).await.unwrap();
        let mut before = None;
        for number in 0..FIRST_ROUNDS + ROUNDS {
            if number == FIRST_ROUNDS {
                before = Some(Held::when_settled(&server).await);
            }
            round(&server, number, folder.path()).await;
        }
        let before = before.unwrap();
        let mut surplus = None;
        for _ in 0..LOOKS {
            surplus = Held::look(&server).await.surplus(&before);
            if surplus.is_none() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        assert_eq!(surplus, None);
        // Scratch files have no names.
        assert_eq!(files(&server.data_dir.path().join("scratch")), 0);
        let rows = server.sorted("SELECT * FROM n").await.unwrap();
        assert_eq!(rows, [["stays", "500"]]);
    });
}
