//! [`reconcile`]: compares what a checkpoint stored with what this program computes.
//!
//! ```text
//! identity in the manifest   = identity now    restored from its state
//!                            ≠                 a view is rebuilt, anything else fails by name
//! ```
//!
//! State belongs to the plan that wrote it. When a later version of the program plans a query in
//! another way, the stored accumulators and join sides would mean something else without any error.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::{Catalog, ChangelogMode, Definition, Relation, RelationId};
use crate::checkpoint::Manifest;
use crate::dataflow::CheckedRelation;
use crate::error::{Error, ErrorKind};
use crate::job::relation_errors::follows;
use crate::plan::FragmentPlan;

/// What becomes of a relation whose identity is another one than stored.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing is stored that could be wrong.
    Kept,
    /// Its plan starts empty and is backfilled; followers see the difference to the rows it kept.
    Rebuilt,
    /// As `Rebuilt`, but nothing it kept can be used: what follows it starts over, too.
    StartsOver,
    /// It cannot be computed again from what is here.
    Fails(&'static str),
}

/// Decides for each relation, in the order of their ids, how it starts, and brings `manifest` to
/// that: state that nobody will use is dropped, failures are entered, identities are those of this
/// program. Returns the views that are rebuilt.
pub(super) fn reconcile(
    catalog: &Catalog,
    relations: &[Arc<CheckedRelation>],
    manifest: &mut Manifest,
) -> BTreeSet<RelationId> {
    let (mut rebuilt, mut starting_over) = (BTreeSet::new(), BTreeSet::new());
    // A relation comes after those that it reads.
    for checked in relations {
        let relation = checked.relation();
        if manifest.failed.contains_key(&relation.id) {
            continue;
        }
        if let Some(error) = failed_input(catalog, relation, manifest) {
            manifest.failed.insert(relation.id, error);
            continue;
        }
        let Some(fragment) = checked.fragment() else { continue };
        let inputs_start_over = !fragment.reads.is_disjoint(&starting_over);
        let stored = manifest.catalog.fragments.get(&relation.id);
        if stored == Some(&fragment.identity) && !inputs_start_over {
            continue;
        }
        let keeps_rows = stored.is_some_and(|stored| stored.rows == fragment.identity.rows);
        let had_state = stored.is_none_or(|stored| !stored.operators.is_empty());
        let outcome = match &*relation.definition {
            Definition::Table(_) | Definition::Errors => {
                Outcome::Fails("its rows were stored in another form")
            }
            Definition::View(_) if reads_source(catalog, fragment) => {
                Outcome::Fails("its query is computed in another way now, and it reads a source")
            }
            Definition::View(_) if keeps_rows && relation.mode == ChangelogMode::Retract => {
                Outcome::Rebuilt
            }
            Definition::View(_) => Outcome::StartsOver,
            _ if had_state || inputs_start_over || !fragment.identity.operators.is_empty() => {
                Outcome::Fails("its query is computed in another way now")
            }
            _ => Outcome::Kept,
        };
        apply(outcome, relation, fragment, manifest, &mut rebuilt, &mut starting_over);
    }
    rebuilt
}

fn apply(
    outcome: Outcome,
    relation: &Relation,
    fragment: &FragmentPlan,
    manifest: &mut Manifest,
    rebuilt: &mut BTreeSet<RelationId>,
    starting_over: &mut BTreeSet<RelationId>,
) {
    let (id, name) = (relation.id, relation.name.as_str());
    match outcome {
        Outcome::Kept => {
            tracing::info!(relation = name, "the plan has changed; no state depends on it");
        }
        Outcome::Rebuilt => {
            tracing::warn!(relation = name, "the plan has changed: the view is rebuilt");
            let rows = fragment.identity.rows;
            manifest.retain_segments(id, |segment| Some(segment.operator) == rows);
            rebuilt.insert(id);
        }
        Outcome::StartsOver => {
            tracing::warn!(relation = name, "the plan has changed: the view starts over");
            manifest.state.remove(&id);
            rebuilt.insert(id);
            starting_over.insert(id);
        }
        Outcome::Fails(reason) => {
            tracing::error!(relation = name, reason, "the relation cannot continue");
            let message = format!("\"{name}\" cannot continue from its stored state: {reason}");
            manifest.failed.insert(id, Error::new(ErrorKind::Corrupt, message));
            // Its state stays that of the former plan.
            return;
        }
    }
    manifest.catalog.edit().fragments.insert(id, fragment.identity.clone());
}

fn failed_input(catalog: &Catalog, relation: &Relation, manifest: &Manifest) -> Option<Error> {
    // The bad messages of a failed table stay readable.
    if matches!(*relation.definition, Definition::Errors) {
        return None;
    }
    relation.depends_on.iter().find_map(|id| {
        let error = manifest.failed.get(id)?;
        Some(follows(&catalog.by_id(*id)?.name, error))
    })
}

fn reads_source(catalog: &Catalog, fragment: &FragmentPlan) -> bool {
    let mut read = fragment.reads.iter().filter_map(|id| catalog.by_id(*id));
    read.any(|relation| matches!(*relation.definition, Definition::Source(_)))
}

#[cfg(test)]
mod tests;
