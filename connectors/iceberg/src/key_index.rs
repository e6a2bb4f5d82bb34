//! [`KeyIndex`]: primary key -> place of its row.
//!
//! ```text
//! one Int64 key     table of {key: i64, file: u32, pos: u32}
//! any other key     table of {start: u64, len: u32, file: u32, pos: u32} ──► arena of row bytes
//! ```
//!
//! **Invariant:** a key is in the index exactly if its row is live in the table or in the files
//! that are being written.

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, Rows, SortField};
use foldhash::fast::FixedState;
use frazil_connector_api::Result;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::BuildHasher;

/// The place of a row: the sink's number of the file, and the row's number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) pos: u32,
}

impl Place {
    /// One number that orders by file, then position.
    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.file) << 32 | u64::from(self.pos)
    }

    /// Reverse of [`Place::to_u64`].
    pub(crate) fn from_u64(packed: u64) -> Self {
        Self { file: (packed >> 32) as u32, pos: packed as u32 }
    }
}

/// Encoded keys of a batch.
#[derive(Debug)]
pub(crate) enum Keys {
    Int64(Int64Array),
    Rows(Rows),
}

/// Encodes key columns; cheap to share between tasks.
#[derive(Debug)]
pub(crate) enum KeyEncoder {
    Int64,
    Rows(RowConverter),
}

impl KeyEncoder {
    /// For key columns of these types, which may hold NULL if `nullable`.
    pub(crate) fn new(types: &[DataType], nullable: bool) -> Result<Self> {
        if types == [DataType::Int64] && !nullable {
            return Ok(Self::Int64);
        }
        let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
        Ok(Self::Rows(RowConverter::new(fields)?))
    }

    /// True if it can encode NULL.
    pub(crate) fn takes_null(&self) -> bool {
        matches!(self, Self::Rows(_))
    }

    /// Encodes all rows of the key columns.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<Keys> {
        Ok(match self {
            Self::Int64 => Keys::Int64(columns[0].as_primitive::<Int64Type>().clone()),
            Self::Rows(converter) => Keys::Rows(converter.convert_columns(columns)?),
        })
    }
}

/// The index; see the module.
#[derive(Debug)]
pub(crate) enum KeyIndex {
    Int64(Int64Index),
    Rows(RowIndex),
}

impl KeyIndex {
    /// An empty index for keys of `encoder`.
    pub(crate) fn new(encoder: &KeyEncoder) -> Self {
        match encoder {
            KeyEncoder::Int64 => Self::Int64(Int64Index::default()),
            KeyEncoder::Rows(_) => Self::Rows(RowIndex::default()),
        }
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Int64(index) => index.table.len(),
            Self::Rows(index) => index.table.len(),
        }
    }

    /// Memory in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::Int64(index) => index.table.allocation_size(),
            Self::Rows(index) => index.table.allocation_size() + index.arena.capacity(),
        }
    }

    /// Makes room for `more` keys.
    pub(crate) fn reserve(&mut self, more: usize) {
        match self {
            Self::Int64(index) => index.table.reserve(more, |entry| hash_int(entry.key)),
            Self::Rows(index) => {
                let arena = &index.arena;
                index.table.reserve(more, |entry| hash_bytes(entry.bytes(arena)));
            }
        }
    }

    /// Puts the keys of `rows` at `places` and tells the old place of each that had one.
    pub(crate) fn insert(
        &mut self,
        keys: &Keys,
        rows: impl Iterator<Item = (usize, Place)>,
        mut replaced: impl FnMut(Place),
    ) {
        match (self, keys) {
            (Self::Int64(index), Keys::Int64(keys)) => {
                for (row, place) in rows {
                    if let Some(old) = index.insert(keys.value(row), place) {
                        replaced(old);
                    }
                }
            }
            (Self::Rows(index), Keys::Rows(keys)) => {
                for (row, place) in rows {
                    if let Some(old) = index.insert(keys.row(row).data(), place) {
                        replaced(old);
                    }
                }
            }
            _ => unreachable!("keys are encoded by the encoder of their index"),
        }
    }

    /// Takes the keys of `rows` out and tells the place of each that was there.
    pub(crate) fn remove(
        &mut self,
        keys: &Keys,
        rows: impl Iterator<Item = usize>,
        mut removed: impl FnMut(Place),
    ) {
        match (self, keys) {
            (Self::Int64(index), Keys::Int64(keys)) => {
                for row in rows {
                    if let Some(old) = index.remove(keys.value(row)) {
                        removed(old);
                    }
                }
            }
            (Self::Rows(index), Keys::Rows(keys)) => {
                for row in rows {
                    if let Some(old) = index.remove(keys.row(row).data()) {
                        removed(old);
                    }
                }
                index.compact();
            }
            _ => unreachable!("keys are encoded by the encoder of their index"),
        }
    }
}

fn hash_int(key: i64) -> u64 {
    FixedState::with_seed(0).hash_one(key)
}

fn hash_bytes(key: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(key)
}

#[derive(Debug, Clone, Copy)]
struct Int64Entry {
    key: i64,
    place: Place,
}

/// Index of one Int64 column.
#[derive(Debug, Default)]
pub(crate) struct Int64Index {
    table: HashTable<Int64Entry>,
}

impl Int64Index {
    fn insert(&mut self, key: i64, place: Place) -> Option<Place> {
        let entry = self.table.entry(hash_int(key), |e| e.key == key, |entry| hash_int(entry.key));
        match entry {
            Entry::Occupied(mut found) => {
                Some(std::mem::replace(&mut found.get_mut().place, place))
            }
            Entry::Vacant(free) => {
                free.insert(Int64Entry { key, place });
                None
            }
        }
    }

    fn remove(&mut self, key: i64) -> Option<Place> {
        let found = self.table.find_entry(hash_int(key), |entry| entry.key == key).ok()?;
        Some(found.remove().0.place)
    }
}

#[derive(Debug, Clone, Copy)]
struct RowEntry {
    start: u64,
    len: u32,
    place: Place,
}

impl RowEntry {
    fn bytes<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.start as usize..][..self.len as usize]
    }
}

/// Index of row-encoded keys; the bytes lie in one arena.
#[derive(Debug, Default)]
pub(crate) struct RowIndex {
    table: HashTable<RowEntry>,
    arena: Vec<u8>,
    garbage: usize,
}

/// Garbage that is not worth a pass over the arena.
const GARBAGE_BYTES_MIN: usize = 1 << 20;

impl RowIndex {
    fn insert(&mut self, key: &[u8], place: Place) -> Option<Place> {
        let arena = &self.arena;
        let entry = self.table.entry(
            hash_bytes(key),
            |entry| entry.bytes(arena) == key,
            |entry| hash_bytes(entry.bytes(arena)),
        );
        match entry {
            Entry::Occupied(mut found) => {
                Some(std::mem::replace(&mut found.get_mut().place, place))
            }
            Entry::Vacant(free) => {
                let start = arena.len() as u64;
                free.insert(RowEntry { start, len: key.len() as u32, place });
                self.arena.extend_from_slice(key);
                None
            }
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<Place> {
        let arena = &self.arena;
        let found =
            self.table.find_entry(hash_bytes(key), |entry| entry.bytes(arena) == key).ok()?;
        self.garbage += key.len();
        Some(found.remove().0.place)
    }

    /// Copies the live keys when more than half of the arena is dead.
    fn compact(&mut self) {
        if self.garbage < GARBAGE_BYTES_MIN || self.garbage * 2 < self.arena.len() {
            return;
        }
        let mut arena = Vec::with_capacity(self.arena.len() - self.garbage);
        for entry in self.table.iter_mut() {
            let start = arena.len() as u64;
            arena.extend_from_slice(entry.bytes(&self.arena));
            entry.start = start;
        }
        self.arena = arena;
        self.garbage = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use std::collections::HashMap;
    use std::sync::Arc;

    #[test]
    fn row_index_equals_a_map_through_compactions() {
        let encoder = KeyEncoder::new(&[DataType::Utf8], false).unwrap();
        let mut index = KeyIndex::new(&encoder);
        let mut model: HashMap<String, Place> = HashMap::new();
        for round in 0..60_u32 {
            let names: Vec<String> =
                (0..2000).map(|i| format!("{:0>40}", (i * 7 + round * 1000) % 9000)).collect();
            let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(names.clone()))];
            let keys = encoder.encode(&columns).unwrap();
            let (mut seen, mut expected) = (Vec::new(), Vec::new());
            if round % 2 == 0 {
                let place = |row: usize| Place { file: round, pos: row as u32 };
                index.insert(&keys, (0..2000).map(|row| (row, place(row))), |p| seen.push(p));
                for (row, name) in names.into_iter().enumerate() {
                    expected.extend(model.insert(name, place(row)));
                }
            } else {
                index.remove(&keys, 0..2000, |place| seen.push(place));
                expected.extend(names.iter().filter_map(|name| model.remove(name)));
            }
            assert_eq!(seen, expected);
            assert_eq!(index.len(), model.len());
        }
    }
}
