//! Tests of parsing, binding and planning from text.

mod binding;
mod identity;
mod law;
mod mutated;
mod parsing;
mod planning;
mod plans;
mod support;
