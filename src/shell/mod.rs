//! The interactive shell, and the same for statements that are piped in.
//!
//! ```text
//! keys ──► prompt ──► statements ──► Client (embedded session | Postgres wire) ──► table_view
//! ```
//!
//! **Invariant:** the shell sees an engine through [`Client`] alone, so that it behaves the same
//! over its own engine and over a server.

mod client;
mod embedded;
mod interactive;
mod meta_command;
mod piped;
mod prompt;
mod remote;
mod runner;
mod statements;
mod table_view;

pub use client::{Client, ClientReply, Failure, Table};
pub use embedded::EmbeddedClient;
pub use interactive::interactive;
pub use piped::piped;
pub use remote::RemoteClient;
pub use table_view::{Layout, write_table};
