//! SQL types, Arrow types, Postgres types.
