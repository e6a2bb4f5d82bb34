//! Tests of parsing, binding and planning from text.

mod binding;
mod parsing;
mod planning;
mod plans;
mod support;
