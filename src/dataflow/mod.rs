//! Incremental plan to running dataflow.

pub mod operators;
