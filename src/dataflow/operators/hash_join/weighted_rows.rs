//! [`WeightedRows`]: finds the entry of a row, where the rows themselves are kept elsewhere.

use std::ops::Range;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take_arrays;
use hashbrown::{HashMap, HashTable};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::change::{equal_rows, mix};
use crate::env::Scratch;
use crate::error::{Error, Result};
use crate::state::{Location, RowNumber, Segments, SlotColumn};

/// What is kept of an entry, in one place of memory: there is one for each row of an input.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Entry {
    hash: u64,
    tag: Tag,
    /// Slot of its key.
    key: u32,
    /// [`LARGE`] if it is kept elsewhere.
    weight: i32,
}

/// The number of an entry's row and two flags:
///
/// ```text
/// bit 63: changed since the last checkpoint   62: the number is in the state table
/// bits 46 to 61: index of the writer          0 to 45: the row
/// ```
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
struct Tag(u64);

impl Tag {
    const DIRTY: u64 = 1 << 63;
    const DURABLE: u64 = 1 << 62;
    const ROW_BITS: u32 = 46;

    fn new(writer: u16, row: u64) -> Self {
        Self(u64::from(writer) << Self::ROW_BITS | row & ((1 << Self::ROW_BITS) - 1))
    }

    fn writer(self) -> usize {
        (self.0 >> Self::ROW_BITS) as usize & usize::from(u16::MAX)
    }

    fn row(self) -> u64 {
        self.0 & ((1 << Self::ROW_BITS) - 1)
    }

    fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// Sets a flag; gives what it was.
    fn set(&mut self, flag: u64, is_set: bool) -> bool {
        let before = self.has(flag);
        self.0 = if is_set { self.0 | flag } else { self.0 & !flag };
        before
    }
}

/// A weight that is not kept in its entry.
const LARGE: i32 = i32::MIN;

/// Rows with weights, an entry a row.
///
/// An index of 64-bit hashes gives a candidate a row, and all candidates of a batch are compared
/// with the rows they stand for at once, column by column: no row is copied or encoded to be found.
///
/// Where rows are unique, one that comes is not looked for: only a retraction looks, and what came
/// since the last one enters the index then, in one sweep. An input that rarely retracts rarely
/// pays. Two entries may then hold one row until the epoch ends; weights add up all the same.
///
/// **Invariant:** an entry has a weight other than 0 until it is removed, and then it is in the
/// index, but for `unindexed` ones and, of unique rows, those of negative weight.
#[derive(Debug)]
pub(super) struct WeightedRows {
    is_unique: bool,
    /// Writers of the rows that are here; the first is the one of new rows.
    writers: Vec<u64>,
    /// Weights beyond 32 bits.
    large: HashMap<u32, i64>,
    /// Rows numbered so far.
    numbered: u64,
    entries: SlotColumn<Entry>,
    free: Vec<u32>,
    /// Removed in this epoch; their rows can still be read.
    removed: Vec<u32>,
    /// Half a hash and the entry, which has the whole one.
    index: HashTable<(u32, u32)>,
    /// Runs of entries that are not in the index: new ones mostly follow each other.
    unindexed: Vec<Range<u32>>,
    /// Of unique rows: entries of negative weight, whose partner is still to come.
    unmatched: Vec<u32>,
    /// Number of entries whose weight is neither 0 nor 1.
    multiples: usize,
    dirty: Vec<u32>,
    /// Durable rows that went since the last checkpoint, and the slots of their keys.
    deleted: Deleted,
    /// Slots of the keys of all rows that went since then.
    idle_keys: Vec<u32>,
}

/// Durable rows that went.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    /// Their names.
    pub(super) numbers: Vec<RowNumber>,
    /// By row: the slot of its key.
    pub(super) keys: Vec<u32>,
}

impl Deleted {
    fn push(&mut self, number: RowNumber, key: u32) {
        self.numbers.push(number);
        self.keys.push(key);
    }
}

/// Rows to be found, with the weights that are to be added to their entries.
pub(super) struct Sought<'a> {
    pub(super) columns: &'a [ArrayRef],
    pub(super) hashes: &'a [u64],
    /// What has not found an entry stays.
    pub(super) weights: &'a mut [i64],
}

/// Where rows of entries are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptRows<'a> {
    pub(super) segments: &'a Segments,
    /// By entry.
    pub(super) locations: &'a SlotColumn<Location>,
}

impl KeptRows<'_> {
    fn columns_of(&self, entries: impl Iterator<Item = u32>) -> Result<Vec<ArrayRef>> {
        let places: Vec<Location> = entries.map(|entry| self.locations.get(entry)).collect();
        self.segments.take_columns(&places)
    }
}

/// A row, the entry it was added to before they were compared, and how much of its weight.
struct Trial {
    row: u32,
    entry: u32,
    amount: i64,
}

fn half_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The hash under which half a hash is kept.
fn spread(half: u32) -> u64 {
    mix(half.into(), 0)
}

fn take_all(columns: &[ArrayRef], rows: impl Iterator<Item = u32>) -> Result<Vec<ArrayRef>> {
    Ok(take_arrays(columns, &UInt32Array::from_iter_values(rows), None)?)
}

impl WeightedRows {
    /// No rows; `is_unique` if no two are equal after an epoch, which is only a matter of speed.
    pub(super) fn new(writer: u64, is_unique: bool) -> Self {
        Self {
            is_unique,
            writers: vec![writer],
            large: HashMap::new(),
            numbered: 0,
            entries: SlotColumn::default(),
            free: Vec::new(),
            removed: Vec::new(),
            index: HashTable::new(),
            unindexed: Vec::new(),
            unmatched: Vec::new(),
            multiples: 0,
            dirty: Vec::new(),
            deleted: Deleted::default(),
            idle_keys: Vec::new(),
        }
    }

    pub(super) fn is_unique(&self) -> bool {
        self.is_unique
    }

    /// New entries for rows with their hashes, slots of keys and weights, which are not 0.
    pub(super) fn bring(
        &mut self,
        hashes: &[u64],
        keys: &[u32],
        weights: &[i64],
        entries: &mut Vec<u32>,
    ) {
        let first = self.numbered;
        self.numbered += hashes.len() as u64;
        for (at, ((hash, key), weight)) in hashes.iter().zip(keys).zip(weights).enumerate() {
            let mut tag = Tag::new(0, first + at as u64);
            tag.set(Tag::DIRTY, true);
            let mut entry = Entry { hash: *hash, tag, key: *key, weight: 0 };
            let id = match self.free.pop() {
                Some(id) => {
                    self.set_weight(id, &mut entry, *weight);
                    // It may stand in `dirty` still.
                    let free = self.entries.replace(id, entry);
                    if !free.tag.has(Tag::DIRTY) {
                        self.dirty.push(id);
                    }
                    id
                }
                None => {
                    let id = self.entries.count() as u32;
                    self.set_weight(id, &mut entry, *weight);
                    self.entries.push(entry);
                    self.dirty.push(id);
                    id
                }
            };
            self.multiples += usize::from(*weight != 1);
            if self.is_unique && *weight < 0 {
                self.unmatched.push(id);
            } else {
                self.put_off(id);
            }
            entries.push(id);
        }
    }

    /// Takes entries that [`WeightedRows::bring`] just made for durable rows of these numbers.
    pub(super) fn restored(&mut self, entries: &[u32], numbers: &[RowNumber]) {
        self.dirty.truncate(self.dirty.len() - entries.len());
        let mut last = 0;
        for (id, number) in entries.iter().zip(numbers) {
            if self.writers[last] != number.writer {
                let known = self.writers.iter().position(|writer| *writer == number.writer);
                last = known.unwrap_or(self.writers.len());
            }
            let Ok(writer) = u16::try_from(last) else {
                // Too many starts of the engine: the row is stored again, under a new number.
                last = 0;
                self.deleted.push(*number, self.entries.get(*id).key);
                self.dirty.push(*id);
                continue;
            };
            if last == self.writers.len() {
                self.writers.push(number.writer);
            }
            let mut tag = Tag::new(writer, number.row);
            tag.set(Tag::DURABLE, true);
            self.entries.update(*id, |entry| entry.tag = tag);
        }
    }

    /// Adds weights to the entries of equal rows, as far as there are any. Gives these entries;
    /// those of weight 0 are to be removed.
    pub(super) fn add(
        &mut self,
        sought: &mut Sought<'_>,
        rows: &[u32],
        kept: KeptRows<'_>,
    ) -> Result<Vec<u32>> {
        self.index_new();
        let mut trials = Vec::with_capacity(rows.len());
        for row in rows {
            let (hash, weight) = (sought.hashes[*row as usize], sought.weights[*row as usize]);
            let mut entry = None;
            let found = self.index.find(spread(half_of(hash)), |(half, id)| {
                if *half == half_of(hash) {
                    entry = self.taking(*id, hash, weight);
                }
                entry.is_some()
            });
            if let (Some((_, id)), Some(entry)) = (found, entry) {
                trials.push(self.try_to_add(*row, *id, entry, sought));
            }
        }
        if trials.is_empty() {
            return Ok(Vec::new());
        }
        let own = take_all(sought.columns, trials.iter().map(|trial| trial.row))?;
        let stored = kept.columns_of(trials.iter().map(|trial| trial.entry))?;
        let equal = equal_rows(&own, &stored, trials.len())?;
        let mut touched: Vec<u32> = Vec::with_capacity(trials.len());
        for (trial, equal) in trials.iter().zip(&equal) {
            if equal {
                touched.push(trial.entry);
            } else {
                self.change_weight(trial.entry, -trial.amount);
                sought.weights[trial.row as usize] += trial.amount;
            }
        }
        let is_open = |row: &u32| sought.weights[*row as usize] != 0;
        let again: Vec<u32> = if touched.len() == trials.len() {
            trials.iter().map(|trial| trial.row).filter(is_open).collect()
        } else {
            rows.iter().copied().filter(is_open).collect()
        };
        for row in again {
            self.add_one(sought, row, kept, &mut touched)?;
        }
        touched.sort_unstable();
        touched.dedup();
        Ok(touched)
    }

    /// Adds the weight of a row to all entries of its hash that turn out to hold it.
    #[cold]
    fn add_one(
        &mut self,
        sought: &mut Sought<'_>,
        row: u32,
        kept: KeptRows<'_>,
        touched: &mut Vec<u32>,
    ) -> Result<()> {
        let own = take_all(sought.columns, [row].into_iter())?;
        let hash = sought.hashes[row as usize];
        let candidates = self.index.iter_hash(spread(half_of(hash))).map(|(_, entry)| *entry);
        for id in candidates.collect::<Vec<u32>>() {
            let Some(entry) = self.taking(id, hash, sought.weights[row as usize]) else { continue };
            if equal_rows(&own, &kept.columns_of([id].into_iter())?, 1)?.value(0) {
                self.try_to_add(row, id, entry, sought);
                touched.push(id);
            }
        }
        Ok(())
    }

    fn try_to_add(&mut self, row: u32, id: u32, entry: Entry, sought: &mut Sought<'_>) -> Trial {
        let amount = self.room(self.weight_of(id, &entry), sought.weights[row as usize]);
        sought.weights[row as usize] -= amount;
        self.change_entry(id, entry, amount);
        Trial { row, entry: id, amount }
    }

    /// An entry that has a hash and takes some of a weight.
    #[inline]
    fn taking(&self, id: u32, hash: u64, weight: i64) -> Option<Entry> {
        let entry = self.entries.get(id);
        let takes = entry.hash == hash && self.room(self.weight_of(id, &entry), weight) != 0;
        takes.then_some(entry)
    }

    /// How much of a weight an entry of an equal row takes, which has a weight itself.
    #[inline]
    fn room(&self, own: i64, weight: i64) -> i64 {
        if !self.is_unique {
            return weight;
        }
        // Of unique rows only retractions are looked for, and an entry has no less than none.
        weight.max(-own).min(0)
    }

    fn change_weight(&mut self, id: u32, amount: i64) {
        self.change_entry(id, self.entries.get(id), amount);
    }

    fn change_entry(&mut self, id: u32, mut entry: Entry, amount: i64) {
        let before = self.weight_of(id, &entry);
        self.multiples -= usize::from(!matches!(before, 0 | 1));
        self.multiples += usize::from(!matches!(before + amount, 0 | 1));
        self.set_weight(id, &mut entry, before + amount);
        if !entry.tag.set(Tag::DIRTY, true) {
            self.dirty.push(id);
        }
        self.entries.set(id, entry);
    }

    fn set_weight(&mut self, id: u32, entry: &mut Entry, weight: i64) {
        if entry.weight == LARGE {
            self.large.remove(&id);
        }
        entry.weight = i32::try_from(weight).unwrap_or(LARGE);
        if entry.weight == LARGE {
            self.large.insert(id, weight);
        }
    }

    /// Leaves an entry out of the index until somebody looks for one.
    fn put_off(&mut self, id: u32) {
        match self.unindexed.last_mut() {
            Some(run) if run.end == id => run.end += 1,
            _ => self.unindexed.push(id..id + 1),
        }
    }

    fn index_new(&mut self) {
        let count = self.unindexed.iter().map(ExactSizeIterator::len).sum();
        self.index.reserve(count, |(half, _)| spread(*half));
        for run in self.unindexed.drain(..) {
            for (id, entry) in run.clone().zip(self.entries.range(run)) {
                let half = half_of(entry.hash);
                self.index.insert_unique(spread(half), (half, id), |(half, _)| spread(*half));
            }
        }
    }

    /// Removes an entry of weight 0. Gives the slot of its key.
    pub(super) fn remove(&mut self, id: u32) -> u32 {
        let Entry { key, hash, tag, .. } = self.entries.get(id);
        if tag.has(Tag::DURABLE) {
            self.deleted.push(self.number_of(tag), key);
        }
        // A negative one of unique rows is not in the index.
        if let Ok(found) = self.index.find_entry(spread(half_of(hash)), |(_, other)| *other == id) {
            found.remove();
        }
        self.removed.push(id);
        self.idle_keys.push(key);
        key
    }

    /// Entries that were removed since the last call; they may be given to other rows.
    pub(super) fn free_removed(&mut self) -> &[u32] {
        let start = self.free.len();
        self.free.append(&mut self.removed);
        &self.free[start..]
    }

    /// Entries of unique rows that were retracted and had not come, with their hashes and what
    /// would make them 0. They are to be given back to [`WeightedRows::settle`].
    pub(super) fn take_unmatched(&mut self) -> (Vec<u32>, Vec<u64>, Vec<i64>) {
        let ids = std::mem::take(&mut self.unmatched);
        let entries = ids.iter().map(|id| (*id, self.entries.get(*id)));
        let kept = entries.map(|(id, entry)| (entry.hash, self.weight_of(id, &entry)));
        let (hashes, weights) = kept.unzip();
        (ids, hashes, weights)
    }

    /// What is left of the weights of unmatched entries; gives those that are 0 now.
    pub(super) fn settle(&mut self, ids: Vec<u32>, weights: &[i64]) -> Vec<u32> {
        let mut settled = Vec::new();
        for (id, weight) in ids.into_iter().zip(weights) {
            self.change_weight(id, weight - self.weight(id));
            if *weight == 0 { settled.push(id) } else { self.unmatched.push(id) }
        }
        settled
    }

    /// Number of entries ever given.
    pub(super) fn entry_count(&self) -> usize {
        self.entries.count()
    }

    /// Weight of an entry.
    #[inline]
    pub(super) fn weight(&self, entry: u32) -> i64 {
        self.weight_of(entry, &self.entries.get(entry))
    }

    #[inline]
    fn weight_of(&self, id: u32, entry: &Entry) -> i64 {
        match entry.weight {
            LARGE => self.large.get(&id).copied().unwrap_or_default(),
            weight => weight.into(),
        }
    }

    /// Entries whose weight is not 0.
    pub(super) fn live_entries(&self) -> Vec<u32> {
        let ids = 0..self.entries.count() as u32;
        let entries = ids.clone().zip(self.entries.range(ids));
        entries.filter(|(_, entry)| entry.weight != 0).map(|(id, _)| id).collect()
    }

    /// Name of an entry's row.
    pub(super) fn number(&self, entry: u32) -> RowNumber {
        self.number_of(self.entries.get(entry).tag)
    }

    fn number_of(&self, tag: Tag) -> RowNumber {
        RowNumber { writer: self.writers[tag.writer()], row: tag.row() }
    }

    /// Whether every row that is there is there once.
    pub(super) fn is_set(&self) -> bool {
        self.multiples == 0
    }

    /// About the number of rows that changed since the last checkpoint.
    pub(super) fn changed_rows(&self) -> usize {
        self.dirty.len() + self.deleted.keys.len()
    }

    /// Entries that changed since the last call and have a row; they are durable from here on.
    ///
    /// # Errors
    /// `Internal` if rows were retracted that are not there.
    pub(super) fn take_changed(&mut self) -> Result<Vec<u32>> {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut missing = 0;
        dirty.retain(|id| {
            let mut entry = self.entries.get(*id);
            let weight = self.weight_of(*id, &entry);
            entry.tag.set(Tag::DIRTY, false);
            if weight != 0 {
                entry.tag.set(Tag::DURABLE, true);
            }
            self.entries.set(*id, entry);
            missing += usize::from(weight < 0);
            weight != 0
        });
        if missing > 0 {
            let message = format!("{missing} rows were retracted that are not there");
            return Err(Error::internal(message));
        }
        Ok(dirty)
    }

    /// Durable rows that went since the last call; adds the slots of keys that lost a row.
    pub(super) fn take_deleted(&mut self, idle_keys: &mut Vec<u32>) -> Deleted {
        idle_keys.append(&mut self.idle_keys);
        std::mem::take(&mut self.deleted)
    }

    /// As [`SlotColumn::move_cold`].
    pub(super) fn move_cold(&mut self, wanted: usize, scratch: &Scratch) -> Result<usize> {
        self.entries.move_cold(wanted, scratch)
    }

    pub(super) fn cold_bytes(&self) -> usize {
        self.entries.cold_bytes()
    }

    pub(super) fn state_bytes(&self) -> usize {
        let ids = [&self.free, &self.removed, &self.unmatched, &self.dirty];
        self.index.allocation_size()
            + self.entries.state_bytes()
            + (ids.iter().map(|ids| ids.capacity()).sum::<usize>() + self.idle_keys.capacity()) * 4
            + self.unindexed.capacity() * size_of::<Range<u32>>()
            + self.deleted.numbers.capacity() * size_of::<RowNumber>()
            + self.deleted.keys.capacity() * 4
    }
}
