//! [`KeyIndex`]: the rows of one segment by the hash of their key.

use arrow::array::{ArrayRef, RecordBatch};

use crate::change::hash_rows;
use crate::error::Result;

/// Finds the rows of one batch by key.
///
/// Sorted words of half a hash and a row number: 8 bytes per row, and a lookup is a binary search.
/// Half a hash is enough for a segment of some thousand rows; who looks a key up compares it with
/// what is found.
#[derive(Debug)]
pub(super) struct KeyIndex {
    key: Vec<usize>,
    entries: Vec<u64>,
}

impl KeyIndex {
    /// Indexes a batch by key columns.
    ///
    /// # Errors
    /// `Internal` for a key type that Arrow's row format does not hold.
    pub(super) fn try_new(rows: &RecordBatch, key: &[usize]) -> Result<Self> {
        let columns: Vec<ArrayRef> = key.iter().map(|at| rows.column(*at).clone()).collect();
        let hashes = hash_rows(&columns, rows.num_rows())?;
        let entry = |(row, hash): (usize, &u64)| (hash & HASH_HALF) | row as u64;
        let mut entries: Vec<u64> = hashes.iter().enumerate().map(entry).collect();
        entries.sort_unstable();
        Ok(Self { key: key.to_vec(), entries })
    }

    /// True if it indexes these columns.
    pub(super) fn is_by(&self, key: &[usize]) -> bool {
        self.key == key
    }

    /// The rows whose key has this hash, and a few others at most.
    pub(super) fn rows_of(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let half = hash & HASH_HALF;
        let first = self.entries.partition_point(|entry| *entry < half);
        let found =
            self.entries[first..].iter().take_while(move |entry| **entry & HASH_HALF == half);
        #[expect(clippy::cast_possible_truncation, reason = "the low half is the row number")]
        found.map(|entry| *entry as u32)
    }

    /// Memory in bytes.
    pub(super) fn state_bytes(&self) -> usize {
        self.entries.capacity() * 8
    }
}

/// The half of a hash that an entry keeps.
const HASH_HALF: u64 = 0xffff_ffff_0000_0000;
