//! Laws of the contract that every connector is tested against.
//!
//! These functions panic when a law is broken: they are called from the tests of connectors.
//! [`TextFormat`] stands in for a real format there.

mod exactly_once;
mod reading;
mod sink_run;
mod text_format;

pub use exactly_once::{CommitFault, SinkTarget, assert_exactly_once, law_schema};
pub use reading::{Reading, assert_restartable, read_all};
pub use sink_run::SinkRun;
pub use text_format::TextFormat;
