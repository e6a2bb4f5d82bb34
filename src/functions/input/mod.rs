//! The values that texts stand for, as PostgreSQL's input functions read them.

mod bytes;
mod interval;
mod invalid;
mod list;
mod number;
mod read;

pub use read::{has_input, read_text, read_texts};
