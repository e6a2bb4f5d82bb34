//! JSON text to columns, driven by the table's schema.
//!
//! ```text
//! read_row: {"id": 7, "name": "x", "more": …}     Rows
//!             │        │            └ skipped      ├ Column Int64 ◄─ "7"
//!             └────────┴── raw token of the value ─┴ Column Text  ◄─ "x"
//! ```
//!
//! The cursor finds the tokens; a column reads its own token from the text, so that numbers are
//! exact, errors can show the value, and nested values can be kept as text.

mod base64_forms;
mod canonical;
mod column;
mod cursor;
mod decimal;
mod fault;
mod fields;
mod placeholder;
mod row;
mod rows;
mod temporal;
mod token;
mod uuid_text;

pub use canonical::canonical_json;
pub(crate) use cursor::{Cursor, Name, Syntax};
pub(crate) use placeholder::{Placeholder, PlaceholderRule};
pub(crate) use row::{read_row, read_whole_row};
pub(crate) use rows::{Broken, Columns, Rows, column_of};
pub use uuid_text::read_uuid;
