//! Debezium change events from a file into an upsert Iceberg table, through the whole engine.
//!
//! ```text
//! cargo bench --bench cdc_to_iceberg -- [keys] [workers]
//!
//! file of Debezium JSON lines ─► CREATE TABLE … FORMAT DEBEZIUM ─► CREATE SINK … iceberg (v3)
//! ```
//!
//! Five events a key, seeded: one creates it, four (80 %) are updates of random keys that exist.
//! **Measured:** from CREATE TABLE until everything is committed to the table. The **ceiling** of
//! the same run reads the same file and parses each envelope into a typed struct with serde_json,
//! on one thread, and does nothing with it. Bars: 40 % of the ceiling; with 1 M keys a restart
//! makes its first epoch within 2 s.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use frazil::config::Config;
use frazil::env::Env;
use frazil::job::{Engine, JobState};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const SEED: u64 = 42;
const EVENTS_A_KEY: u64 = 5;

/// Writes the events; gives the number of bytes.
fn generate(path: &Path, keys: u64) -> Outcome<u64> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut rng = SmallRng::seed_from_u64(SEED);
    for event in 0..keys * EVENTS_A_KEY {
        let created = event / EVENTS_A_KEY;
        let is_new = event.is_multiple_of(EVENTS_A_KEY);
        let id = if is_new { created } else { rng.random_range(0..=created) };
        let op = if is_new { "c" } else { "u" };
        let millis = 1_795_329_396_147 + event;
        writeln!(
            file,
            r#"{{"before":null,"after":{{"id":{id},"customer_id":{},"status":"{}","amount":"{}.{:02}","email":"customer{}@example.com","discount":0.{},"note":"left at the door, call before {}","updated_at":"2026-11-22T06:36:{:02}.{:06}Z"}},"source":{{"version":"3.6.3.Final","connector":"postgresql","name":"srv","ts_ms":{millis},"snapshot":"false","db":"db1","sequence":"[\"{event}\",\"{event}\"]","ts_us":{millis}820,"ts_ns":{millis}820000,"schema":"inv","table":"orders","txId":{event},"lsn":{event},"xmin":null,"origin":null,"origin_lsn":null}},"transaction":null,"op":"{op}","ts_ms":{millis},"ts_us":{millis}020,"ts_ns":{millis}020508}}"#,
            id * 7919 % 100_003,
            ["new", "paid", "shipped"][rng.random_range(0..3)],
            rng.random_range(1..300),
            rng.random_range(0..100),
            id % 5_000,
            rng.random_range(10..100),
            event % 24,
            event % 60,
            event * 31 % 1_000_000,
        )?;
    }
    file.flush()?;
    Ok(std::fs::metadata(path)?.len())
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    after: Option<Row<'a>>,
    op: &'a str,
}

#[derive(Deserialize)]
struct Row<'a> {
    id: i64,
    customer_id: i64,
    status: &'a str,
    amount: &'a str,
    email: &'a str,
    discount: f64,
    note: &'a str,
    updated_at: &'a str,
}

/// Reads and parses the file, and nothing else; gives the seconds.
fn ceiling(path: &Path, events: u64) -> Outcome<f64> {
    let start = Instant::now();
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let (mut line, mut count, mut sum) = (Vec::new(), 0, 0.0);
    while file.read_until(b'\n', &mut line)? > 0 {
        let envelope: Envelope<'_> = serde_json::from_slice(&line)?;
        if let Some(row) = envelope.after {
            let texts = [row.status, row.amount, row.email, row.note, row.updated_at, envelope.op];
            let bytes: usize = texts.iter().map(|text| text.len()).sum();
            sum += (row.id + row.customer_id) as f64 + row.discount + bytes as f64;
            count += 1;
        }
        line.clear();
    }
    std::hint::black_box(sum);
    assert_eq!(count, events, "every line is an event");
    Ok(start.elapsed().as_secs_f64())
}

async fn open(config: &Config) -> Outcome<Engine> {
    std::fs::create_dir_all(&config.data_dir)?;
    Ok(Engine::open(config.clone(), Env::local(&config.data_dir)?).await?)
}

/// Number and bytes of the files under a folder whose names end so.
fn files(folder: &Path, extension: &str) -> Outcome<(usize, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let (more, more_bytes) = files(&entry.path(), extension)?;
            count += more;
            bytes += more_bytes;
        } else if entry.path().extension().is_some_and(|found| found == extension) {
            count += 1;
            bytes += entry.metadata()?.len();
        }
    }
    Ok((count, bytes))
}

/// Most memory that this process ever had, in bytes.
fn memory_bytes_max() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 =
        line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no VmHWM")?.parse()?;
    Ok(kib * 1024)
}

/// Runs the engine until all is committed; gives seconds and the pauses between epochs.
async fn load(engine: &Engine, folder: &Path) -> Outcome<(f64, Vec<Duration>)> {
    let text = |name: &str| folder.join(name).display().to_string();
    let table = format!(
        "CREATE TABLE orders (id BIGINT PRIMARY KEY, customer_id BIGINT, status TEXT, \
         amount NUMERIC(12,2), email TEXT, discount DOUBLE PRECISION, note TEXT, \
         updated_at TIMESTAMPTZ) WITH (connector = 'files', path = '{}') \
         FORMAT DEBEZIUM ENCODE JSON (decimal.handling.mode = 'string')",
        text("events.jsonl")
    );
    let sink = format!(
        "CREATE SINK orders_lake FROM orders WITH (connector = 'iceberg', type = 'upsert', \
         primary_key = 'id', catalog.type = 'sql', catalog.uri = 'sqlite://{}', \
         warehouse.path = '{}', database.name = 'shop', table.name = 'orders', \
         create_table_if_not_exists = true, commit_interval = '1s')",
        text("catalog.db"),
        text("lake")
    );
    let start = Instant::now();
    engine.apply(&table).await?;
    engine.apply(&sink).await?;
    let (mut pauses, mut epoch, mut epoch_at) = (Vec::new(), engine.epoch(), Instant::now());
    let fatal = engine.fatal();
    while !engine.is_finished() {
        tokio::time::sleep(Duration::from_micros(500)).await;
        if engine.epoch() > epoch {
            epoch = engine.epoch();
            pauses.push(epoch_at.elapsed());
            epoch_at = Instant::now();
        }
        if let Some(error) = fatal.borrow().as_ref() {
            return Err(error.clone().into());
        }
    }
    Ok((start.elapsed().as_secs_f64(), pauses))
}

/// Seconds from opening the data directory to the engine and to its first new epoch.
async fn restart(config: &Config) -> Outcome<(Engine, f64, f64)> {
    let start = Instant::now();
    let engine = open(config).await?;
    let opened = start.elapsed().as_secs_f64();
    let recovered = engine.epoch();
    while engine.epoch() == recovered && start.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok((engine, opened, start.elapsed().as_secs_f64()))
}

fn check(engine: &Engine, keys: u64) -> Outcome<()> {
    for job in engine.jobs() {
        if let JobState::Failed { error } = &job.state {
            return Err(format!("{}: {error}", job.name).into());
        }
        if job.name == "orders" && job.row_count != Some(keys) {
            return Err(format!("the table has {:?} rows, not {keys}", job.row_count).into());
        }
        if let Some(sink) = &job.sink
            && sink.row_count != Some(keys)
        {
            return Err(format!("the lake has {:?} rows, not {keys}", sink.row_count).into());
        }
    }
    Ok(())
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
async fn main() -> Outcome<()> {
    let numbers: Vec<u64> =
        std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let keys = numbers.first().copied().unwrap_or(200_000);
    let workers = numbers.get(1).map_or(Ok(0), |workers| usize::try_from(*workers))?;
    let events = keys * EVENTS_A_KEY;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("events.jsonl");
    let bytes = generate(&path, keys)?;
    let config = Config { data_dir: folder.path().join("data"), workers, ..Config::default() };
    println!(
        "cdc_to_iceberg: {events} events, {keys} keys, {:.0} MB of Debezium JSON ({} bytes an event)",
        bytes as f64 / 1e6,
        bytes / events
    );
    let most = ceiling(&path, events)?;
    let engine = open(&config).await?;
    let (seconds, mut pauses) = load(&engine, folder.path()).await?;
    check(&engine, keys)?;
    pauses.sort();
    let p99 = pauses.get(pauses.len() * 99 / 100).copied().unwrap_or_default();
    let memory = memory_bytes_max()?;
    let rate = |seconds: f64| events as f64 / seconds / 1e3;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    println!("  ceiling    {:>9.0} k events/s ({:.0} MB/s)", rate(most), mb(bytes) / most);
    println!("  engine     {:>9.0} k events/s ({:.0} MB/s)", rate(seconds), mb(bytes) / seconds);
    println!("  ratio      {:>9.0} %", most / seconds * 100.0);
    println!(
        "  epochs     {:>9}   p99 between two {:.1} ms",
        pauses.len(),
        p99.as_secs_f64() * 1e3
    );
    println!("  memory     {:>9.0} MB at most", mb(memory));
    for (extension, what) in [("parquet", "data"), ("puffin", "deletion vectors")] {
        let (count, bytes) = files(&folder.path().join("lake"), extension)?;
        println!("  written    {:>9.1} MB in {count} files ({what})", mb(bytes));
    }
    let (_, state) = files(&config.data_dir, "seg")?;
    println!("  state      {:>9.1} MB on disk", mb(state));
    engine.shutdown().await?;
    drop(engine);
    let (engine, opened, first_epoch) = restart(&config).await?;
    println!("  restart    {first_epoch:>9.2} s to the first new epoch ({opened:.2} s to open)");
    check(&engine, keys)?;
    engine.shutdown().await?;
    Ok(())
}
