//! [`ShopStream`]: which message stands at which offset.

use super::event::{Event, Occurrence};
use super::message::Writer;
use super::row::{FIRST_STABLE_SLOT, RowMaker, RowState, chance};
use super::table::{BLOCK_ROWS, ShopTable};

/// Messages of a cycle.
const CYCLE: u64 = 100;
/// The slot whose row changes its primary key.
const RENUMBERED_SLOT: u64 = 6;
/// Added to a primary key when it changes.
const RENUMBERED_BY: i64 = 1_000_000_000_000;
/// Half of the updates hit rows of this many newest blocks.
const RECENT_BLOCKS: u64 = 16;

/// A place in the cycle.
#[derive(Debug, Clone, Copy)]
enum Step {
    Insert(u64),
    Update,
    Delete(u64),
    Tombstone(u64),
    RenumberDelete,
    RenumberTombstone,
    RenumberCreate,
}

/// One lane of a table's change stream. Lane `l` of `n` owns the blocks `l`, `l + n`, ….
#[derive(Debug, Clone)]
pub(crate) struct ShopStream {
    maker: RowMaker,
    lane: u64,
    lanes: u64,
    /// Blocks of this lane's snapshot, at least one.
    snapshot_blocks: u64,
    /// Each step with the number of rows that the cycle has inserted by then.
    steps: Vec<(Step, u64)>,
    writer: Writer,
}

impl ShopStream {
    pub(crate) fn new(table: ShopTable, seed: u64, scale: u64, lane: u64, lanes: u64) -> Self {
        let seed = chance(seed, table as u64, 0);
        let blocks = table.snapshot_blocks(scale);
        let snapshot_blocks = blocks / lanes + u64::from(blocks % lanes > lane);
        let maker = RowMaker { table, seed, scale };
        let writer = Writer::new(maker);
        Self { maker, lane, lanes, snapshot_blocks, steps: steps_of_cycle(), writer }
    }

    /// Writes message `at`; whether it has a value (a tombstone has none).
    pub(crate) fn write(&mut self, at: u64, key: &mut Vec<u8>, value: &mut Vec<u8>) -> bool {
        let occurrence = self.occurrence(at);
        self.writer.write(at, &occurrence, key, value)
    }

    /// What makes rows of this stream.
    pub(crate) fn maker(&self) -> &RowMaker {
        &self.maker
    }

    /// What message `at` says.
    pub(crate) fn occurrence(&self, at: u64) -> Occurrence {
        let snapshot_rows = self.snapshot_blocks * BLOCK_ROWS;
        if at >= snapshot_rows {
            return self.streamed(at, (at - snapshot_rows) / CYCLE, (at - snapshot_rows) % CYCLE);
        }
        let clock = self.maker.table.snapshot_blocks(self.maker.scale) * BLOCK_ROWS;
        let number = self.number(at / BLOCK_ROWS, at % BLOCK_ROWS);
        let row = RowState { number, id: number as i64 + 1, version: None, clock };
        let snapshot = match at {
            0 => "first",
            at if at + 1 == snapshot_rows => "last",
            _ => "true",
        };
        Occurrence { event: Event::Read(row), clock, snapshot }
    }

    fn streamed(&self, at: u64, cycle: u64, place: u64) -> Occurrence {
        let (step, inserted) = self.steps[place as usize];
        let newest = self.snapshot_blocks + cycle;
        let clock = self.number(newest, inserted - 1);
        let version = Some(chance(self.maker.seed ^ self.lane, at, 3));
        let row = |number: u64, version| RowState { number, id: number as i64 + 1, version, clock };
        let id = |slot| self.number(cycle, slot) as i64 + 1;
        let event = match step {
            Step::Insert(slot) => Event::Create(row(self.number(newest, slot), None)),
            Step::Update => Event::Update(row(self.updated(at, newest), version)),
            Step::Delete(slot) => Event::Delete { id: id(slot) },
            Step::Tombstone(slot) => Event::Tombstone { id: id(slot) },
            Step::RenumberDelete => Event::Delete { id: id(RENUMBERED_SLOT) },
            Step::RenumberTombstone => Event::Tombstone { id: id(RENUMBERED_SLOT) },
            Step::RenumberCreate => {
                let mut moved = row(self.number(cycle, RENUMBERED_SLOT), version);
                moved.id += RENUMBERED_BY;
                Event::Create(moved)
            }
        };
        Occurrence { event, clock, snapshot: "false" }
    }

    /// The row that the update at `at` hits: any that is never deleted, newer ones more often.
    fn updated(&self, at: u64, newest: u64) -> u64 {
        let draw = chance(self.maker.seed ^ self.lane, at, 4);
        let oldest = if draw & 1 == 0 { 0 } else { newest.saturating_sub(RECENT_BLOCKS) };
        let block = oldest + (draw >> 1) % (newest - oldest);
        let slots = BLOCK_ROWS - FIRST_STABLE_SLOT;
        self.number(block, FIRST_STABLE_SLOT + (draw >> 40) % slots)
    }

    /// A row's number in the table, from its place in this lane.
    fn number(&self, block: u64, slot: u64) -> u64 {
        (block * self.lanes + self.lane) * BLOCK_ROWS + slot
    }
}

/// Inserts and updates in turn, deletes in between, and one change of a primary key.
fn steps_of_cycle() -> Vec<(Step, u64)> {
    let mut steps = Vec::with_capacity(CYCLE as usize);
    for slot in 0..BLOCK_ROWS {
        let inserted = slot + 1;
        steps.push((Step::Insert(slot), inserted));
        steps.push((Step::Update, inserted));
        if slot % 6 == 5 {
            steps.push((Step::Delete(slot / 6), inserted));
            steps.push((Step::Tombstone(slot / 6), inserted));
        }
        if slot == 20 {
            steps.push((Step::RenumberDelete, inserted));
            steps.push((Step::RenumberTombstone, inserted));
            steps.push((Step::RenumberCreate, inserted));
        }
        if slot % 8 == 7 {
            steps.push((Step::Update, inserted));
        }
    }
    debug_assert_eq!(steps.len() as u64, CYCLE, "a cycle has as many steps as it says");
    steps
}

#[cfg(test)]
mod tests;
