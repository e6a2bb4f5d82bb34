//! Epochs made durable: the chain of manifests, and what is read from it after a crash.
//!
//! ```text
//! segments of all workers ─┐
//! committables of all sinks ├─► ONE manifest, put if absent ─► sinks commit ─► next
//! offsets of all sources  ──┘        (the commit point)
//! ```
//!
//! **Invariant:** manifests form a chain by sequence number, each created only if absent; a process
//! that loses the race for a number, or sees a higher fence than its own, stops.

mod earlier_form;
mod kept;
mod manifest;
mod manifests;
mod pipeline_record;
#[cfg(test)]
pub(crate) mod testing;

pub use kept::Kept;
pub use manifest::{Manifest, SinkRecord, StatementRecord, StoredCatalog};
pub use manifests::{ManifestBody, Manifests, removable};
pub use pipeline_record::{PipelineRecord, PipelineRun, PipelineRunState};
