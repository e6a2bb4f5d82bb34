//! SQL text to bound statements.
