//! Nexmark's queries, from Arrow batches in memory, on one Timely worker.
//!
//! ```text
//! cargo bench --bench nexmark -- [events] [checkpoint interval in ms]
//! ```
//!
//! The engine's own worker loop runs, driven by this program in the place of the coordinator. Rows
//! of append-only tables go in as a session's INSERT does, an epoch of [`EPOCH_EVENTS`] after the
//! other, [`EPOCHS_IN_FLIGHT`] at most under way. **Measured:** keeping the rows of the tables that
//! the query reads, the query's operators, keeping the view's rows. **Not measured:** generating
//! events. Durable state is written (to memory, on other threads) only if an interval is given.
//! Bars: q0, q1, q2 10 M rows/s.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use frazil::catalog::{Catalog, RelationId};
use frazil::config::Config;
use frazil::dataflow::{
    BACKFILL_EPOCHS, CatalogChange, CatalogChanges, CheckedRelation, Command, Event, ProcessShared,
    Report, Request, Step, run_worker,
};
use frazil::env::Env;
use frazil::sql::{self, Bound};
use frazil::state::{MemoryAccount, SnapshotStore};
use frazil_connector_api::{ChangeBatch, Decoded};
use frazil_generator::{NexmarkTable, nexmark_batches};
use object_store::memory::InMemory;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Events of all three kinds in an epoch.
const EPOCH_EVENTS: u64 = 100_000;
const EPOCHS_IN_FLIGHT: usize = 4;
/// Dataflows of a query, one after the other. The first touches memory that the kernel, and under
/// a virtual machine its host, has yet to give; an engine that has run for a while does not.
const ROUNDS: usize = 5;
/// Longest batch that is written at once; an epoch's bids are ten of them.
const BATCH_ROWS: usize = 9_200;

const PERSON: &str = "CREATE TABLE person (id BIGINT, name TEXT, email_address TEXT, \
    credit_card TEXT, city TEXT, state TEXT, date_time TIMESTAMP, extra TEXT) APPEND ONLY";
const AUCTION: &str = "CREATE TABLE auction (id BIGINT, item_name TEXT, description TEXT, \
    initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP, expires TIMESTAMP, seller BIGINT, \
    category BIGINT, extra TEXT) APPEND ONLY";
const BID: &str = "CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, \
    url TEXT, date_time TIMESTAMP, extra TEXT) APPEND ONLY";

/// Name, tables it reads, text.
const QUERIES: [(&str, &[NexmarkTable], &str); 8] = [
    ("q0", &[NexmarkTable::Bid], "SELECT auction, bidder, price, date_time FROM bid"),
    (
        "q1",
        &[NexmarkTable::Bid],
        "SELECT auction, bidder, 0.908 * price AS price, date_time FROM bid",
    ),
    ("q2", &[NexmarkTable::Bid], "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"),
    (
        "q3",
        &[NexmarkTable::Person, NexmarkTable::Auction],
        "SELECT p.name, p.city, p.state, a.id FROM auction AS a INNER JOIN person AS p \
         ON a.seller = p.id WHERE a.category = 10 \
         AND (p.state = 'or' OR p.state = 'id' OR p.state = 'ca')",
    ),
    (
        "q4",
        &[NexmarkTable::Auction, NexmarkTable::Bid],
        "SELECT q.category, avg(q.final) AS avg FROM ( \
         SELECT max(b.price) AS final, a.category FROM auction a, bid b WHERE a.id = b.auction \
         AND b.date_time BETWEEN a.date_time AND a.expires GROUP BY a.id, a.category) q \
         GROUP BY q.category",
    ),
    (
        "q7",
        &[NexmarkTable::Bid],
        "SELECT b.price, b.auction, b.bidder, b.date_time, w.ends FROM bid b JOIN ( \
         SELECT date_bin(INTERVAL '10 seconds', date_time) AS begins, \
         date_bin(INTERVAL '10 seconds', date_time) + INTERVAL '10 seconds' AS ends, \
         max(price) AS price FROM bid GROUP BY 1, 2) w \
         ON b.price = w.price WHERE b.date_time >= w.begins AND b.date_time < w.ends",
    ),
    (
        "q8",
        &[NexmarkTable::Person, NexmarkTable::Auction],
        "SELECT p.id, p.name, p.starttime FROM (SELECT id, name, \
         date_bin(INTERVAL '10 seconds', date_time) AS starttime FROM person GROUP BY 1, 2, 3) p \
         JOIN (SELECT seller, date_bin(INTERVAL '10 seconds', date_time) AS starttime \
         FROM auction GROUP BY 1, 2) a ON p.id = a.seller AND p.starttime = a.starttime",
    ),
    (
        "count",
        &[NexmarkTable::Bid],
        "SELECT bidder, auction, count(*) AS bids FROM bid GROUP BY bidder, auction",
    ),
];

fn statement(table: NexmarkTable) -> &'static str {
    match table {
        NexmarkTable::Person => PERSON,
        NexmarkTable::Auction => AUCTION,
        NexmarkTable::Bid => BID,
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Batches of a table by epoch.
type Epochs = Vec<Vec<RecordBatch>>;

fn generate(table: NexmarkTable, events: u64) -> Outcome<Epochs> {
    let share = match table {
        NexmarkTable::Person => EPOCH_EVENTS / 50,
        NexmarkTable::Auction => EPOCH_EVENTS / 50 * 3,
        NexmarkTable::Bid => EPOCH_EVENTS / 50 * 46,
    };
    let batch_rows = BATCH_ROWS.min(share as usize);
    let batches = nexmark_batches(table, events, batch_rows)?;
    Ok(batches.chunks(share as usize / batch_rows).map(<[RecordBatch]>::to_vec).collect())
}

/// One worker, and this program as its coordinator.
struct Dataflow {
    requests: Sender<Request>,
    worker: Thread,
    events: UnboundedReceiver<Event>,
    snapshots: Arc<SnapshotStore>,
    changes: Arc<CatalogChanges>,
    /// When each closed epoch got its first row.
    in_flight: BTreeMap<u64, Instant>,
    latencies: Vec<Duration>,
    has_checkpoint: bool,
    /// State of each fragment by operator.
    state: BTreeMap<RelationId, Vec<(String, u64)>>,
    open_epoch: u64,
    /// All relations: each takes part in every epoch.
    relations: Vec<RelationId>,
    /// Those that have caught up since the last epoch was closed.
    admitted: Vec<RelationId>,
}

impl Dataflow {
    fn start(tokio: Handle) -> Outcome<Self> {
        let (requests, taken) = channel();
        let (reports, events) = unbounded_channel();
        let memory = MemoryAccount::new(u64::MAX, u64::MAX);
        let snapshots = Arc::new(SnapshotStore::new(Arc::clone(&memory), false));
        let changes = Arc::new(CatalogChanges::new(1, None));
        let shared = Arc::new(ProcessShared {
            config: Config::default(),
            env: Env::real(Arc::new(InMemory::new()))?,
            snapshots: Arc::clone(&snapshots),
            memory,
            tokio,
            threads: 1,
            remote_rows: None,
            changes: Arc::clone(&changes),
            events: Some(reports),
        });
        let taken: Mutex<Option<Receiver<Request>>> = Mutex::new(Some(taken));
        let guards = timely::execute(timely::Config::process(1), move |worker| {
            let requests = taken.lock().ok().and_then(|mut taken| taken.take());
            run_worker(worker, Arc::clone(&shared), requests);
        })?;
        let worker = guards.guards()[0].thread().clone();
        // Dropping the guards would wait for the worker.
        std::mem::forget(guards);
        Ok(Self {
            requests,
            worker,
            events,
            snapshots,
            changes,
            in_flight: BTreeMap::new(),
            latencies: Vec::new(),
            has_checkpoint: false,
            state: BTreeMap::new(),
            open_epoch: 1,
            relations: Vec::new(),
            admitted: Vec::new(),
        })
    }

    fn request(&self, request: Request) -> Outcome<()> {
        self.requests.send(request)?;
        self.worker.unpark();
        Ok(())
    }

    /// Waits for one report and takes it; true if it was that statements are applied.
    fn take_report(&mut self) -> Outcome<bool> {
        match self.events.blocking_recv().ok_or("the worker has ended")? {
            Event::Report(_, Report::Applied { error }) => {
                return error.map_or(Ok(true), |error| Err(error.into()));
            }
            Event::Report(_, Report::EpochDone { epoch }) => {
                self.snapshots.finish(epoch);
                let start = self.in_flight.remove(&epoch).ok_or("an epoch that nobody closed")?;
                self.latencies.push(start.elapsed());
            }
            Event::Report(_, Report::CheckpointDone { outcome, .. }) => {
                self.has_checkpoint = false;
                outcome?;
            }
            Event::Report(_, Report::Progress(progress)) => {
                self.state.extend(progress.into_iter().map(|it| (it.relation, it.operator_bytes)));
            }
            Event::Report(_, Report::CaughtUp { relation }) => self.admitted.push(relation),
            Event::Report(_, Report::Failed { error, .. }) => return Err(error.into()),
            _ => {}
        }
        Ok(false)
    }

    fn apply(&mut self, made: CheckedRelation) -> Outcome<()> {
        let id = made.relation().id;
        let (number, epoch, starts) = (u64::from(id.0), self.open_epoch, BTreeMap::new());
        let change = Arc::new(CatalogChange { steps: vec![Step::Make(Arc::new(made))] });
        let steps = change.text();
        self.changes.put(number, change);
        let apply = Command::Apply { number, steps, epoch, recovery: None, starts };
        self.request(Request::Command(apply))?;
        self.open_epoch += BACKFILL_EPOCHS;
        self.relations.push(id);
        while !self.take_report()? {}
        while !self.admitted.contains(&id) {
            self.take_report()?;
        }
        Ok(())
    }

    fn close(&mut self, start: Instant, checkpoint: bool) -> Outcome<()> {
        let epoch = self.open_epoch;
        self.open_epoch += 1;
        let (touched, admitted) = (self.relations.clone(), std::mem::take(&mut self.admitted));
        let now_ms = 0;
        let close = Command::CloseEpoch { epoch, now_ms, checkpoint, touched, admitted };
        self.request(Request::Command(close))?;
        self.in_flight.insert(epoch, start);
        self.has_checkpoint |= checkpoint;
        while self.in_flight.len() >= EPOCHS_IN_FLIGHT {
            self.take_report()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Outcome<()> {
        while !self.in_flight.is_empty() || self.has_checkpoint {
            self.take_report()?;
        }
        Ok(())
    }

    /// State bytes of a fragment, as its next report says.
    fn state_bytes(&mut self, id: RelationId) -> Outcome<u64> {
        self.state.clear();
        loop {
            if let Some(operators) = self.state.get(&id) {
                return Ok(operators.iter().map(|(_, bytes)| bytes).sum());
            }
            self.take_report()?;
        }
    }
}

struct Figures {
    rows: usize,
    seconds: f64,
    p99_ms: f64,
    state_bytes: u64,
    row_count: usize,
}

impl Figures {
    fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds
    }
}

/// Runs one query over all epochs of the tables that it reads.
fn run(
    tokio: &Runtime,
    tables: &[NexmarkTable],
    query: &str,
    data: &BTreeMap<&str, Epochs>,
    checkpoint_interval: Option<Duration>,
) -> Outcome<Figures> {
    let mut dataflow = Dataflow::start(tokio.handle().clone())?;
    let mut catalog = Catalog::default();
    let mut inputs = Vec::new();
    let view = format!("CREATE MATERIALIZED VIEW result AS {query}");
    let texts = tables.iter().map(|table| statement(*table)).chain([view.as_str()]);
    let mut last = None;
    for text in texts {
        for parsed in sql::parse(text)? {
            let Bound::Create(new) = sql::bind(&catalog, &parsed)? else {
                return Err("not a CREATE".into());
            };
            let made = new.enter(&mut catalog, text)?.remove(0);
            let relation = Arc::clone(&made.relation);
            dataflow.apply(CheckedRelation::try_new(made)?)?;
            if let Some(epochs) = data.get(relation.name.as_str()) {
                inputs.push((relation.id, Arc::clone(&relation.schema), epochs));
            }
            last = Some(relation.id);
        }
    }
    let view = last.ok_or("no view")?;
    let mut rows = 0;
    let start = Instant::now();
    let mut checkpoint_at = start;
    let epochs = inputs.iter().map(|(_, _, epochs)| epochs.len()).max().unwrap_or(0);
    for index in 0..epochs {
        let epoch_start = Instant::now();
        for (id, schema, epochs) in &inputs {
            for batch in epochs.get(index).into_iter().flatten() {
                let batch = RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())?;
                rows += batch.num_rows();
                let changes = Decoded::Changes(ChangeBatch::inserts(batch));
                dataflow.request(Request::Write(*id, vec![changes]))?;
            }
        }
        let checkpoint = !dataflow.has_checkpoint
            && checkpoint_interval.is_some_and(|interval| checkpoint_at.elapsed() >= interval);
        if checkpoint {
            checkpoint_at = Instant::now();
        }
        dataflow.close(epoch_start, checkpoint)?;
    }
    dataflow.settle()?;
    let seconds = start.elapsed().as_secs_f64();
    let state_bytes = dataflow.state_bytes(view)?;
    let read = dataflow.snapshots.read();
    let shards = read.relations.get(&view).ok_or("the view has no snapshot")?;
    let row_count = shards.iter().map(|shard| shard.row_count()).sum();
    let mut latencies = std::mem::take(&mut dataflow.latencies);
    latencies.sort();
    let p99 = latencies[(latencies.len() * 99 / 100).min(latencies.len() - 1)];
    dataflow.request(Request::Command(Command::Shutdown))?;
    Ok(Figures { rows, seconds, p99_ms: p99.as_secs_f64() * 1e3, state_bytes, row_count })
}

#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
fn main() -> Outcome<()> {
    let numbers: Vec<u64> =
        std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let events = numbers.first().copied().unwrap_or(4_000_000).next_multiple_of(EPOCH_EVENTS);
    let interval = numbers.get(1).filter(|ms| **ms > 0).map(|ms| Duration::from_millis(*ms));
    let only: Vec<String> = std::env::args()
        .skip(1)
        .filter(|text| QUERIES.iter().any(|(name, ..)| name == text))
        .collect();
    let data = BTreeMap::from([
        ("person", generate(NexmarkTable::Person, events)?),
        ("auction", generate(NexmarkTable::Auction, events)?),
        ("bid", generate(NexmarkTable::Bid, events)?),
    ]);
    let durable = match interval {
        None => "no checkpoints".to_string(),
        Some(interval) => format!("a checkpoint each {} ms", interval.as_millis()),
    };
    println!(
        "nexmark, {events} events, 1 worker, {durable}, median of {ROUNDS} rounds\n\
         in: rows of the tables that the query reads, from memory into append-only tables; then \
         the query, then the view's rows\n\
         {:<6} {:>12} {:>8} {:>14} {:>14} {:>12} {:>12} {:>12}",
        "query",
        "rows in",
        "seconds",
        "rows/s a core",
        "first round",
        "p99 epoch ms",
        "state MB",
        "rows out"
    );
    let tokio = Runtime::new()?;
    for (name, tables, query) in QUERIES {
        if !only.is_empty() && !only.iter().any(|text| text == name) {
            continue;
        }
        let mut rounds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            rounds.push(run(&tokio, tables, query, &data, interval)?);
        }
        let first = rounds[0].rows_per_second();
        rounds.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        let figures = &rounds[ROUNDS / 2];
        println!(
            "{name:<6} {:>12} {:>8.2} {:>12.2} M {:>12.2} M {:>12.1} {:>12.1} {:>12}",
            figures.rows,
            figures.seconds,
            figures.rows_per_second() / 1e6,
            first / 1e6,
            figures.p99_ms,
            figures.state_bytes as f64 / 1e6,
            figures.row_count,
        );
    }
    Ok(())
}
