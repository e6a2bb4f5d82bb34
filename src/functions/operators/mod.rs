//! What an operator between two types means, after PostgreSQL's `pg_operator`.

mod interval;
mod json;
mod numeric;
mod operand;
mod planner;
mod sides;
mod time;

pub use operand::{literal, refuse_texts_beside_others};
pub(super) use planner::Operators;
