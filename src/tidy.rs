//! Keeps the floors: reads the tree and fails on what `ARCHITECTURE.md` forbids.
