//! [`SlotColumn`]: a value for each slot, beside a key table or a list of entries.

use std::ops::{Index, IndexMut};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::env::{Scratch, ScratchValues};
use crate::error::Result;

/// Values of a chunk, a power of two.
const CHUNK: usize = if cfg!(test) { 16 } else { 1 << 15 };

/// A value for each slot, in chunks of the heap or of scratch files.
///
/// Slots are given in the order in which keys come, so that a chunk holds what came about the same
/// time: a load of new keys does not touch the chunks of old ones. A chunk that was moved to a
/// scratch file stays there; it is read and written in place. Growing copies no value, but for
/// those of the first chunk, and wastes less than a chunk.
#[derive(Debug)]
pub struct SlotColumn<T> {
    chunks: Vec<Chunk<T>>,
    count: usize,
    /// Bytes of chunks in the heap, kept up to date: they are asked for often.
    heap_bytes: usize,
    cold_bytes: usize,
    /// All chunks before this one were moved.
    first_warm: usize,
}

#[derive(Debug)]
enum Chunk<T> {
    Heap(Vec<T>),
    Scratch(ScratchValues<T>),
}

impl<T> Default for SlotColumn<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), count: 0, heap_bytes: 0, cold_bytes: 0, first_warm: 0 }
    }
}

impl<T: Clone + FromBytes + IntoBytes + Immutable> SlotColumn<T> {
    /// Number of values.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds a value.
    pub fn push(&mut self, value: T) {
        self.grow(self.count + 1, value);
    }

    /// Adds values until there are `count`.
    pub fn grow(&mut self, count: usize, value: T) {
        while self.count < count {
            let index = self.count / CHUNK;
            if index == self.chunks.len() {
                self.chunks.push(Chunk::Heap(Vec::new()));
            }
            // Only full chunks are moved.
            let Chunk::Heap(values) = &mut self.chunks[index] else { return };
            let capacity = values.capacity();
            let length = (count - index * CHUNK).min(CHUNK);
            if length > capacity {
                // The first chunk is as small as its table; the others are filled soon.
                let room = if index == 0 { (capacity * 2).clamp(length, CHUNK) } else { CHUNK };
                values.reserve_exact(room - values.len());
            }
            values.resize(length, value.clone());
            self.heap_bytes += (values.capacity() - capacity) * size_of::<T>();
            self.count = index * CHUNK + length;
        }
    }

    /// Moves full chunks to scratch files, the oldest first, until about `wanted` bytes have left
    /// the heap. Gives how many have.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses them; what was moved before stays there.
    pub fn move_cold(&mut self, wanted: usize, scratch: &Scratch) -> Result<usize> {
        let mut moved = 0;
        while moved < wanted && (self.first_warm + 1) * CHUNK <= self.count {
            let chunk = &mut self.chunks[self.first_warm];
            if let Chunk::Heap(values) = chunk {
                let (heap, cold) = (values.capacity(), values.len());
                *chunk = Chunk::Scratch(scratch.keep_values(values)?);
                moved += heap * size_of::<T>();
                self.cold_bytes += cold * size_of::<T>();
            }
            self.first_warm += 1;
        }
        self.heap_bytes -= moved;
        Ok(moved)
    }

    /// Memory in bytes, without what is in scratch files.
    pub fn state_bytes(&self) -> usize {
        self.heap_bytes + self.chunks.capacity() * size_of::<Chunk<T>>()
    }

    /// Bytes in scratch files.
    pub fn cold_bytes(&self) -> usize {
        self.cold_bytes
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Index<u32> for SlotColumn<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: u32) -> &T {
        let (chunk, at) = (slot as usize / CHUNK, slot as usize % CHUNK);
        match &self.chunks[chunk] {
            Chunk::Heap(values) => &values[at],
            Chunk::Scratch(values) => &values[at],
        }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> IndexMut<u32> for SlotColumn<T> {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut T {
        let (chunk, at) = (slot as usize / CHUNK, slot as usize % CHUNK);
        match &mut self.chunks[chunk] {
            Chunk::Heap(values) => &mut values[at],
            Chunk::Scratch(values) => &mut values[at],
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// However chunks are moved, it reads as a vector.
    #[test]
    fn is_a_vector() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().join("scratch"));
        let mut random = StdRng::seed_from_u64(11);
        let (mut column, mut wanted) = (SlotColumn::<u64>::default(), Vec::new());
        for step in 0..2000 {
            match random.random_range(0..4) {
                0 => {
                    let count = wanted.len() + random.random_range(0..40);
                    column.grow(count, step);
                    wanted.resize(count, step);
                }
                1 => {
                    column.push(step);
                    wanted.push(step);
                }
                2 if random.random_ratio(1, 8) => {
                    let before = column.state_bytes();
                    let moved = column.move_cold(random.random_range(0..2000), &scratch).unwrap();
                    assert_eq!(column.state_bytes(), before - moved);
                }
                _ if !wanted.is_empty() => {
                    let slot = random.random_range(0..wanted.len());
                    column[slot as u32] += step;
                    wanted[slot] += step;
                }
                _ => {}
            }
            assert_eq!(column.count(), wanted.len());
        }
        scratch.set_resident_max(0);
        scratch.trim();
        assert!((0..wanted.len()).all(|slot| column[slot as u32] == wanted[slot]));
        column.move_cold(usize::MAX, &scratch).unwrap();
        let chunks = column.chunks.capacity() * size_of::<Chunk<u64>>();
        assert!(column.state_bytes() - chunks <= CHUNK * 8, "the last chunk alone is in the heap");
        assert_eq!(column.cold_bytes(), wanted.len() / CHUNK * CHUNK * 8);
        assert!((0..wanted.len()).all(|slot| column[slot as u32] == wanted[slot]));
    }
}
