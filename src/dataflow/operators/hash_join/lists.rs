//! [`Lists`]: the entries of each key.

use crate::state::NO_SLOT;

/// Entries in a list a key. Each array is dense, since a batch goes through them at random.
///
/// `is_doubly_linked` is chosen once: without it nothing can be taken out.
#[derive(Debug)]
pub(super) struct Lists {
    /// First entry by key.
    heads: Vec<u32>,
    /// By entry.
    next: Vec<u32>,
    /// By entry; empty if nothing is ever taken out.
    previous: Vec<u32>,
    is_doubly_linked: bool,
}

impl Lists {
    /// No keys yet.
    pub(super) fn new(is_doubly_linked: bool) -> Self {
        Self { heads: Vec::new(), next: Vec::new(), previous: Vec::new(), is_doubly_linked }
    }

    /// Makes room for keys.
    pub(super) fn resize_keys(&mut self, count: usize) {
        self.heads.resize(count, NO_SLOT);
    }

    /// Makes room for entries.
    pub(super) fn resize_entries(&mut self, count: usize) {
        self.next.resize(count, NO_SLOT);
        if self.is_doubly_linked {
            self.previous.resize(count, NO_SLOT);
        }
    }

    /// Number of entries that there is room for.
    pub(super) fn entry_count(&self) -> usize {
        self.next.len()
    }

    /// First entry of a key, or [`NO_SLOT`].
    #[inline]
    pub(super) fn head(&self, key: u32) -> u32 {
        self.heads[key as usize]
    }

    /// The entry after another of its key, or [`NO_SLOT`].
    #[inline]
    pub(super) fn next(&self, entry: u32) -> u32 {
        self.next[entry as usize]
    }

    /// Puts entries before the others of their keys. One array a loop, so that the loads of one
    /// entry do not wait for those of another.
    pub(super) fn link(&mut self, entries: &[u32], keys: impl Iterator<Item = u32>) {
        for (entry, key) in entries.iter().zip(keys) {
            self.next[*entry as usize] = std::mem::replace(&mut self.heads[key as usize], *entry);
        }
        if !self.is_doubly_linked {
            return;
        }
        for entry in entries {
            self.previous[*entry as usize] = NO_SLOT;
            let after = self.next[*entry as usize];
            if after != NO_SLOT {
                self.previous[after as usize] = *entry;
            }
        }
    }

    /// Takes an entry out of the list of its key.
    pub(super) fn unlink(&mut self, entry: u32, key: u32) {
        debug_assert!(self.is_doubly_linked, "an append-only side takes nothing out");
        let (before, after) = (self.previous[entry as usize], self.next[entry as usize]);
        if before == NO_SLOT {
            self.heads[key as usize] = after;
        } else {
            self.next[before as usize] = after;
        }
        if after != NO_SLOT {
            self.previous[after as usize] = before;
        }
    }

    /// Memory in bytes.
    pub(super) fn state_bytes(&self) -> usize {
        (self.heads.capacity() + self.next.capacity() + self.previous.capacity()) * 4
    }
}
