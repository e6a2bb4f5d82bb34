//! The Nexmark auction: people, auctions and bids, 1 : 3 : 46.

mod columns;
mod feed;
mod projection;
mod table;

pub(crate) use feed::NexmarkFeed;
pub use feed::nexmark_batches;
pub(crate) use projection::Projection;
pub use table::{NexmarkTable, nexmark_schema};
