//! [`ShardRange`] and [`shard_of`]: how rows are spread over workers.
//!
//! ```text
//! hash of a row's key ──highest 8 bits──► shard ──(number of workers)──► worker
//! ```
//!
//! **Invariant:** these functions never change: stored rows carry their shard.

use serde::{Deserialize, Serialize};

/// Number of shards. More workers than this leave some without rows.
pub const SHARDS: usize = 256;

/// Shards `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardRange {
    /// The first.
    pub start: u16,
    /// The first after them.
    pub end: u16,
}

impl ShardRange {
    /// All shards.
    pub const ALL: Self = Self { start: 0, end: SHARDS as u16 };
    /// No shard.
    pub const NONE: Self = Self { start: 0, end: 0 };

    /// One shard.
    pub fn one(shard: u8) -> Self {
        Self { start: shard.into(), end: u16::from(shard) + 1 }
    }

    /// True if there is no shard in it.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// True if a shard is in it.
    #[inline]
    pub fn contains(self, shard: u8) -> bool {
        (self.start..self.end).contains(&shard.into())
    }

    /// True if all shards of another range are in it.
    pub fn covers(self, other: Self) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }

    /// True if some shard is in both.
    pub fn meets(self, other: Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.start < other.end && other.start < self.end
    }

    /// The least range that covers both.
    pub fn union(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Self { start: self.start.min(other.start), end: self.end.max(other.end) },
        }
    }
}

/// The shard of a key: from the high bits of its hash, since hash tables use the low ones.
#[inline]
pub fn shard_of(hash: u64) -> u8 {
    (hash >> 56) as u8
}

/// The worker that owns a shard.
#[inline]
pub fn owner_of(shard: u8, workers: usize) -> usize {
    usize::from(shard) * workers / SHARDS
}

/// The shards that a worker owns.
pub fn shards_of(worker: usize, workers: usize) -> ShardRange {
    let first = |worker: usize| (worker * SHARDS).div_ceil(workers.max(1)).min(SHARDS) as u16;
    ShardRange { start: first(worker), end: first(worker + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_has_one_owner_and_workers_own_alike() {
        for workers in (1..=40).chain([255, 256, 257, 1000]) {
            let mut owned = 0;
            for worker in 0..workers {
                let shards = shards_of(worker, workers);
                assert_eq!(shards.start, owned, "{worker} of {workers}");
                owned = shards.end;
                for shard in shards.start..shards.end {
                    assert_eq!(owner_of(shard as u8, workers), worker);
                }
                let count = usize::from(shards.end - shards.start);
                assert!(count <= SHARDS.div_ceil(workers), "{worker} of {workers}: {count}");
            }
            assert_eq!(owned, ShardRange::ALL.end);
        }
    }

    #[test]
    fn ranges_meet_where_they_share_a_shard() {
        let range = |start, end| ShardRange { start, end };
        assert!(range(0, 3).meets(range(2, 5)));
        assert!(!range(0, 3).meets(range(3, 5)));
        assert!(!ShardRange::ALL.meets(ShardRange::NONE));
        assert!(range(0, 5).covers(range(1, 5)));
        assert!(!range(1, 5).covers(range(0, 5)));
        assert_eq!(ShardRange::NONE.union(range(4, 6)).union(range(1, 2)), range(1, 6));
        assert!(ShardRange::one(255).contains(255));
    }
}
