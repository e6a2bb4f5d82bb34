//! Times an upsert sink: `cargo run --release -p frazil-iceberg --example upsert_bench [keys]`.
//!
//! Input, seeded: `keys` inserts; then 10 checkpoints of `keys / 10` changes, 80 % of them updates
//! (a retraction and an insertion each), 10 % inserts, 10 % deletes, at random keys.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use frazil_connector_api::conformance::SinkRun;
use frazil_connector_api::{
    ChangeBatch, CheckpointNumber, CommitMark, Fence, LastCommit, Options, Resume, SinkMode,
};
use frazil_iceberg::build_iceberg_sink;
use uuid::Uuid;

const BATCH_ROWS: usize = 32_768;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("customer", DataType::Int64, true),
        Field::new("status", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

fn batch(ids: &[i64], round: i64) -> RecordBatch {
    let status = ids.iter().map(|id| ["new", "paid", "sent", "done"][(id + round) as usize % 4]);
    let note = ids.iter().map(|id| format!("order {id} in round {round}"));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.to_vec())),
        Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| id % 9973 + round))),
        Arc::new(StringArray::from_iter_values(status)),
        Arc::new(Float64Array::from_iter_values(ids.iter().map(|id| (id * round) as f64 / 8.0))),
        Arc::new(StringArray::from_iter_values(note)),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns fit the schema")
}

/// Same numbers at each run.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn sink(folder: &std::path::Path, version: &str) -> SinkRun {
    let text = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let options = Options::new([
        ("catalog.uri".to_string(), format!("sqlite://{}", text("catalog.db"))),
        ("warehouse.path".to_string(), text("lake")),
        ("database.name".to_string(), "bench".to_string()),
        ("table.name".to_string(), "orders".to_string()),
        ("create_table_if_not_exists".to_string(), "true".to_string()),
        ("format_version".to_string(), version.to_string()),
    ]);
    let mode = SinkMode::Upsert { key: vec![0] };
    let sink = build_iceberg_sink(options, schema(), mode.clone(), Uuid::from_u128(1));
    SinkRun::new(sink.expect("options are right"), &mode, 1)
}

/// The batches of one checkpoint; `live` are the keys that exist.
fn round(
    live: &mut Vec<i64>,
    next: &mut i64,
    seed: &mut u64,
    n: i64,
    keys: usize,
) -> Vec<ChangeBatch> {
    let (mut rows, mut weights) = (Vec::new(), Vec::new());
    let mut touched = std::collections::HashSet::new();
    for _ in 0..keys / 10 {
        let at = random(seed) as usize % live.len();
        match random(seed) % 10 {
            0 => {
                rows.push(*next);
                weights.push(1);
                live.push(*next);
                touched.insert(*next);
                *next += 1;
            }
            1 if touched.insert(live[at]) => {
                rows.push(live.swap_remove(at));
                weights.push(-1);
            }
            _ if touched.insert(live[at]) => {
                rows.extend([live[at]; 2]);
                weights.extend([-1, 1]);
            }
            _ => {}
        }
    }
    let batches = rows.chunks(BATCH_ROWS).zip(weights.chunks(BATCH_ROWS));
    let change = |(rows, weights): (&[i64], &[i64])| {
        ChangeBatch::try_new(batch(rows, n), Int64Array::from(weights.to_vec()))
            .expect("weights fit the rows")
    };
    batches.map(change).collect()
}

fn mark(checkpoint: u64) -> CommitMark {
    CommitMark { checkpoint: CheckpointNumber(checkpoint), fence: Fence(1), id: Uuid::new_v4() }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keys: usize = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    for version in ["3", "2"] {
        let folder = tempfile::tempdir()?;
        let mut writer = sink(folder.path(), version);
        writer.open(&Resume::default()).await?;
        let mut live: Vec<i64> = (0..keys as i64).collect();
        let mut last = LastCommit::None;
        let (mut next, mut seed) = (keys as i64, 0x5eed_u64);
        let batches: Vec<_> =
            live.chunks(BATCH_ROWS).map(|ids| ChangeBatch::inserts(batch(ids, 1))).collect();
        let start = Instant::now();
        for batch in batches {
            writer.write(batch).await?;
        }
        let first = writer.prepare(mark(1)).await?.ok_or("there are changes")?;
        let seconds = start.elapsed().as_secs_f64();
        println!("v{version} insert: {:.2} M rows/s", keys as f64 / seconds / 1e6);
        writer.commit(&first).await?;

        let (mut changes, mut rows, mut written, mut committed) = (0, 0, 0.0, Vec::new());
        for n in 2..12 {
            let batches = round(&mut live, &mut next, &mut seed, n, keys);
            let count: usize = batches.iter().map(ChangeBatch::num_rows).sum();
            rows += count;
            changes += keys / 10;
            let start = Instant::now();
            for batch in batches {
                writer.write(batch).await?;
            }
            let committable = writer.prepare(mark(n as u64)).await?.ok_or("there are changes")?;
            written += start.elapsed().as_secs_f64();
            let start = Instant::now();
            writer.commit(&committable).await?;
            last = LastCommit::Visible(committable.mark);
            committed.push(start.elapsed().as_secs_f64() * 1e3);
        }
        committed.sort_by(f64::total_cmp);
        println!(
            "v{version} 80 % updates: {:.2} M rows/s ({:.2} M keys/s); commit median {:.1} ms, \
             worst {:.1} ms",
            rows as f64 / written / 1e6,
            changes as f64 / written / 1e6,
            committed[committed.len() / 2],
            committed[committed.len() - 1],
        );
        let bytes = writer.status().state_bytes;
        drop(writer);
        let mut writer = sink(folder.path(), version);
        let start = Instant::now();
        writer.open(&Resume { is_new: false, fence: Fence(1), last }).await?;
        println!(
            "v{version} open with {} keys: {:.0} ms; index {:.1} MB",
            live.len(),
            start.elapsed().as_secs_f64() * 1e3,
            bytes as f64 / 1e6
        );
        assert_eq!(writer.status().row_count, Some(live.len() as u64));
    }
    Ok(())
}
