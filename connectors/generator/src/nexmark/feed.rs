//! [`NexmarkFeed`]: batches of events, from any place on.

use ::nexmark::EventGenerator;
use ::nexmark::config::NexmarkConfig;
use arrow::array::RecordBatch;
use frazil_connector_api::{ChangeBatch, Result};

use super::columns::Events;
use super::projection::Projection;
use super::table::{NexmarkTable, nexmark_schema};

/// Time of the first event, 2015-07-15T00:00:00Z as in the first Nexmark; events follow each other
/// in 100 microseconds.
const BASE_TIME_MS: u64 = 1_436_918_400_000;

/// The events of one kind with the numbers `first`, `first + step`, ….
pub(crate) struct NexmarkFeed {
    generator: EventGenerator,
    projection: Projection,
}

impl NexmarkFeed {
    pub(crate) fn new(table: NexmarkTable, first: u64, step: u64, projection: Projection) -> Self {
        let config = NexmarkConfig { base_time: BASE_TIME_MS, ..NexmarkConfig::default() };
        let generator = EventGenerator::new(config)
            .with_type_filter(table.event_type())
            .with_offset(first)
            .with_step(step);
        Self { generator, projection }
    }

    /// The next `row_count` events.
    pub(crate) fn next_batch(&mut self, row_count: usize) -> Result<ChangeBatch> {
        let events = Events::collect(self.generator.by_ref().take(row_count));
        Ok(ChangeBatch::inserts(self.projection.apply(&events, row_count)?))
    }
}

/// All rows of a table among the first `events` events of all three kinds, in batches of
/// `batch_rows` (the last one may be shorter): input for benches.
///
/// # Errors
/// `Internal` only.
pub fn nexmark_batches(
    table: NexmarkTable,
    events: u64,
    batch_rows: usize,
) -> Result<Vec<RecordBatch>> {
    let projection = Projection::try_new(table, &nexmark_schema(table))?;
    let mut feed = NexmarkFeed::new(table, 0, 1, projection);
    let mut rest = usize::try_from(table.count(events)).unwrap_or(usize::MAX);
    let mut batches = Vec::new();
    while rest > 0 {
        let row_count = rest.min(batch_rows.max(1));
        batches.push(feed.next_batch(row_count)?.into_parts().0);
        rest -= row_count;
    }
    Ok(batches)
}
