//! Incremental plan to running dataflow on Timely workers.
//!
//! ```text
//! source thread ─► feed ─► route ─► operator ─► … ─► tap ─► the next fragment's feed
//!                                                    └────► snapshots that sessions read
//! ```
//!
//! Timestamp = epoch; one item on a stream is a batch. The coordinator (`job`) closes epochs by
//! command; a frontier that has passed an epoch is the only barrier.
//! **Invariant:** only `adapter` and `route` know Timely and operators both; only `build` and
//! `node_operators` know `plan`; operators are synchronous and know neither.

mod adapter;
mod asked_flushes;
mod build;
mod catalog_change;
mod charges;
mod connect;
mod context;
mod control;
mod errors_table;
mod fragment;
mod node_operators;
pub mod operators;
mod packet;
mod placement;
mod reads;
mod route;
mod segments;
mod sink;
mod source;
mod tap;
mod worker;

pub use catalog_change::{CatalogChange, CatalogChanges, Planner, Step};
pub use connect::{build_sink, build_source, check_catalog};
pub use control::{
    BACKFILL_EPOCHS, CatchUpProgress, Command, FragmentProgress, PublishedRows, Recovery, Report,
    SourceOffsets, StepText,
};
pub use node_operators::CheckedRelation;
pub use reads::RemoteRows;
pub(crate) use reads::{AskedRows, RowsRequest};
pub use source::FieldNotice;
pub use worker::{Event, ProcessShared, Request, run_worker};
