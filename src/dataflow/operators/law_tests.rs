//! Laws of all operators: random changes, cut at random into batches and epochs.
//!
//! **Invariant:** `sum(outputs) == f(sum(inputs))` after every epoch, where `f` is a naive
//! function of this file; with restarts at random epochs, and over 1 to 3 instances by key.

mod aggregate;
mod datafusion;
mod join;
mod stream;
mod table;
