//! The functions that SQL can call.
//!
//! **Invariant:** one table lists them; who plans or binds looks here and nowhere else.
//!
//! Not here: what only sessions may call, such as `current_schema()`, since its value differs
//! between clients.

mod modulo;
mod table;

pub use table::{Functions, INCREMENTAL_AGGREGATES, functions};
