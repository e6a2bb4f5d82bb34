//! [`return_freed_memory`]: how long the allocator keeps what is freed.

#![expect(unsafe_code, reason = "the allocator's options are words of unchecked types")]

use std::sync::atomic::{AtomicBool, Ordering};

use tikv_jemalloc_ctl::raw;

/// Milliseconds within which freed pages are given back to the system: the allocator's default, and
/// what it is where memory is short.
const PLENTY_MS: isize = 10_000;
const SHORT_MS: isize = 100;

/// The option for arenas that will be made, and for all that there are.
const OPTIONS: [&[u8]; 2] = [b"arenas.dirty_decay_ms\0", b"arena.4096.dirty_decay_ms\0"];

static IS_SHORT: AtomicBool = AtomicBool::new(false);

/// Has the allocator give freed pages back soon, or after a while, which costs fewer page faults.
/// Without this, a process that moves rows to scratch files holds what batches came and went in
/// seconds beside what is live.
pub fn return_freed_memory(soon: bool) {
    if IS_SHORT.swap(soon, Ordering::Relaxed) == soon {
        return;
    }
    for option in OPTIONS {
        let time = if soon { SHORT_MS } else { PLENTY_MS };
        // SAFETY: both options are of type `ssize_t`.
        let set = unsafe { raw::write(option, time) };
        set.unwrap_or_else(|error| tracing::warn!(%error, "freed memory is kept as before"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_there() {
        // SAFETY: it is of type `ssize_t`.
        let time = || unsafe { raw::read::<isize>(OPTIONS[0]) }.unwrap();
        assert_eq!(time(), PLENTY_MS);
        return_freed_memory(true);
        assert_eq!(time(), SHORT_MS);
        return_freed_memory(false);
        assert_eq!(time(), PLENTY_MS);
        for option in OPTIONS {
            // SAFETY: as above.
            unsafe { raw::write(option, PLENTY_MS) }.unwrap();
        }
    }
}
