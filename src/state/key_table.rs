//! [`KeyTable`]: keys to dense slots, with deletion.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;

use crate::change::{hash_bytes, mix, runs_by_bytes, words};
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
    used: Vec<bool>,
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
    table: HashTable<(u64, u32)>,
    words: Vec<u64>,
    null_slot: u32,
}

#[derive(Debug)]
struct RowKeys {
    converter: RowConverter,
    table: HashTable<(u64, u32)>,
    arena: Vec<u8>,
    spans: Vec<Range<usize>>,
    garbage_bytes: usize,
}

/// Slots of a table: free ones first.
struct Slots<'a> {
    free: &'a mut Vec<u32>,
    used: &'a mut Vec<bool>,
}

impl Slots<'_> {
    fn next(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.used[slot as usize] = true;
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
                table: HashTable::new(),
                words: Vec::new(),
                null_slot: NO_SLOT,
            }),
            types => Keys::Rows(RowKeys {
                converter: RowConverter::new(types.iter().cloned().map(SortField::new).collect())?,
                table: HashTable::new(),
                arena: Vec::new(),
                spans: Vec::new(),
                garbage_bytes: 0,
            }),
        };
        Ok(Self { keys, free: Vec::new(), used: Vec::new() })
    }

    /// Number of slots ever given: the length that columns of state beside it need.
    pub fn slot_count(&self) -> usize {
        self.used.len()
    }

    /// Whether the slot has a key.
    pub fn is_used(&self, slot: u32) -> bool {
        self.used.get(slot as usize).copied().unwrap_or(false)
    }

    /// All slots that have a key, ascending.
    pub fn used_slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.used.iter().enumerate().filter(|(_, used)| **used).map(|(slot, _)| slot as u32)
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
                if row_count > 0 && given.used.is_empty() {
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
                slots.resize(row_count, if self.used.is_empty() { NO_SLOT } else { 0 });
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
        self.used[slot as usize] = false;
        self.free.push(slot);
    }

    /// About the bytes of a slot's key as columns.
    pub fn key_bytes(&self, slot: u32) -> usize {
        match &self.keys {
            Keys::Unit => 0,
            Keys::Word(_) => 8,
            Keys::Rows(keys) => keys.spans[slot as usize].len(),
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

    /// Memory in bytes.
    pub fn state_bytes(&self) -> usize {
        let own = self.free.capacity() * 4 + self.used.capacity();
        own + match &self.keys {
            Keys::Unit => 0,
            Keys::Word(keys) => keys.table.allocation_size() + keys.words.capacity() * 8,
            Keys::Rows(keys) => {
                keys.table.allocation_size()
                    + keys.arena.capacity()
                    + keys.spans.capacity() * size_of::<Range<usize>>()
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
            if let Some((_, slot)) = self.table.find(hash, |(other, _)| *other == word) {
                slots.push(*slot);
                continue;
            }
            let slot = given.next();
            self.table.insert_unique(hash, (word, slot), |(word, _)| mix(*word, 0));
            self.put(slot, word);
            slots.push(slot);
        }
    }

    fn put(&mut self, slot: u32, word: u64) {
        if slot as usize == self.words.len() {
            self.words.push(word);
        } else {
            self.words[slot as usize] = word;
        }
    }

    fn find(&self, column: &ArrayRef, slots: &mut Vec<u32>) {
        let words = words::encode(column).expect("the key's type is a word");
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        slots.extend(words.into_iter().enumerate().map(|(row, word)| {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                return self.null_slot;
            }
            let found = self.table.find(mix(word, 0), |(other, _)| *other == word);
            found.map_or(NO_SLOT, |(_, slot)| *slot)
        }));
    }

    fn remove(&mut self, slot: u32) {
        if slot == self.null_slot {
            self.null_slot = NO_SLOT;
            return;
        }
        let word = self.words[slot as usize];
        if let Ok(entry) = self.table.find_entry(mix(word, 0), |(other, _)| *other == word) {
            entry.remove();
        }
    }

    fn decode(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let words = slots.iter().map(|slot| self.words[*slot as usize]);
        let has_null = self.null_slot != NO_SLOT && slots.contains(&self.null_slot);
        let nulls = has_null
            .then(|| slots.iter().map(|slot| *slot != self.null_slot).collect::<NullBuffer>());
        Ok(vec![words::decode(words, nulls, &self.data_type)?])
    }
}

impl RowKeys {
    fn key(&self, slot: u32) -> &[u8] {
        &self.arena[self.spans[slot as usize].clone()]
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
            let same = |(other, slot): &(u64, u32)| {
                *other == hash && &self.arena[self.spans[*slot as usize].clone()] == bytes
            };
            if let Some((_, slot)) = self.table.find(hash, same) {
                slots.push(*slot);
                continue;
            }
            let slot = given.next();
            let span = self.arena.len()..self.arena.len() + bytes.len();
            self.arena.extend_from_slice(bytes);
            if slot as usize == self.spans.len() {
                self.spans.push(span);
            } else {
                self.spans[slot as usize] = span;
            }
            self.table.insert_unique(hash, (hash, slot), |(hash, _)| *hash);
            slots.push(slot);
        }
        Ok(())
    }

    fn find(&self, columns: &[ArrayRef], slots: &mut Vec<u32>) -> Result<()> {
        let rows = self.converter.convert_columns(columns)?;
        slots.extend(rows.iter().map(|row| {
            let bytes = row.data();
            let hash = hash_bytes(0, bytes);
            let same = |(other, slot): &(u64, u32)| *other == hash && self.key(*slot) == bytes;
            self.table.find(hash, same).map_or(NO_SLOT, |(_, slot)| *slot)
        }));
        Ok(())
    }

    fn remove(&mut self, slot: u32) {
        let hash = hash_bytes(0, self.key(slot));
        if let Ok(entry) = self.table.find_entry(hash, |(_, other)| *other == slot) {
            entry.remove();
        }
        self.garbage_bytes += self.spans[slot as usize].len();
        self.spans[slot as usize] = 0..0;
        if self.garbage_bytes > 4096 && self.garbage_bytes * 2 > self.arena.len() {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let mut arena = Vec::with_capacity(self.arena.len() - self.garbage_bytes);
        for span in &mut self.spans {
            let start = arena.len();
            arena.extend_from_slice(&self.arena[span.clone()]);
            *span = start..arena.len();
        }
        self.arena = arena;
        self.garbage_bytes = 0;
    }
}
