//! The functions that SQL can call.
//!
//! **Invariant:** one table lists them; who plans or binds looks here and nowhere else.
//!
//! Not here: what only sessions may call, such as `current_schema()`, since its value differs
//! between clients.

mod bounded;
mod date_part;
mod float;
mod input;
mod json_functions;
mod json_text;
mod modulo;
mod next_numbers;
mod operators;
mod random_uuid;
mod replacement;
mod table;
mod target;
mod text;
mod time_pattern;
mod zone;

pub use bounded::{bounded, joined_texts};
pub use float::{checked_float, float_of_rank, float_rank};
pub use input::{has_input, read_text, read_texts};
pub use next_numbers::{NumberSource, next_numbers, with_source};
pub use operators::{literal, refuse_texts_beside_others};
pub use replacement::{
    checked, checked_minus, input, is_replacement, text, whole_float, without_zone,
};
pub use table::{Functions, INCREMENTAL_AGGREGATES, add_scalar_functions, functions};
pub use target::{in_target_types, target_schema};
pub use text::{has_text, write_value};
pub use time_pattern::strftime;
