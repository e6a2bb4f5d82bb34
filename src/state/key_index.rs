//! [`KeyIndex`]: the rows of one segment by the hash of their key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    /// Memory of all indexes of the relation in bytes: readers make them, and nobody else knows.
    all_bytes: Arc<AtomicUsize>,
}

impl KeyIndex {
    /// Indexes a batch by key columns; adds its memory to `all_bytes` while it lives.
    ///
    /// # Errors
    /// `Internal` for a key type that Arrow's row format does not hold.
    pub(super) fn try_new(
        rows: &RecordBatch,
        key: &[usize],
        all_bytes: &Arc<AtomicUsize>,
    ) -> Result<Self> {
        let columns: Vec<ArrayRef> = key.iter().map(|at| rows.column(*at).clone()).collect();
        let hashes = hash_rows(&columns, rows.num_rows())?;
        let entry = |(row, hash): (usize, &u64)| (hash & HASH_HALF) | row as u64;
        let mut entries: Vec<u64> = hashes.iter().enumerate().map(entry).collect();
        entries.sort_unstable();
        all_bytes.fetch_add(entries.capacity() * 8, Ordering::Relaxed);
        Ok(Self { key: key.to_vec(), entries, all_bytes: Arc::clone(all_bytes) })
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
}

impl Drop for KeyIndex {
    fn drop(&mut self) {
        self.all_bytes.fetch_sub(self.entries.capacity() * 8, Ordering::Relaxed);
    }
}

/// The half of a hash that an entry keeps.
const HASH_HALF: u64 = 0xffff_ffff_0000_0000;
