//! [`KeyTable`]: keys to dense slots, with deletion.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;

use super::SlotColumn;
use super::bits::Bits;
use crate::change::{hash_bytes, mix, runs_by_bytes, words};
use crate::env::Scratch;
use crate::error::Result;

/// No slot.
pub const NO_SLOT: u32 = u32::MAX;

/// Gives each distinct key a small number, its slot, which indexes columns of state beside it.
///
/// A slot stays with its key until [`KeyTable::remove`]; then another key may get it. NULL is a
/// key like others. Without columns there is one key, slot 0.
///
/// Shape: key columns of the given types. One column of up to 64 bits is hashed as a word, all
/// else as Arrow rows in one arena.
#[derive(Debug)]
pub struct KeyTable {
    keys: Keys,
    free: Vec<u32>,
    used: Bits,
}

/// Slots by half the hash of their key. A whole hash would double the table: what is found is
/// compared with the key anyway.
#[derive(Debug, Default)]
struct SlotIndex(HashTable<(u32, u32)>);

impl SlotIndex {
    /// The hash under which half a hash is kept: hashbrown takes its highest bits and its lowest.
    fn spread(half: u32) -> u64 {
        u64::from(half) << 32 | u64::from(half)
    }

    fn half_of(hash: u64) -> u32 {
        (hash >> 32) as u32
    }

    fn find(&self, hash: u64, is_same: impl Fn(u32) -> bool) -> Option<u32> {
        let half = Self::half_of(hash);
        let same = |(other, slot): &(u32, u32)| *other == half && is_same(*slot);
        self.0.find(Self::spread(half), same).map(|(_, slot)| *slot)
    }

    fn insert(&mut self, hash: u64, slot: u32) {
        let half = Self::half_of(hash);
        self.0.insert_unique(Self::spread(half), (half, slot), |(half, _)| Self::spread(*half));
    }

    fn remove(&mut self, hash: u64, slot: u32) {
        let found = self.0.find_entry(Self::spread(Self::half_of(hash)), |(_, it)| *it == slot);
        if let Ok(entry) = found {
            entry.remove();
        }
    }
}

#[derive(Debug)]
enum Keys {
    Unit,
    Word(WordKeys),
    Rows(RowKeys),
}

#[derive(Debug)]
struct WordKeys {
    data_type: DataType,
    index: SlotIndex,
    words: SlotColumn<u64>,
    null_slot: u32,
}

#[derive(Debug)]
struct RowKeys {
    converter: RowConverter,
    index: SlotIndex,
    /// Keys, each behind its length.
    arena: Vec<u8>,
    /// By slot: where its key's length is; [`NO_KEY`] for none.
    starts: SlotColumn<u64>,
    garbage_bytes: usize,
}

/// The slot has no key.
const NO_KEY: u64 = u64::MAX;

/// Bytes of a length in front of a key: seven bits each, the highest tells that another follows.
fn push_length(arena: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        arena.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    arena.push(length as u8);
}

/// The length at a place and where the key begins.
fn length_at(arena: &[u8], mut at: usize) -> (usize, usize) {
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = arena[at];
        at += 1;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return (length, at);
        }
    }
}

/// Slots of a table: free ones first.
struct Slots<'a> {
    free: &'a mut Vec<u32>,
    used: &'a mut Bits,
}

impl Slots<'_> {
    fn next(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.used.set(slot, true);
            return slot;
        }
        self.used.push(true);
        (self.used.len() - 1) as u32
    }
}

impl KeyTable {
    /// A table for keys of these types.
    ///
    /// # Errors
    /// `Internal` for a type that Arrow's row format does not hold.
    pub fn try_new(types: &[DataType]) -> Result<Self> {
        let keys = match types {
            [] => Keys::Unit,
            [data_type] if words::is_word(data_type) => Keys::Word(WordKeys {
                data_type: data_type.clone(),
                index: SlotIndex::default(),
                words: SlotColumn::default(),
                null_slot: NO_SLOT,
            }),
            types => Keys::Rows(RowKeys {
                converter: RowConverter::new(types.iter().cloned().map(SortField::new).collect())?,
                index: SlotIndex::default(),
                arena: Vec::new(),
                starts: SlotColumn::default(),
                garbage_bytes: 0,
            }),
        };
        Ok(Self { keys, free: Vec::new(), used: Bits::default() })
    }

    /// Number of slots ever given: the length that columns of state beside it need.
    pub fn slot_count(&self) -> usize {
        self.used.len()
    }

    /// Whether the slot has a key.
    pub fn is_used(&self, slot: u32) -> bool {
        (slot as usize) < self.used.len() && self.used.get(slot)
    }

    /// The slots of keys; a new key gets a new slot. `slots` is overwritten.
    ///
    /// # Errors
    /// `Internal` if the columns are not of the table's types.
    pub fn intern(
        &mut self,
        columns: &[ArrayRef],
        row_count: usize,
        slots: &mut Vec<u32>,
    ) -> Result<()> {
        slots.clear();
        slots.reserve(row_count);
        let mut given = Slots { free: &mut self.free, used: &mut self.used };
        match &mut self.keys {
            Keys::Unit => {
                if row_count > 0 && given.used.len() == 0 {
                    given.next();
                }
                slots.resize(row_count, 0);
            }
            Keys::Word(keys) => keys.intern(&columns[0], &mut given, slots),
            Keys::Rows(keys) => keys.intern(columns, &mut given, slots)?,
        }
        Ok(())
    }

    /// The slots of keys that are there, [`NO_SLOT`] for others. `slots` is overwritten.
    ///
    /// # Errors
    /// `Internal` if the columns are not of the table's types.
    pub fn find(&self, columns: &[ArrayRef], row_count: usize, slots: &mut Vec<u32>) -> Result<()> {
        slots.clear();
        match &self.keys {
            Keys::Unit => {
                slots.resize(row_count, if self.used.len() == 0 { NO_SLOT } else { 0 });
            }
            Keys::Word(keys) => keys.find(&columns[0], slots),
            Keys::Rows(keys) => keys.find(columns, slots)?,
        }
        Ok(())
    }

    /// Forgets the key of a slot; nothing if it has none.
    pub fn remove(&mut self, slot: u32) {
        if !self.is_used(slot) {
            return;
        }
        match &mut self.keys {
            Keys::Unit => return,
            Keys::Word(keys) => keys.remove(slot),
            Keys::Rows(keys) => keys.remove(slot),
        }
        self.used.set(slot, false);
        self.free.push(slot);
    }

    /// About the bytes of a slot's key as columns.
    pub fn key_bytes(&self, slot: u32) -> usize {
        match &self.keys {
            Keys::Unit => 0,
            Keys::Word(_) => 8,
            Keys::Rows(keys) => keys.key(slot).len(),
        }
    }

    /// Runs of slots whose keys are of bounded size; see [`runs_by_bytes`].
    pub fn key_runs<'a>(&self, slots: &'a [u32]) -> impl Iterator<Item = &'a [u32]> + use<'a> {
        let runs = runs_by_bytes(slots.len(), |index| self.key_bytes(slots[index]));
        runs.into_iter().map(|run| &slots[run])
    }

    /// The key columns of slots, which the caller cuts into runs of bounded size.
    ///
    /// # Errors
    /// None in practice: the keys were made from such columns.
    pub fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        match &self.keys {
            Keys::Unit => Ok(Vec::new()),
            Keys::Word(keys) => keys.decode(slots),
            Keys::Rows(keys) => {
                let parser = keys.converter.parser();
                let rows = slots.iter().map(|slot| parser.parse(keys.key(*slot)));
                Ok(keys.converter.convert_rows(rows)?)
            }
        }
    }

    /// As [`SlotColumn::move_cold`]. What finds a key stays in memory: hashes, and keys of more
    /// than a word.
    ///
    /// # Errors
    /// As that.
    pub fn move_cold(&mut self, wanted: usize, scratch: &Scratch) -> Result<usize> {
        match &mut self.keys {
            Keys::Unit => Ok(0),
            Keys::Word(keys) => keys.words.move_cold(wanted, scratch),
            Keys::Rows(keys) => keys.starts.move_cold(wanted, scratch),
        }
    }

    /// Bytes in scratch files.
    pub fn cold_bytes(&self) -> usize {
        match &self.keys {
            Keys::Unit => 0,
            Keys::Word(keys) => keys.words.cold_bytes(),
            Keys::Rows(keys) => keys.starts.cold_bytes(),
        }
    }

    /// Memory in bytes, without what is in scratch files.
    pub fn state_bytes(&self) -> usize {
        let own = self.free.capacity() * 4 + self.used.state_bytes();
        own + match &self.keys {
            Keys::Unit => 0,
            Keys::Word(keys) => keys.index.0.allocation_size() + keys.words.state_bytes(),
            Keys::Rows(keys) => {
                let own = keys.index.0.allocation_size() + keys.arena.capacity();
                own + keys.starts.state_bytes()
            }
        }
    }
}

impl WordKeys {
    fn intern(&mut self, column: &ArrayRef, given: &mut Slots<'_>, slots: &mut Vec<u32>) {
        let words = words::encode(column).expect("the key's type is a word");
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        for (row, word) in words.into_iter().enumerate() {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                if self.null_slot == NO_SLOT {
                    self.null_slot = given.next();
                    self.put(self.null_slot, 0);
                }
                slots.push(self.null_slot);
                continue;
            }
            let hash = mix(word, 0);
            if let Some(slot) = self.slot_of(hash, word) {
                slots.push(slot);
                continue;
            }
            let slot = given.next();
            self.index.insert(hash, slot);
            self.put(slot, word);
            slots.push(slot);
        }
    }

    fn slot_of(&self, hash: u64, word: u64) -> Option<u32> {
        // The slot of NULL has a word as well, but is not in the index.
        self.index.find(hash, |slot| self.words.get(slot) == word)
    }

    fn put(&mut self, slot: u32, word: u64) {
        if slot as usize == self.words.count() {
            self.words.push(word);
        } else {
            self.words.set(slot, word);
        }
    }

    fn find(&self, column: &ArrayRef, slots: &mut Vec<u32>) {
        let words = words::encode(column).expect("the key's type is a word");
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        slots.extend(words.into_iter().enumerate().map(|(row, word)| {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                return self.null_slot;
            }
            self.slot_of(mix(word, 0), word).unwrap_or(NO_SLOT)
        }));
    }

    fn remove(&mut self, slot: u32) {
        if slot == self.null_slot {
            self.null_slot = NO_SLOT;
            return;
        }
        self.index.remove(mix(self.words.get(slot), 0), slot);
    }

    fn decode(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let words = slots.iter().map(|slot| self.words.get(*slot));
        let has_null = self.null_slot != NO_SLOT && slots.contains(&self.null_slot);
        let nulls = has_null
            .then(|| slots.iter().map(|slot| *slot != self.null_slot).collect::<NullBuffer>());
        Ok(vec![words::decode(words, nulls, &self.data_type)?])
    }
}

impl RowKeys {
    fn key(&self, slot: u32) -> &[u8] {
        match self.starts.get(slot) {
            NO_KEY => &[],
            start => {
                let (length, start) = length_at(&self.arena, start as usize);
                &self.arena[start..start + length]
            }
        }
    }

    fn intern(
        &mut self,
        columns: &[ArrayRef],
        given: &mut Slots<'_>,
        slots: &mut Vec<u32>,
    ) -> Result<()> {
        let rows = self.converter.convert_columns(columns)?;
        for row in &rows {
            let bytes = row.data();
            let hash = hash_bytes(0, bytes);
            if let Some(slot) = self.index.find(hash, |slot| self.key(slot) == bytes) {
                slots.push(slot);
                continue;
            }
            let slot = given.next();
            let start = self.arena.len() as u64;
            push_length(&mut self.arena, bytes.len());
            self.arena.extend_from_slice(bytes);
            if slot as usize == self.starts.count() {
                self.starts.push(start);
            } else {
                self.starts.set(slot, start);
            }
            self.index.insert(hash, slot);
            slots.push(slot);
        }
        Ok(())
    }

    fn find(&self, columns: &[ArrayRef], slots: &mut Vec<u32>) -> Result<()> {
        let rows = self.converter.convert_columns(columns)?;
        slots.extend(rows.iter().map(|row| {
            let bytes = row.data();
            let hash = hash_bytes(0, bytes);
            self.index.find(hash, |slot| self.key(slot) == bytes).unwrap_or(NO_SLOT)
        }));
        Ok(())
    }

    fn remove(&mut self, slot: u32) {
        let hash = hash_bytes(0, self.key(slot));
        self.index.remove(hash, slot);
        self.garbage_bytes += self.key(slot).len() + 1;
        self.starts.set(slot, NO_KEY);
        if self.garbage_bytes > 4096 && self.garbage_bytes * 2 > self.arena.len() {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let mut arena = Vec::with_capacity(self.arena.len() - self.garbage_bytes);
        let mut starts = SlotColumn::default();
        for start in self.starts.range(0..self.starts.count() as u32) {
            if start == NO_KEY {
                starts.push(NO_KEY);
                continue;
            }
            let (length, key) = length_at(&self.arena, start as usize);
            starts.push(arena.len() as u64);
            arena.extend_from_slice(&self.arena[start as usize..key + length]);
        }
        (self.arena, self.starts) = (arena, starts);
        self.garbage_bytes = 0;
    }
}
