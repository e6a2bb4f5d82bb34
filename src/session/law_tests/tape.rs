//! [`Tape`]: random numbers that choose, such that smaller numbers choose simpler things.

use proptest::prelude::*;

/// The numbers of a tape.
pub(super) type Numbers = Vec<u16>;

/// Numbers for one statement.
pub(super) fn numbers() -> impl Strategy<Value = Numbers> {
    prop::collection::vec(any::<u16>(), 8..72)
}

/// Reads choices from numbers; behind their end everything is the first, simplest choice.
///
/// So a script shrinks as its numbers do, and stays a valid script.
#[derive(Debug)]
pub(super) struct Tape<'a> {
    numbers: std::slice::Iter<'a, u16>,
}

impl<'a> Tape<'a> {
    /// A tape at its start.
    pub(super) fn new(numbers: &'a [u16]) -> Self {
        Self { numbers: numbers.iter() }
    }

    /// A number below `count`.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        self.numbers.next().map_or(0, |number| usize::from(*number) % count)
    }

    /// One of them; the first is the simplest.
    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.pick(choices.len())]
    }

    /// True in so many of a hundred cases; false is simpler.
    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.pick(100) >= 100 - percent
    }
}
