//! The contract between the engine and everything outside.
//!
//! ```text
//! bytes ──Decoder──► Decoded ──► engine ──► ChangeBatch ──SinkWriter──► Fragment
//!        (SourceReader)                  (net changes of some epochs)
//!                         Fragments ──SinkCommitter──► Committable ──commit──► target
//! ```
//!
//! **Invariant:** no I/O, no DataFusion, nothing of the engine: a connector depends on this crate
//! alone, and the engine meets a connector only through these types.
//!
//! Not here: the algebra of changes (`src/change`), which only the engine needs.

mod change;
mod checkpoint_number;
pub mod conformance;
mod connector;
mod decoded;
mod error;
mod fence;
mod format;
mod include;
mod intake;
mod message;
mod options;
mod position;
mod schema_change;
mod sink;
mod source;
mod split;
mod upsert;

// A connector whose messages a format decodes needs nothing else of Arrow.
pub use arrow::datatypes::SchemaRef;
pub use change::ChangeBatch;
pub use checkpoint_number::CheckpointNumber;
pub use connector::{Connectors, SinkConnector, SourceConnector};
pub use decoded::Decoded;
pub use error::{ConnectorError, ConnectorErrorKind, Result, Retry};
pub use fence::Fence;
pub use format::{Decoder, Format, Including};
pub use include::Include;
pub use intake::Intake;
pub use message::{About, BadMessage, Headers, Message};
pub use options::{OptionDefault, OptionSpec, Options};
pub use position::{Position, Positions};
pub use schema_change::{FieldDifference, OnSchemaChange, SchemaChange};
pub use sink::{
    CommitMark, CommitOutcome, Committable, Fragment, LastCommit, Resume, SinkCommitter, SinkMode,
    SinkStatus, SinkWriter,
};
pub use source::{Source, SourceBatch, SourcePoll, SourceReader};
pub use split::SplitId;
pub use upsert::{UpsertBatch, UpsertOp, origins_schema};
