//! SQL types, Arrow types, Postgres types.
//!
//! ```text
//! NUMERIC(12,2) ──arrow_type──► Decimal128(12, 2) ◄──pg_type / of_pg──► Type::NUMERIC (1700)
//! ```
//!
//! **Invariant:** SQL types with different operators have different Arrow types, so that the Arrow
//! type of an expression tells its SQL type.
//!
//! **Invariant:** stored columns have only types that [`stored_type`] gives: text is `Utf8`,
//! timestamps are in microseconds, integers are signed.

mod forms;
mod pg;
mod sql;
mod stored;

pub use forms::TypeForms;
pub use pg::{JSONB, UUID, is_beyond_arrow, of_pg, pg_name, pg_type, type_name};
pub use sql::{arrow_type, time_precision};
pub use stored::stored_type;
