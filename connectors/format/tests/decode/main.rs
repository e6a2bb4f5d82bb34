//! Messages to rows, through the public door.

mod debezium;
mod pitfalls;
mod plain;
mod random;
mod samples;
mod spec;
mod support;
