//! Integration tests of the Iceberg sink and reader, in one binary.

mod contract;
mod faults;
mod harness;
mod law;
mod readers;
