//! [`on_large_stack`]: room for recursion over a statement's tree and plan.

/// Stack of the threads that plan and run queries, and of [`on_large_stack`]. Only what is used of
/// it takes memory.
pub const LARGE_STACK_BYTES: usize = 64 << 20;

/// What [`on_large_stack`] wants to find free, or else takes a new stack.
const FREE_BYTES: usize = LARGE_STACK_BYTES / 2;

/// Runs a step that recurses as deep as a statement is: on this stack if enough of it is free, else
/// on one of its own. The threads of the workers and of the runtime have small stacks.
pub fn on_large_stack<T>(step: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(FREE_BYTES, LARGE_STACK_BYTES, step)
}
