//! The Postgres wire.
//!
//! ```text
//! client ──TCP──► serve ──► WireHandlers ──► Session ──► Outcome ──► rows, tags, errors
//! ```
//!
//! **Invariant:** a connection owns one session; whatever a statement does to its connection, the
//! others and the engine go on.
//!
//! Not here: SQL. The wire knows statements as text and outcomes as rows.

mod binary_values;
mod connection;
mod copy;
mod copy_in;
mod extended;
mod listener;
mod parameters;
mod reply;
mod simple;
mod startup;
mod utf8;
mod wire_handlers;

pub use listener::serve;
