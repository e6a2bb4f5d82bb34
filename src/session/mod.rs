//! One client's statements.
