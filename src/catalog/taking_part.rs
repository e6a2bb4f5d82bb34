//! [`Catalog::taking_part`]: which relations an epoch concerns.

use std::collections::BTreeSet;

use super::{Catalog, Definition, RelationId};

impl Catalog {
    /// Relations with input, and all that has to be at the same epoch with them: what follows them,
    /// and the errors tables of the sources that they read, whose rows come with theirs.
    pub fn taking_part(
        &self,
        with_input: impl IntoIterator<Item = RelationId>,
    ) -> BTreeSet<RelationId> {
        let mut found = BTreeSet::new();
        let mut waiting: Vec<RelationId> = with_input.into_iter().collect();
        while let Some(id) = waiting.pop() {
            if !found.insert(id) {
                continue;
            }
            waiting.extend(self.dependents(id).iter().map(|follower| follower.id));
            waiting.extend(self.errors_of_sources(id));
        }
        found
    }

    /// The errors tables of the sources that a relation names, also in plain views.
    fn errors_of_sources(&self, id: RelationId) -> Vec<RelationId> {
        let Some(relation) = self.by_id(id) else { return Vec::new() };
        let mut errors = Vec::new();
        for input in relation.depends_on.iter().filter_map(|input| self.by_id(*input)) {
            match &*input.definition {
                Definition::Source(_) => {
                    let dependents = self.dependents(input.id);
                    let tables =
                        dependents.iter().filter(|it| matches!(*it.definition, Definition::Errors));
                    errors.extend(tables.map(|table| table.id));
                }
                Definition::LogicalView(_) => errors.extend(self.errors_of_sources(input.id)),
                _ => {}
            }
        }
        errors
    }
}
