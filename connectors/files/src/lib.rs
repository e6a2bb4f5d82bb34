//! Files as streams of lines: `connector = 'files'`.
//!
//! Its options are [`OPTIONS`].
//!
//! A split is a file and its name is the path; an offset is the byte where the next line begins.
//! Files whose names begin with `.` or `_` are left out, as writers call files so that they have
//! not finished. Every line is one message without a key; blank lines are skipped.
//!
//! **Invariant:** files only grow. A file that is shorter than its offset is a `Target` error; one
//! that was replaced by a longer one cannot be told from one that has grown.

mod line_reader;
mod listing;
mod reader;
mod source;

pub use source::{Files, INCLUDES, OPTIONS, build_files};
