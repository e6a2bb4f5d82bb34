//! Bytes to changes: the formats.
