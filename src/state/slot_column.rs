//! [`SlotColumn`]: a value for each slot, beside a key table or a list of entries.

use std::borrow::Cow;
use std::ops::Range;

use hashbrown::HashMap;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::env::{Scratch, ScratchValues};
use crate::error::Result;

/// Values of a chunk, a power of two.
const CHUNK: usize = if cfg!(test) { 16 } else { 1 << 15 };

/// So many changed values of a chunk in a scratch file bring it back to the heap.
const CHANGED_MAX: usize = CHUNK / 4;

/// The changes of a chunk are written to its scratch file once they take such a part of its bytes.
const CHANGED_PART: usize = if cfg!(test) { 4 } else { 64 };

/// A value that can be kept in a scratch file.
pub trait SlotValue: Copy + FromBytes + IntoBytes + Immutable {}

impl<T: Copy + FromBytes + IntoBytes + Immutable> SlotValue for T {}

/// A value for each slot, in chunks of the heap or of scratch files.
///
/// Slots are given in the order in which keys come, so that a chunk holds what came about the same
/// time: a load of new keys does not touch the chunks of old ones. A chunk in a scratch file is not
/// written in place, because small writes cost the file system far more than reads. A hash table in
/// the heap keeps its changed values, until a new copy of the chunk is written or the chunk moves
/// back to the heap. A column that grows copies the values of its first chunk only, and wastes less
/// than a chunk.
///
/// # Panics
/// All that reads or changes values panics if the disk cannot be read, which fails the job.
#[derive(Debug)]
pub struct SlotColumn<T> {
    chunks: Vec<Chunk<T>>,
    count: usize,
    /// Bytes of chunks and changes in the heap, kept up to date: they are asked for often.
    heap_bytes: usize,
    cold_bytes: usize,
}

#[derive(Debug)]
enum Chunk<T> {
    Heap(Vec<T>),
    Scratch {
        values: ScratchValues<T>,
        /// What differs from `values`, and what was loaded because it is asked for often.
        changed: HashMap<u16, T>,
    },
}

/// A value or values that were read from a scratch file.
fn read<V>(values: std::io::Result<V>) -> V {
    values.unwrap_or_else(|error| panic!("cannot read a scratch file: {error}"))
}

impl<T: SlotValue> Chunk<T> {
    /// All values of a chunk.
    fn all(&self) -> Cow<'_, [T]> {
        match self {
            Chunk::Heap(values) => Cow::Borrowed(values),
            Chunk::Scratch { values, changed } => {
                let mut values = read(values.all());
                changed.iter().for_each(|(at, value)| values[usize::from(*at)] = *value);
                Cow::Owned(values)
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Chunk::Heap(values) => values.capacity() * size_of::<T>(),
            Chunk::Scratch { changed, .. } => changed.allocation_size(),
        }
    }
}

impl<T> Default for SlotColumn<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), count: 0, heap_bytes: 0, cold_bytes: 0 }
    }
}

fn split(slot: u32) -> (usize, u16) {
    (slot as usize / CHUNK, (slot as usize % CHUNK) as u16)
}

impl<T: SlotValue> SlotColumn<T> {
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
            values.resize(length, value);
            self.heap_bytes += (values.capacity() - capacity) * size_of::<T>();
            self.count = index * CHUNK + length;
        }
    }

    /// The value of a slot.
    #[inline]
    pub fn get(&self, slot: u32) -> T {
        let (chunk, at) = split(slot);
        match &self.chunks[chunk] {
            Chunk::Heap(values) => values[usize::from(at)],
            Chunk::Scratch { values, changed } => match changed.get(&at) {
                Some(value) => *value,
                None => read(values.get(at.into())),
            },
        }
    }

    /// Sets the value of a slot.
    #[inline]
    pub fn set(&mut self, slot: u32, value: T) {
        let (chunk, at) = split(slot);
        match &mut self.chunks[chunk] {
            Chunk::Heap(values) => values[usize::from(at)] = value,
            Chunk::Scratch { .. } => self.change(chunk, at, value),
        }
    }

    /// Sets the value of a slot and gives what it was.
    #[inline]
    pub fn replace(&mut self, slot: u32, value: T) -> T {
        let before = self.get(slot);
        self.set(slot, value);
        before
    }

    /// Changes the value of a slot.
    #[inline]
    pub fn update(&mut self, slot: u32, change: impl FnOnce(&mut T)) {
        let mut value = self.get(slot);
        change(&mut value);
        self.set(slot, value);
    }

    /// Brings values that will be asked for several times, or changed, into the heap.
    pub fn load(&mut self, slots: &[u32]) {
        if self.cold_bytes == 0 {
            return;
        }
        for slot in slots {
            let (chunk, at) = split(*slot);
            if let Chunk::Scratch { values, changed } = &self.chunks[chunk]
                && !changed.contains_key(&at)
            {
                let value = read(values.get(at.into()));
                self.change(chunk, at, value);
            }
        }
    }

    /// Takes note of the value of a chunk in a scratch file.
    fn change(&mut self, chunk: usize, at: u16, value: T) {
        let chunk = &mut self.chunks[chunk];
        let before = chunk.heap_bytes();
        if let Chunk::Scratch { values, changed } = chunk {
            changed.insert(at, value);
            if changed.len() > CHANGED_MAX {
                self.cold_bytes -= values.count() * size_of::<T>();
                *chunk = Chunk::Heap(chunk.all().into_owned());
            }
        }
        self.heap_bytes = self.heap_bytes + chunk.heap_bytes() - before;
    }

    /// The values of slots that follow each other.
    pub fn range(&self, slots: Range<u32>) -> impl Iterator<Item = T> + '_ {
        let (start, end) = (slots.start as usize, slots.end as usize);
        let chunks = start / CHUNK..end.div_ceil(CHUNK).max(start / CHUNK);
        chunks.flat_map(move |chunk| {
            let part = |at: usize| at.saturating_sub(chunk * CHUNK).min(CHUNK);
            self.part(chunk, part(start)..part(end))
        })
    }

    fn part(&self, chunk: usize, part: Range<usize>) -> Vec<T> {
        match &self.chunks[chunk] {
            Chunk::Heap(values) => values[part].to_vec(),
            cold @ Chunk::Scratch { .. } if part.len() > CHUNK / 64 => cold.all()[part].to_vec(),
            Chunk::Scratch { .. } => {
                let first = chunk * CHUNK;
                part.map(|at| self.get((first + at) as u32)).collect()
            }
        }
    }

    /// Moves full chunks to scratch files, the oldest first, and then writes what changed in moved
    /// ones, until about `wanted` bytes have left the heap. Gives how many have.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses them; what was moved before stays there.
    pub fn move_cold(&mut self, wanted: usize, scratch: &Scratch) -> Result<usize> {
        let full = self.count / CHUNK;
        let chunk_bytes = CHUNK * size_of::<T>();
        let mut moved = 0;
        for is_changed in [false, true] {
            for index in 0..full {
                if moved >= wanted {
                    return Ok(moved);
                }
                let chunk = &self.chunks[index];
                let heap_bytes = chunk.heap_bytes();
                let is_warm = matches!(chunk, Chunk::Heap(_));
                if is_warm == is_changed || is_changed && heap_bytes * CHANGED_PART < chunk_bytes {
                    continue;
                }
                let values = scratch.keep_values(&chunk.all())?;
                self.cold_bytes += if is_warm { chunk_bytes } else { 0 };
                self.chunks[index] = Chunk::Scratch { values, changed: HashMap::new() };
                self.heap_bytes -= heap_bytes;
                moved += heap_bytes;
            }
        }
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

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// However chunks are moved, it reads as a vector, and its bytes are what its chunks have.
    #[test]
    fn is_a_vector() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().join("scratch"));
        let mut random = StdRng::seed_from_u64(11);
        let (mut column, mut wanted) = (SlotColumn::<u64>::default(), Vec::new());
        for step in 0..4000 {
            match random.random_range(0..8) {
                0 => {
                    let count = wanted.len() + random.random_range(0..10);
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
                3 if !wanted.is_empty() => {
                    let end = random.random_range(0..=wanted.len());
                    let start = random.random_range(0..=end);
                    let values = column.range(start as u32..end as u32);
                    assert!(values.eq(wanted[start..end].iter().copied()));
                }
                4 if !wanted.is_empty() => {
                    column.load(&[random.random_range(0..wanted.len()) as u32]);
                }
                _ if !wanted.is_empty() => {
                    let slot = random.random_range(0..wanted.len());
                    assert_eq!(column.replace(slot as u32, step), wanted[slot]);
                    column.update(slot as u32, |value| *value += 1);
                    wanted[slot] = step + 1;
                }
                _ => {}
            }
            assert_eq!(column.count(), wanted.len());
            let bytes = column.chunks.iter().map(Chunk::heap_bytes).sum::<usize>();
            assert_eq!(column.heap_bytes, bytes);
            let is_cold = |chunk: &&Chunk<u64>| matches!(chunk, Chunk::Scratch { .. });
            let cold = column.chunks.iter().filter(is_cold).count();
            assert_eq!(column.cold_bytes(), cold * CHUNK * 8);
        }
        assert!((0..wanted.len()).all(|slot| column.get(slot as u32) == wanted[slot]));
        column.move_cold(usize::MAX, &scratch).unwrap();
        assert_eq!(column.cold_bytes(), wanted.len() / CHUNK * CHUNK * 8);
        assert!(column.range(0..wanted.len() as u32).eq(wanted.iter().copied()));
    }
}
