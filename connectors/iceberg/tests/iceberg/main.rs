//! Integration tests of the Iceberg sink and reader, in one binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod faults;
mod harness;
mod law;
mod readers;
