//! [`AskedFlushes`]: the flushes that readers of one worker have not answered.

use std::collections::{BTreeMap, BTreeSet};

use super::fragment::Fragment;
use crate::catalog::RelationId;

/// The flushes that readers of one worker have not answered, each with the relations that are read.
#[derive(Debug, Default)]
pub(crate) struct AskedFlushes {
    waiting: Vec<(u64, BTreeSet<RelationId>)>,
}

impl AskedFlushes {
    /// Asks the readers of some relations to answer flush `number`.
    pub(crate) fn ask(
        &mut self,
        number: u64,
        relations: Vec<RelationId>,
        fragments: &BTreeMap<RelationId, Fragment>,
    ) {
        let asked = relations.iter().filter_map(|relation| fragments.get(relation));
        asked.flat_map(|fragment| &fragment.sources).for_each(|source| source.handle.flush(number));
        self.waiting.push((number, relations.into_iter().collect()));
    }

    /// Takes what has been answered since the last call. A relation that reads nothing here, or
    /// that is gone, has nothing to wait for.
    pub(crate) fn take_answered(
        &mut self,
        fragments: &BTreeMap<RelationId, Fragment>,
    ) -> Vec<(u64, Vec<RelationId>)> {
        let mut answered = Vec::new();
        for (number, relations) in &mut self.waiting {
            let done = |relation: &RelationId| {
                let fragment = fragments.get(relation);
                let mut sources = fragment.into_iter().flat_map(|fragment| &fragment.sources);
                sources.all(|source| source.flushed >= *number)
            };
            let fresh: Vec<RelationId> = relations.extract_if(.., |it| done(it)).collect();
            if !fresh.is_empty() {
                answered.push((*number, fresh));
            }
        }
        self.waiting.retain(|(_, relations)| !relations.is_empty());
        answered
    }
}
