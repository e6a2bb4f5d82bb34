//! How process 0 reads the rows of tables and views that workers of other processes keep.
//!
//! ```text
//! session ─► RemoteRows ─► worker 0 ─exchange─► the shard's worker ─► its rows at the epoch
//!    ▲                                                   │
//!    └────────────── RowsChunk ◄──exchange── worker 0 ◄──┘
//! ```
//!
//! **Invariant:** a request stands for itself. A scan is a sequence of requests, each with the
//! place where the last one ended, so that a statement that ends early leaves nothing behind.

mod remote_rows;
mod rows_request;

pub use remote_rows::RemoteRows;
pub(crate) use rows_request::{AskedRows, RowsChunk, RowsRequest};
