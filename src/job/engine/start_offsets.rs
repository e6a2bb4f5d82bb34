//! [`start_offsets`]: where a new job begins to read sources that tell another place every moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use frazil_connector_api::{Positions, Source};

use crate::catalog::{Catalog, Definition, Relation, RelationId};
use crate::dataflow::build_source;
use crate::env::Env;
use crate::error::{Error, Result};

/// Start offsets of the sources that a new relation reads itself and whose start depends on the
/// time (`latest`), by the relation that names the source.
///
/// They are decided once, before any worker reads, and are in the checkpoint that makes the
/// statement durable: a crash right after CREATE cannot move them.
///
/// # Errors
/// What the connector says; `Unavailable` if it is out of reach.
pub(super) async fn start_offsets(
    env: &Env,
    catalog: &Catalog,
    new: &Relation,
) -> Result<BTreeMap<RelationId, Positions>> {
    let mut sources: Vec<(RelationId, Arc<dyn Source>)> = Vec::new();
    if matches!(&*new.definition, Definition::Table(_)) {
        sources.extend(build_source(env, &new.definition)?.map(|source| (new.id, source)));
    }
    for read in read_sources(catalog, &new.depends_on) {
        sources.extend(build_source(env, &read.definition)?.map(|source| (read.id, source)));
    }
    let mut starts = BTreeMap::new();
    for (relation, source) in sources.into_iter().filter(|(_, source)| source.starts_now()) {
        let asked = tokio::task::spawn_blocking(move || source.start_positions()).await;
        let asked = asked.map_err(|error| Error::internal(error.to_string()))?;
        starts.insert(relation, asked?);
    }
    Ok(starts)
}

/// The sources that relations are or, as views that nothing runs for, read.
fn read_sources(catalog: &Catalog, of: &[RelationId]) -> Vec<Arc<Relation>> {
    let mut found: Vec<Arc<Relation>> = Vec::new();
    for relation in of.iter().filter_map(|id| catalog.by_id(*id)) {
        match &*relation.definition {
            Definition::Source(_) => found.push(Arc::clone(relation)),
            Definition::LogicalView(_) => found.extend(read_sources(catalog, &relation.depends_on)),
            _ => {}
        }
    }
    found
}
