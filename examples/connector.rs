//! A source of one's own: `connector = 'ticks'` counts, one row every so many milliseconds.
//!
//! `cargo run --example connector`

mod common;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use frazil::config::Config;
use frazil::env::Env;
use frazil::error::Result;
use frazil::job::Engine;
use frazil_connector_api::{
    self as api, ChangeBatch, ConnectorError, Connectors, Decoded, Format, OptionSpec, Options,
    Position, Positions, Source, SourceBatch, SourceConnector, SourcePoll, SourceReader, SplitId,
};
use object_store::memory::InMemory;

#[derive(Debug)]
struct Ticks;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::with_default("interval.ms", "1", "time between two rows"),
    OptionSpec::required("rows", "the stream ends after so many rows"),
];

impl SourceConnector for Ticks {
    fn name(&self) -> &str {
        "ticks"
    }

    fn options(&self) -> &[OptionSpec] {
        OPTIONS
    }

    fn build(
        &self,
        mut options: Options,
        schema: SchemaRef,
        format: Option<Arc<dyn Format>>,
    ) -> api::Result<Arc<dyn Source>> {
        options.take("connector");
        let interval = Duration::from_millis(options.parse("interval.ms", 1)?);
        let rows = options.parse("rows", 0)?;
        options.finish(OPTIONS)?;
        if format.is_some() {
            return Err(ConnectorError::config(
                "connector \"ticks\" makes rows and takes no FORMAT",
            ));
        }
        if schema.fields().len() != 1 || schema.field(0).data_type() != &DataType::Int64 {
            return Err(ConnectorError::config("ticks have one column, of type BIGINT"));
        }
        Ok(Arc::new(TickSource { interval, rows, schema }))
    }
}

#[derive(Debug, Clone)]
struct TickSource {
    interval: Duration,
    rows: i64,
    schema: SchemaRef,
}

impl Source for TickSource {
    /// One split. A source with several is read by several workers.
    fn splits(&self) -> api::Result<Vec<SplitId>> {
        Ok(vec![SplitId("all".to_string())])
    }

    /// What FLUSH waits for: here all rows, since they are known beforehand.
    fn end_positions(&self) -> api::Result<Option<Positions>> {
        Ok(Some([(SplitId("all".to_string()), Position::from(self.rows))].into()))
    }

    fn open(&self, splits: &Positions) -> api::Result<Box<dyn SourceReader>> {
        let next = splits.values().find_map(Position::number);
        Ok(Box::new(TickReader { source: self.clone(), next: next.unwrap_or(0) }))
    }
}

struct TickReader {
    source: TickSource,
    next: i64,
}

impl SourceReader for TickReader {
    /// What is read depends on the position alone: after a crash the engine opens the reader at the
    /// position of its last checkpoint and gets the same rows again.
    fn poll(&mut self, _rows_max: usize, _timeout: Duration) -> api::Result<SourcePoll> {
        if self.next == self.source.rows {
            return Ok(SourcePoll::End);
        }
        std::thread::sleep(self.source.interval);
        let column = Int64Array::from(vec![self.next]);
        let rows = RecordBatch::try_new(Arc::clone(&self.source.schema), vec![Arc::new(column)])?;
        self.next += 1;
        Ok(SourcePoll::Batch(SourceBatch {
            data: Decoded::Changes(ChangeBatch::inserts(rows)),
            bad: Vec::new(),
            schema_changes: Vec::new(),
            positions: [(SplitId("all".to_string()), Position::from(self.next))].into(),
            bytes: 8,
        }))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let connectors = Connectors::default().with_source(Arc::new(Ticks));
    let env = Env::real(Arc::new(InMemory::new()))?.with_connectors(connectors);
    let engine = Engine::open(Config { workers: 1, ..Config::default() }, env).await?;
    let script = "
        CREATE TABLE ticks (n BIGINT) APPEND ONLY WITH (connector = 'ticks', rows = 100);
        CREATE MATERIALIZED VIEW digits AS
            SELECT n % 10 AS digit, count(*) AS ticks FROM ticks GROUP BY n % 10;
        FLUSH;
        SELECT digit, ticks FROM digits ORDER BY digit";
    common::run(&engine, script).await?;
    engine.shutdown().await
}
