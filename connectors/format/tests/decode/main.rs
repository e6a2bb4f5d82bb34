//! Messages to rows, through the public door.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

mod debezium;
mod mutated;
mod pitfalls;
mod plain;
mod random;
mod samples;
mod schema_changes;
mod spec;
mod support;
