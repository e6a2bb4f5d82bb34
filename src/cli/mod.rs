//! Arguments to actions.
