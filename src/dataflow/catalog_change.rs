//! [`CatalogChange`]: what statements make and drop, bound, planned and checked.
//!
//! ```text
//! process 0:    coordinator ──put(n)──► CatalogChanges ──take(n)──► each of its workers
//! another one:  text in the command ──► the first worker that takes n plans it for all
//! ```
//!
//! **Invariant:** a process plans a statement once. Its workers build from the same description.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::control::{Recovery, StepText};
use super::node_operators::CheckedRelation;
use crate::catalog::RelationId;
use crate::error::{Error, Result};

/// A step of a change of the catalog.
#[derive(Debug, Clone)]
pub enum Step {
    /// Makes a relation and builds its fragment.
    Make(Arc<CheckedRelation>),
    /// Drops a relation and its fragment.
    Drop(RelationId),
    /// Builds the fragment of a relation again, from what a manifest has.
    Resume(Arc<CheckedRelation>),
    /// Drops the fragment of a relation that stays.
    Stop(RelationId),
}

/// What statements make and drop, in their order.
#[derive(Debug, Clone, Default)]
pub struct CatalogChange {
    /// The steps.
    pub steps: Vec<Step>,
}

impl CatalogChange {
    /// The relations that it makes.
    pub fn made(&self) -> impl Iterator<Item = &Arc<CheckedRelation>> {
        self.steps.iter().filter_map(|step| match step {
            Step::Make(made) => Some(made),
            _ => None,
        })
    }

    /// The same for other processes.
    pub fn text(&self) -> Vec<StepText> {
        let text = |step: &Step| match step {
            Step::Drop(relation) => Some(StepText::Drop(*relation)),
            Step::Resume(resumed) => Some(StepText::Resume(resumed.relation().id)),
            Step::Stop(relation) => Some(StepText::Stop(*relation)),
            Step::Make(made) => {
                let relation = made.relation();
                // What a statement makes beside its relation has no text of its own.
                let is_named = !relation.sql.is_empty();
                is_named.then(|| StepText::Make {
                    id: relation.id,
                    sql: relation.sql.clone(),
                    forms: relation.forms,
                })
            }
        };
        self.steps.iter().filter_map(text).collect()
    }
}

/// Plans a change from its text.
pub type Planner =
    Box<dyn FnMut(&[StepText], Option<&Recovery>) -> Result<CatalogChange> + Send + 'static>;

/// Where the workers of a process take the changes of the catalog, by their numbers.
pub struct CatalogChanges {
    /// Workers of the process.
    workers: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    /// In process 0 all changes are put.
    planner: Option<Planner>,
    /// Changes and the number of workers that have taken them.
    changes: BTreeMap<u64, (Result<Arc<CatalogChange>>, usize)>,
}

impl CatalogChanges {
    /// For `workers` workers; `planner` plans what is not put.
    pub fn new(workers: usize, planner: Option<Planner>) -> Self {
        Self { workers, inner: Mutex::new(Inner { planner, changes: BTreeMap::new() }) }
    }

    /// Gives a change to the workers, before they get the command that names it.
    pub fn put(&self, number: u64, change: Arc<CatalogChange>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.changes.insert(number, (Ok(change), 0));
    }

    /// Takes a change. Each worker calls this once for a number.
    ///
    /// # Errors
    /// What planning says, for each worker of the process alike.
    pub(crate) fn take(
        &self,
        number: u64,
        text: &[StepText],
        recovery: Option<&Recovery>,
    ) -> Result<Arc<CatalogChange>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { planner, changes } = &mut *inner;
        let (change, taken) = changes.entry(number).or_insert_with(|| {
            let planned = match planner {
                Some(plan) => plan(text, recovery).map(Arc::new),
                None => Err(Error::internal("a change of the catalog was not put")),
            };
            (planned, 0)
        });
        *taken += 1;
        let (change, is_last) = (change.clone(), *taken == self.workers);
        if is_last {
            changes.remove(&number);
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::types::TypeForms;

    #[test]
    fn a_process_plans_a_change_once_for_all_its_workers() {
        let planned = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&planned);
        let planner: Planner = Box::new(move |steps, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            let step = |step: &StepText| match step {
                StepText::Drop(relation) => Ok(Step::Drop(*relation)),
                _ => Err(Error::internal("cannot be planned")),
            };
            Ok(CatalogChange { steps: steps.iter().map(step).collect::<Result<_>>()? })
        });
        let changes = CatalogChanges::new(3, Some(planner));
        let (drop, make) = (
            [StepText::Drop(RelationId(7))],
            [StepText::Make { id: RelationId(8), sql: String::new(), forms: TypeForms::Own }],
        );
        for _ in 0..3 {
            let change = changes.take(1, &drop, None).unwrap();
            assert!(matches!(change.steps[..], [Step::Drop(RelationId(7))]));
            assert!(changes.take(2, &make, None).is_err());
        }
        assert_eq!(planned.load(Ordering::SeqCst), 2);
        // What is put is not planned, and nothing is kept that all have taken.
        changes.put(3, Arc::new(CatalogChange::default()));
        (0..3).for_each(|_| assert!(changes.take(3, &make, None).unwrap().steps.is_empty()));
        assert_eq!(planned.load(Ordering::SeqCst), 2);
        assert!(changes.inner.lock().unwrap().changes.is_empty());
    }
}
