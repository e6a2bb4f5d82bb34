//! [`Bits`]: a flag for each slot.

/// A flag for each slot, in an eighth of the memory of `Vec<bool>`.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    count: usize,
}

impl Bits {
    /// Number of flags.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Adds a flag.
    pub(super) fn push(&mut self, flag: bool) {
        if self.count.is_multiple_of(64) {
            self.words.push(0);
        }
        self.count += 1;
        self.set((self.count - 1) as u32, flag);
    }

    /// Makes room for flags, which are not set.
    pub(super) fn grow(&mut self, count: usize) {
        self.words.resize(count.div_ceil(64), 0);
        self.count = count;
    }

    /// A flag, which must be there.
    #[inline]
    pub(super) fn get(&self, slot: u32) -> bool {
        self.words[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    /// Sets a flag; gives what it was.
    #[inline]
    pub(super) fn set(&mut self, slot: u32, flag: bool) -> bool {
        let word = &mut self.words[slot as usize / 64];
        let before = *word >> (slot % 64) & 1 == 1;
        *word = *word & !(1 << (slot % 64)) | u64::from(flag) << (slot % 64);
        before
    }

    /// Memory in bytes.
    pub(super) fn state_bytes(&self) -> usize {
        self.words.capacity() * 8
    }
}
