//! [`Lists`]: the entries of each key.

use crate::env::Scratch;
use crate::error::Result;
use crate::state::{NO_SLOT, SlotColumn};

/// Entries in a list per key. Each column is dense, since a batch goes through them at random.
///
/// `is_doubly_linked` is chosen once: without it nothing can be taken out.
#[derive(Debug)]
pub(super) struct Lists {
    /// First entry by key.
    heads: SlotColumn<u32>,
    /// By entry.
    next: SlotColumn<u32>,
    /// By entry; empty if nothing is ever taken out.
    previous: SlotColumn<u32>,
    is_doubly_linked: bool,
}

impl Lists {
    /// No keys yet.
    pub(super) fn new(is_doubly_linked: bool) -> Self {
        let (heads, next, previous) = Default::default();
        Self { heads, next, previous, is_doubly_linked }
    }

    /// Makes room for keys.
    pub(super) fn resize_keys(&mut self, count: usize) {
        self.heads.grow(count, NO_SLOT);
    }

    /// Makes room for entries.
    pub(super) fn resize_entries(&mut self, count: usize) {
        self.next.grow(count, NO_SLOT);
        if self.is_doubly_linked {
            self.previous.grow(count, NO_SLOT);
        }
    }

    /// Number of entries that there is room for.
    pub(super) fn entry_count(&self) -> usize {
        self.next.count()
    }

    /// First entry of a key, or [`NO_SLOT`].
    #[inline]
    pub(super) fn head(&self, key: u32) -> u32 {
        self.heads.get(key)
    }

    /// The entry after another of its key, or [`NO_SLOT`].
    #[inline]
    pub(super) fn next(&self, entry: u32) -> u32 {
        self.next.get(entry)
    }

    /// Puts entries before the others of their keys. One array a loop, so that the loads of one
    /// entry do not wait for those of another.
    pub(super) fn link(&mut self, entries: &[u32], keys: impl Iterator<Item = u32>) {
        for (entry, key) in entries.iter().zip(keys) {
            self.next.set(*entry, self.heads.replace(key, *entry));
        }
        if !self.is_doubly_linked {
            return;
        }
        for entry in entries {
            self.previous.set(*entry, NO_SLOT);
            let after = self.next.get(*entry);
            if after != NO_SLOT {
                self.previous.set(after, *entry);
            }
        }
    }

    /// Takes an entry out of the list of its key.
    pub(super) fn unlink(&mut self, entry: u32, key: u32) {
        debug_assert!(self.is_doubly_linked, "an append-only side takes nothing out");
        let (before, after) = (self.previous.get(entry), self.next.get(entry));
        if before == NO_SLOT {
            self.heads.set(key, after);
        } else {
            self.next.set(before, after);
        }
        if after != NO_SLOT {
            self.previous.set(after, before);
        }
    }

    /// As [`SlotColumn::move_cold`].
    pub(super) fn move_cold(&mut self, wanted: usize, scratch: &Scratch) -> Result<usize> {
        let mut moved = 0;
        for column in [&mut self.previous, &mut self.next, &mut self.heads] {
            moved += column.move_cold(wanted.saturating_sub(moved), scratch)?;
        }
        Ok(moved)
    }

    /// Bytes in scratch files.
    pub(super) fn cold_bytes(&self) -> usize {
        [&self.heads, &self.next, &self.previous].map(SlotColumn::cold_bytes).iter().sum()
    }

    /// Memory in bytes, without what is in scratch files.
    pub(super) fn state_bytes(&self) -> usize {
        [&self.heads, &self.next, &self.previous].map(SlotColumn::state_bytes).iter().sum()
    }
}
