//! A shop's database, as the change stream that Debezium makes of it.
//!
//! ```text
//! snapshot: r r r r …
//! then cycles of 100 messages: 40 c, 45 u, 6 × (d, tombstone), 1 × (d, tombstone, c)
//!
//! blocks of 40 rows:   │ 0 │ 1 │ 2 │ … │ B-1 │ B │ B+1 │ …      B blocks are the snapshot
//! cycle k:   deletes in block k ──┘   inserts block B+k ──┘     updates: any earlier block
//! slot in a block:  0..6 are deleted, 6 changes its primary key, 7..40 are updated
//! ```
//!
//! A row's content is a function of its number and of the last message about it, so that nothing
//! has to be remembered. **Invariant:** rows that others refer to (slots 7..40) are never deleted.

mod clock;
mod event;
mod message;
mod row;
mod stream;
mod table;
mod truth;

pub(crate) use stream::ShopStream;
pub use table::ShopTable;
pub use truth::{ShopRow, shop_truth};
