//! Frazil.
