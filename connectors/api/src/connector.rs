//! [`SourceConnector`] and [`SinkConnector`]: what `connector = '…'` names.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use uuid::Uuid;

#[cfg(doc)]
use crate::ConnectorError;
use crate::{Format, OptionSpec, Options, Result, SinkCommitter, SinkMode, Source};

/// Makes sources of one kind.
pub trait SourceConnector: Debug + Send + Sync {
    /// The name in `connector = '…'`, in lower case.
    fn name(&self) -> &str;

    /// All options that [`SourceConnector::build`] takes, beside `connector`.
    fn options(&self) -> &[OptionSpec];

    /// The words of INCLUDE for which its messages have a value.
    fn includes(&self) -> &[&str] {
        &[]
    }

    /// Makes the source that the options of a WITH clause describe. It must not ask the outside
    /// yet: the same source is made again on each worker and at each start.
    ///
    /// `schema` has the declared columns without those of INCLUDE. `format` is the statement's
    /// FORMAT, if it has one; see [`ConnectorError::needs_format`].
    ///
    /// # Errors
    /// `Config` for a wrong option, or a column or format that does not fit.
    fn build(
        &self,
        options: Options,
        schema: SchemaRef,
        format: Option<Arc<dyn Format>>,
    ) -> Result<Arc<dyn Source>>;
}

/// Makes sinks of one kind.
pub trait SinkConnector: Debug + Send + Sync {
    /// The name in `connector = '…'`, in lower case.
    fn name(&self) -> &str;

    /// All options that [`SinkConnector::build`] takes, beside `connector`.
    fn options(&self) -> &[OptionSpec];

    /// Makes the sink that the options of a WITH clause describe. It must not ask the outside
    /// before [`SinkCommitter::open`].
    ///
    /// `schema` has the columns of the changes. `id` names the sink for its whole life.
    ///
    /// # Errors
    /// `Config` for a wrong option, or columns or a mode that do not fit.
    fn build(
        &self,
        options: Options,
        schema: SchemaRef,
        mode: SinkMode,
        id: Uuid,
    ) -> Result<Box<dyn SinkCommitter>>;
}

/// Connectors that a program adds to those of the engine.
#[derive(Debug, Clone, Default)]
pub struct Connectors {
    sources: Vec<Arc<dyn SourceConnector>>,
    sinks: Vec<Arc<dyn SinkConnector>>,
}

impl Connectors {
    /// Adds a connector of sources. The engine's own connectors keep their names: one that is added
    /// under such a name is never found.
    #[must_use]
    pub fn with_source(mut self, connector: Arc<dyn SourceConnector>) -> Self {
        self.sources.push(connector);
        self
    }

    /// Adds a connector of sinks; names as in [`Connectors::with_source`].
    #[must_use]
    pub fn with_sink(mut self, connector: Arc<dyn SinkConnector>) -> Self {
        self.sinks.push(connector);
        self
    }

    /// Connectors of sources, in the order in which they were added.
    pub fn sources(&self) -> impl Iterator<Item = &dyn SourceConnector> {
        self.sources.iter().map(AsRef::as_ref)
    }

    /// Connectors of sinks, in the order in which they were added.
    pub fn sinks(&self) -> impl Iterator<Item = &dyn SinkConnector> {
        self.sinks.iter().map(AsRef::as_ref)
    }
}
