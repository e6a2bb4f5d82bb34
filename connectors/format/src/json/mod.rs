//! JSON text to columns, driven by the table's schema.
//!
//! ```text
//! RowSeed: {"id": 7, "name": "x", "more": …}     Rows
//!            │        │            └ skipped      ├ Column Int64 ◄─ "7"
//!            └────────┴── raw token of the value ─┴ Column Text  ◄─ "x"
//! ```
//!
//! serde_json finds the tokens; a column reads its own token from the text, so that numbers are
//! exact, errors can show the value, and nested values can be kept as text.

mod column;
mod decimal;
mod fault;
mod placeholder;
mod row_seed;
mod rows;
mod temporal;
mod token;

pub(crate) use placeholder::{Placeholder, PlaceholderRule};
pub(crate) use row_seed::RowSeed;
pub(crate) use rows::Rows;
