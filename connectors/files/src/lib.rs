//! Files as streams.
