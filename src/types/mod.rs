//! SQL types, Arrow types, Postgres types.
//!
//! ```text
//! NUMERIC(12,2) ──arrow_type──► Decimal128(12, 2) ──postgres_name/oid──► "numeric(12,2)", 1700
//! ```
//!
//! **Invariant:** stored columns have only types that [`stored_type`] gives: text is `Utf8`,
//! timestamps are in microseconds, integers are signed.

mod postgres;
mod sql;
mod stored;

pub use postgres::{postgres_name, postgres_oid};
pub use sql::{arrow_type, time_precision};
pub use stored::stored_type;
