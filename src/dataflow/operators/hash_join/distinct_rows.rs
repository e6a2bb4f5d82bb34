//! [`DistinctRows`]: finds the entry of a row, where the rows themselves are kept elsewhere.

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use hashbrown::HashTable;

use super::lists::Lists;
use crate::change::{equal_rows, hash_rows, mix};
use crate::error::{Error, Result};
use crate::state::{Location, NO_ROW, Segments};

/// What is kept of an entry, in one place of memory.
#[derive(Debug, Clone)]
struct Entry {
    weight: i64,
    hash: u64,
    /// Slot of its key; before it has one, the row of the batch that brought it.
    key: u32,
    /// Batch that touched it last.
    batch: u32,
    is_dirty: bool,
    /// Its row, of weight 0, is in the graveyard.
    is_buried: bool,
}

/// What a batch did to entries.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Rows of the batch whose entries came into their lists, and these entries.
    pub(super) come: (Vec<u32>, Vec<u32>),
    /// Entries that went out of their lists.
    pub(super) gone: Vec<u32>,
}

/// One entry a distinct row, with its weight.
///
/// An index of 64-bit hashes gives a candidate a row, and all candidates of a batch are compared
/// with the rows they stand for at once, column by column: a row that comes costs a hash and a
/// probe, no copy and no encoding.
///
/// A row whose weight goes to 0 is moved to the graveyard at the epoch's end and stays there until
/// its tombstone is written.
///
/// **Invariant:** before a batch every entry in the index has a row, in the side's segments or in
/// the graveyard.
#[derive(Debug)]
pub(super) struct DistinctRows {
    /// Half a hash and the entry, which has the whole one.
    index: HashTable<(u32, u32)>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Number of entries whose weight is neither 0 nor 1.
    multiples: usize,
    /// Number of the batch, for `Entry::batch`.
    batch: u32,
    dirty: Vec<u32>,
    /// Entries that lost their row in this epoch.
    dead: Vec<u32>,
    graveyard: Segments,
}

/// Where rows of entries are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept<'a> {
    pub(super) segments: &'a Segments,
    /// By entry.
    pub(super) locations: &'a [Location],
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// The row of this batch that brought the entry.
    Batch(u32),
    Graveyard(Location),
    Segments(Location),
}

/// A row that came, and the entry that has its hash.
#[derive(Debug, Default)]
struct Candidates {
    rows: Vec<u32>,
    /// Locations, or rows of the batch.
    places: Vec<Location>,
}

impl Candidates {
    fn push(&mut self, row: u32, place: Location) {
        self.rows.push(row);
        self.places.push(place);
    }

    /// Adds the rows that are not what their candidates are to `wrong`.
    fn check(
        &self,
        columns: &[ArrayRef],
        stored: impl FnOnce(&[Location]) -> Result<Vec<ArrayRef>>,
        wrong: &mut Vec<u32>,
    ) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = take_all(columns, self.rows.iter().copied())?;
        let equal = equal_rows(&rows, &stored(&self.places)?, self.rows.len())?;
        if equal.count_set_bits() < self.rows.len() {
            let rows = self.rows.iter().enumerate();
            wrong.extend(rows.filter(|(index, _)| !equal.value(*index)).map(|(_, row)| *row));
        }
        Ok(())
    }
}

fn half_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The hash under which half a hash is kept.
fn spread(half: u32) -> u64 {
    mix(half.into(), 0)
}

fn take_all(columns: &[ArrayRef], rows: impl Iterator<Item = u32>) -> Result<Vec<ArrayRef>> {
    let rows = UInt32Array::from_iter_values(rows);
    Ok(columns
        .iter()
        .map(|column| take(column, &rows, None))
        .collect::<std::result::Result<_, _>>()?)
}

impl DistinctRows {
    /// No rows of a schema.
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self {
            index: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            multiples: 0,
            batch: 0,
            dirty: Vec::new(),
            dead: Vec::new(),
            graveyard: Segments::new(schema),
        }
    }

    /// The entry of each row of a batch; a new row gets a new one, with weight 0.
    pub(super) fn intern(
        &mut self,
        columns: &[ArrayRef],
        row_count: usize,
        kept: Kept<'_>,
        entries: &mut Vec<u32>,
    ) -> Result<()> {
        self.batch = self.batch.wrapping_add(1);
        let hashes = hash_rows(columns, row_count)?;
        let (mut live, mut buried, mut fresh) =
            (Candidates::default(), Candidates::default(), Candidates::default());
        entries.clear();
        entries.reserve(row_count);
        for (row, hash) in hashes.iter().enumerate() {
            let row = row as u32;
            let known = &self.entries;
            let is_same = |(half, entry): &(u32, u32)| {
                *half == half_of(*hash) && known[*entry as usize].hash == *hash
            };
            let Some((_, entry)) = self.index.find(spread(half_of(*hash)), is_same) else {
                entries.push(self.create(*hash, row));
                continue;
            };
            let entry = *entry;
            entries.push(entry);
            match self.place_of(entry, kept) {
                Place::Batch(first) => fresh.push(row, first.into()),
                Place::Graveyard(place) => buried.push(row, place),
                Place::Segments(place) => live.push(row, place),
            }
        }
        let mut wrong = Vec::new();
        live.check(columns, |places| kept.segments.take_columns(places), &mut wrong)?;
        buried.check(columns, |places| self.graveyard.take_columns(places), &mut wrong)?;
        let rows = |places: &[Location]| take_all(columns, places.iter().map(|row| *row as u32));
        fresh.check(columns, rows, &mut wrong)?;
        wrong.sort_unstable();
        for row in wrong {
            entries[row as usize] = self.resolve(columns, row, hashes[row as usize], kept)?;
        }
        Ok(())
    }

    /// The entry of a row whose hash is another row's too.
    #[cold]
    fn resolve(
        &mut self,
        columns: &[ArrayRef],
        row: u32,
        hash: u64,
        kept: Kept<'_>,
    ) -> Result<u32> {
        let own = take_all(columns, [row].into_iter())?;
        for (_, entry) in self.index.iter_hash(spread(half_of(hash))) {
            if self.entries[*entry as usize].hash != hash {
                continue;
            }
            let stored = match self.place_of(*entry, kept) {
                Place::Batch(first) => take_all(columns, [first].into_iter())?,
                Place::Graveyard(place) => self.graveyard.take_columns(&[place])?,
                Place::Segments(place) => kept.segments.take_columns(&[place])?,
            };
            if equal_rows(&own, &stored, 1)?.value(0) {
                return Ok(*entry);
            }
        }
        Ok(self.create(hash, row))
    }

    /// Where the row of an entry is.
    #[inline]
    fn place_of(&self, entry: u32, kept: Kept<'_>) -> Place {
        let known = &self.entries[entry as usize];
        match kept.locations.get(entry as usize).copied().unwrap_or(NO_ROW) {
            NO_ROW => Place::Batch(known.key),
            place if known.is_buried => Place::Graveyard(place),
            place => Place::Segments(place),
        }
    }

    fn create(&mut self, hash: u64, row: u32) -> u32 {
        let id = self.free.pop().unwrap_or(self.entries.len() as u32);
        let half = half_of(hash);
        self.index.insert_unique(spread(half), (half, id), |(half, _)| spread(*half));
        let batch = self.batch.wrapping_sub(1);
        let entry = Entry { weight: 0, hash, key: row, batch, is_dirty: false, is_buried: false };
        match self.entries.get_mut(id as usize) {
            // It may stand in `dirty` still.
            Some(free) => *free = Entry { is_dirty: free.is_dirty, ..entry },
            None => self.entries.push(entry),
        }
        id
    }

    /// Adds the weights of a batch to the entries of its rows, and moves entries in and out of the
    /// lists of their keys.
    pub(super) fn add(
        &mut self,
        weights: Option<&[i64]>,
        slots: &[u32],
        entries: &[u32],
        lists: &mut Lists,
        locations: &[Location],
    ) -> Moves {
        // Rows that touch their entry first, and its weight before.
        let mut before: Vec<(u32, i64)> = Vec::with_capacity(entries.len());
        for (row, id) in entries.iter().enumerate() {
            let entry = &mut self.entries[*id as usize];
            if entry.batch != self.batch {
                entry.batch = self.batch;
                entry.key = slots[row];
                before.push((row as u32, entry.weight));
            }
            entry.weight += weights.map_or(1, |weights| weights[row]);
            if !std::mem::replace(&mut entry.is_dirty, true) {
                self.dirty.push(*id);
            }
        }
        let mut moves = Moves::default();
        for (row, old) in before {
            let id = entries[row as usize];
            let entry = &mut self.entries[id as usize];
            let (key, new) = (entry.key, entry.weight);
            self.multiples += usize::from(!matches!(new, 0 | 1));
            self.multiples -= usize::from(!matches!(old, 0 | 1));
            match (old, new) {
                // The batch brought it and took it back: it has no row to be found by.
                (0, 0) if locations[id as usize] == NO_ROW => self.free(id),
                (0, 0) => {}
                (0, _) => {
                    entry.is_buried = false;
                    moves.come.0.push(row);
                    moves.come.1.push(id);
                }
                (_, 0) => {
                    lists.unlink(id, key);
                    self.dead.push(id);
                    moves.gone.push(id);
                }
                _ => {}
            }
        }
        let (rows, come) = &moves.come;
        lists.link(come, rows.iter().map(|row| slots[*row as usize]));
        moves
    }

    fn free(&mut self, id: u32) {
        let hash = self.entries[id as usize].hash;
        if let Ok(found) = self.index.find_entry(spread(half_of(hash)), |(_, other)| *other == id) {
            found.remove();
            self.free.push(id);
        }
    }

    /// Moves the rows that are gone to the graveyard, before the segments drop them.
    pub(super) fn bury(&mut self, segments: &Segments, locations: &mut [Location]) -> Result<()> {
        let mut dead = std::mem::take(&mut self.dead);
        dead.sort_unstable();
        dead.dedup();
        dead.retain(|id| {
            let entry = &mut self.entries[*id as usize];
            entry.weight == 0 && !std::mem::replace(&mut entry.is_buried, true)
        });
        let places: Vec<Location> = dead.iter().map(|id| locations[*id as usize]).collect();
        self.graveyard.append(segments.take(&places)?, dead, locations);
        Ok(())
    }

    /// Number of entries ever given.
    pub(super) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Weight of an entry.
    #[inline]
    pub(super) fn weight(&self, entry: u32) -> i64 {
        self.entries[entry as usize].weight
    }

    /// Whether every row that is there is there once.
    pub(super) fn is_set(&self) -> bool {
        self.multiples == 0
    }

    /// Entries that changed since the last call and have a row.
    ///
    /// # Errors
    /// `Internal` if rows were retracted that are not there.
    pub(super) fn take_changed(&mut self) -> Result<Vec<u32>> {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut missing = 0;
        dirty.retain(|id| {
            let entry = &mut self.entries[*id as usize];
            entry.is_dirty = false;
            missing += usize::from(entry.weight < 0);
            entry.weight != 0
        });
        if missing > 0 {
            let message = format!("{missing} rows were retracted that are not there");
            return Err(Error::internal(message));
        }
        Ok(dirty)
    }

    /// Rows that went since the last call. Frees their entries; adds the keys of these to
    /// `idle_keys`.
    pub(super) fn take_buried(
        &mut self,
        locations: &mut [Location],
        idle_keys: &mut Vec<u32>,
    ) -> Result<RecordBatch> {
        let mut buried = self.graveyard.owners();
        buried.sort_unstable();
        buried.dedup();
        buried.retain(|id| self.entries[*id as usize].is_buried);
        let places: Vec<Location> = buried.iter().map(|id| locations[*id as usize]).collect();
        let rows = self.graveyard.take(&places)?;
        for id in buried {
            let entry = &mut self.entries[id as usize];
            entry.is_buried = false;
            idle_keys.push(entry.key);
            locations[id as usize] = NO_ROW;
            self.free(id);
        }
        self.graveyard.clear_all();
        Ok(rows)
    }

    /// What is there now is durable.
    pub(super) fn forget_changes(&mut self) {
        for entry in self.dirty.drain(..) {
            self.entries[entry as usize].is_dirty = false;
        }
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.index.allocation_size()
            + self.entries.capacity() * size_of::<Entry>()
            + (self.dirty.capacity() + self.free.capacity() + self.dead.capacity()) * 4
            + self.graveyard.state_bytes()
    }
}
