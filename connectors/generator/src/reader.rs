//! [`GeneratorReader`]: emits what is due.

use std::time::Duration;

use frazil_connector_api::{
    ConnectorError, Decoded, Intake, Message, Positions, Result, SourceBatch, SourcePoll,
    SourceReader, SplitId,
};

use crate::dataset::{Dataset, Lane};
use crate::nexmark::{NexmarkFeed, Projection};
use crate::pace::Pace;
use crate::shop::ShopStream;

/// Messages of one batch at most, however many are asked for.
const BATCH_MESSAGES_MAX: u64 = 65_536;

/// What makes a lane's messages.
pub(crate) enum Feed {
    Shop(ShopStream),
    Nexmark(Box<NexmarkFeed>),
}

impl Feed {
    pub(crate) fn shop(lane: Lane) -> Result<Self> {
        let Dataset::Shop { table, seed, scale } = lane.dataset else {
            return Err(ConnectorError::internal("a lane of another data set"));
        };
        Ok(Self::Shop(ShopStream::new(table, seed, scale, lane.lane, lane.lanes)))
    }

    pub(crate) fn nexmark(lane: Lane, at: u64, projection: Projection) -> Result<Self> {
        let Dataset::Nexmark { table } = lane.dataset else {
            return Err(ConnectorError::internal("a lane of another data set"));
        };
        let first = at.saturating_mul(lane.lanes).saturating_add(lane.lane);
        Ok(Self::Nexmark(Box::new(NexmarkFeed::new(table, first, lane.lanes, projection))))
    }
}

/// One split and its place.
pub(crate) struct LaneReader {
    split: SplitId,
    lane: Lane,
    at: u64,
    end: Option<u64>,
    /// Events of the whole data set that precede the first message to read.
    base: u64,
    feed: Feed,
}

impl LaneReader {
    pub(crate) fn new(split: SplitId, lane: Lane, at: u64, end: Option<u64>, feed: Feed) -> Self {
        Self { split, lane, at, end, base: lane.event_of(at), feed }
    }

    fn has_ended(&self) -> bool {
        self.end.is_some_and(|end| self.at >= end)
    }

    /// Messages that may be read now.
    fn due(&self, pace: &Pace) -> u64 {
        let due = self.lane.count(pace.due(self.base));
        due.min(self.end.unwrap_or(u64::MAX)).saturating_sub(self.at)
    }

    /// When the next message is due.
    fn due_at(&self, pace: &Pace) -> Duration {
        pace.due_at(self.base, self.lane.event_of(self.at).saturating_add(1))
    }
}

/// Reads lanes in turn, each batch from one of them.
pub(crate) struct GeneratorReader {
    lanes: Vec<LaneReader>,
    /// The lane whose turn it is.
    turn: usize,
    pace: Pace,
    intake: Option<Intake>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl GeneratorReader {
    pub(crate) fn new(lanes: Vec<LaneReader>, intake: Option<Intake>, rate: Option<f64>) -> Self {
        Self { lanes, turn: 0, pace: Pace::start(rate), intake, key: Vec::new(), value: Vec::new() }
    }

    /// A batch of the next lane that has something due.
    fn read_due(&mut self, rows_max: usize) -> Result<Option<SourceBatch>> {
        for _ in 0..self.lanes.len() {
            let index = self.turn;
            self.turn = (self.turn + 1) % self.lanes.len();
            let count = self.lanes[index].due(&self.pace);
            if count > 0 {
                let count = count.min(rows_max.max(1) as u64).min(BATCH_MESSAGES_MAX);
                return self.read(index, count).map(Some);
            }
        }
        Ok(None)
    }

    fn read(&mut self, index: usize, count: u64) -> Result<SourceBatch> {
        let lane = &mut self.lanes[index];
        let next = lane.at + count;
        let positions = Positions::from([(lane.split.clone(), offset_of(next)?.into())]);
        let batch = match (&mut lane.feed, &mut self.intake) {
            (Feed::Nexmark(feed), _) => {
                let rows = feed.next_batch(count as usize)?;
                let bytes = rows.rows().get_array_memory_size() as u64;
                SourceBatch {
                    data: Decoded::Changes(rows),
                    bad: Vec::new(),
                    schema_changes: Vec::new(),
                    positions,
                    bytes,
                }
            }
            (Feed::Shop(stream), Some(intake)) => {
                for at in lane.at..next {
                    let has_value = stream.write(at, &mut self.key, &mut self.value);
                    let value = has_value.then_some(self.value.as_slice());
                    let message = Message { key: Some(&self.key), value };
                    intake.push(&lane.split, offset_of(at)?, message)?;
                }
                intake.take(positions)?
            }
            (Feed::Shop(_), None) => {
                return Err(ConnectorError::internal("messages without a decoder"));
            }
        };
        lane.at = next;
        Ok(batch)
    }
}

fn offset_of(at: u64) -> Result<i64> {
    i64::try_from(at).map_err(|_| ConnectorError::internal("the offset is too large"))
}

impl SourceReader for GeneratorReader {
    fn poll(&mut self, rows_max: usize, timeout: Duration) -> Result<SourcePoll> {
        let deadline = self.pace.elapsed() + timeout;
        loop {
            if let Some(batch) = self.read_due(rows_max)? {
                return Ok(SourcePoll::Batch(batch));
            }
            let waiting = self.lanes.iter().filter(|lane| !lane.has_ended());
            let Some(next) = waiting.map(|lane| lane.due_at(&self.pace)).min() else {
                return Ok(SourcePoll::End);
            };
            if self.pace.elapsed() >= deadline {
                return Ok(SourcePoll::Idle);
            }
            self.pace.sleep_until(next.min(deadline));
        }
    }
}
