//! Arguments to actions.
//!
//! ```text
//! frazil                  the shell, over an engine of its own or --connect
//! frazil serve            the engine behind the Postgres wire
//! frazil run FILE.sql…    statements, then progress, until all bounded input is done
//! ```

mod arguments;
mod definitions;
mod host;
mod main_action;
mod pipelines_dir;
mod progress;
mod run;
mod serve;
mod shell_action;

pub use main_action::main_action;
