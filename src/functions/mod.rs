//! The functions that SQL can call.
//!
//! **Invariant:** one table lists them; who plans or binds looks here and nowhere else.
//!
//! Not here: what only sessions may call, such as `current_schema()`, since its value differs
//! between clients.

mod bounded;
mod date_part;
mod float;
mod modulo;
mod next_numbers;
mod replacement;
mod table;
mod text;
mod time_pattern;
mod zone;

pub use bounded::{bounded, joined_texts};
pub use float::{checked_float, float_of_rank, float_rank};
pub use next_numbers::{NumberSource, next_numbers, with_source};
pub use replacement::{bytes, checked, checked_minus, text, whole_float, without_zone};
pub use table::{Functions, INCREMENTAL_AGGREGATES, add_scalar_functions, functions};
pub use text::{has_text, write_value};
pub use time_pattern::strftime;
