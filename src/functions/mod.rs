//! The functions that SQL can call.
