//! RESUME in the coordinator: what a failed relation is started from.
//!
//! ```text
//! relation                         starts from                   followers see
//! table, or view of sources only   its state and offsets         what comes after it
//! view of tables and views         its inputs' rows, as CREATE   the difference to its former rows
//! what failed with these, and      its state                     what comes after it
//!   reads nothing else
//! ```
//!
//! The manifest has a failed relation as it was at the last checkpoint before it failed. What
//! failed at the same time and reads only what is resumed continues from there: all that it missed
//! is still to come. A view that also reads what went on meanwhile is rebuilt once its inputs run
//! again; a sink that does cannot be, since what it has written is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use frazil_connector_api::Fence;
use tokio::sync::oneshot;

use crate::catalog::{Definition, Relation, RelationId};
use crate::checkpoint::Manifest;
use crate::dataflow::{CheckedRelation, Recovery};
use crate::error::{Error, ErrorKind, Result};
use crate::job::applying::{Applying, Ddl};
use crate::job::coordinator::Coordinator;
use crate::job::message::{Applied, Reply};
use crate::job::relation_errors::dropped;
use crate::plan::FragmentPlan;

/// What a RESUME starts.
pub(super) struct Resumption {
    /// Relations, and whether each is rebuilt; inputs before those that read them.
    pub(super) members: Vec<(Arc<CheckedRelation>, bool)>,
    /// Views that can be rebuilt once these run.
    pub(super) later: Vec<RelationId>,
    /// What failed with these and is not resumed, and why.
    pub(super) notices: Vec<String>,
    /// What the workers start from.
    pub(super) recovery: Recovery,
}

/// What a RESUME starts, while it is planned.
pub(super) struct Group<'a> {
    manifest: &'a Manifest,
    members: BTreeMap<RelationId, Arc<CheckedRelation>>,
    root: RelationId,
    /// True if the root is rebuilt.
    is_rebuilt: bool,
    /// True if rows of the root are stored as it keeps them now.
    keeps_rows: bool,
    /// Views that can be rebuilt once the members run.
    later: BTreeSet<RelationId>,
    /// What failed along with the members and is not resumed.
    left_out: Vec<Arc<Relation>>,
}

impl Coordinator {
    /// Takes a RESUME. What runs no fragment is answered at once, the rest once it is durable.
    pub(in crate::job) fn resume(
        &mut self,
        root: RelationId,
        begun: oneshot::Sender<()>,
        reply: Reply<Applied>,
    ) {
        let relation = self.catalog.by_id(root).cloned();
        let is_source =
            relation.as_ref().filter(|it| matches!(*it.definition, Definition::Source(_)));
        if let Some(source) = is_source {
            let _ = reply.send(self.readers_of(source));
        } else if !self.checkpointer.has_failed(root) && self.try_sink_again(root) {
            // Its fragment runs.
            let _ = reply.send(Ok(Applied::default()));
        } else {
            self.applying.push_back(Applying::resume(Ddl::new(reply, None), begun, root));
        }
    }

    /// Has a sink try again that an error of its target has stopped; true if it was.
    pub(super) fn try_sink_again(&mut self, relation: RelationId) -> bool {
        let was_stopped = self.sinks.resume(relation);
        if was_stopped {
            self.state.clear_failure(relation);
            for slot in self.sinks.slots().iter().filter(|slot| slot.relation == relation) {
                self.sinks.recover(slot, &self.env, &self.state, &self.done.0);
            }
        }
        was_stopped
    }

    /// True for a sink whose log could not be read at the start.
    fn lacks_log(&self, relation: &Relation) -> bool {
        relation.definition.sink().is_some() && !self.sinks.has(relation.id)
    }

    /// Plans how a relation is started again.
    ///
    /// # Errors
    /// `JobFailed` if it has not failed, or cannot be started.
    pub(super) fn plan_resume(&self, root: RelationId) -> Result<Resumption> {
        let manifest = self.checkpointer.manifest();
        let group = self.group(root, &manifest)?;
        let is_followed = group.members.len() > 1;
        let recovery = group.recovery(is_followed);
        let notices = group.left_out.iter().map(|relation| {
            format!(
                "\"{}\" is not resumed: what it reads has changed since its state was stored; \
                 drop it and create it again",
                relation.name
            )
        });
        let (notices, later) = (notices.collect(), group.later.into_iter().collect());
        let members = group.members.into_iter();
        let is_rebuilt = |id| group.is_rebuilt && id == root;
        let members = members.map(|(id, checked)| (checked, is_rebuilt(id))).collect();
        Ok(Resumption { members, later, notices, recovery })
    }

    /// What a RESUME of `root` starts, by the manifest.
    ///
    /// # Errors
    /// As [`Coordinator::plan_resume`].
    pub(super) fn group<'a>(&self, root: RelationId, manifest: &'a Manifest) -> Result<Group<'a>> {
        let relation = self.catalog.by_id(root).cloned();
        let relation = relation.ok_or_else(dropped)?;
        let noun = relation.definition.noun();
        let Some(error) = manifest.failed.get(&root) else {
            let message = format!("{noun} \"{}\" has not failed", relation.name);
            return Err(
                Error::new(ErrorKind::JobFailed, message).with_hint("SHOW JOBS shows what has")
            );
        };
        let Some(checked) = self.planned.get(&root).cloned() else {
            let message = format!("{noun} \"{}\" cannot be resumed", relation.name);
            return Err(Error::job_failed(message, error)
                .with_hint("drop it, and create it again by a statement that this version knows"));
        };
        let Some(fragment) = checked.fragment() else {
            return Err(Error::internal("a relation without a fragment has failed"));
        };
        let is_rebuilt = self.is_rebuilt(&relation, fragment, manifest)?;
        let stored = self.stored_catalog.fragments.get(&root);
        let keeps_rows = stored.is_some_and(|stored| stored.rows == fragment.identity.rows);
        let mut group = Group {
            manifest,
            members: BTreeMap::from([(root, Arc::clone(&checked))]),
            root,
            is_rebuilt,
            keeps_rows,
            later: BTreeSet::new(),
            left_out: Vec::new(),
        };
        self.add_followers(&mut group);
        Ok(group)
    }

    /// The failed jobs that read a source: each is resumed by itself.
    fn readers_of(&self, source: &Relation) -> Result<Applied> {
        let reads = |id: &RelationId| {
            let fragment = self.planned.get(id).and_then(|checked| checked.fragment());
            fragment.is_some_and(|fragment| fragment.reads.contains(&source.id))
        };
        let manifest = self.checkpointer.manifest();
        let failed = &manifest.failed;
        let later: Vec<_> = failed.keys().copied().filter(reads).collect();
        if later.is_empty() {
            let message = format!("no job that reads source \"{}\" has failed", source.name);
            return Err(
                Error::new(ErrorKind::JobFailed, message).with_hint("SHOW JOBS shows what has")
            );
        }
        Ok(Applied { later, ..Applied::default() })
    }

    /// True if the relation that RESUME names is rebuilt, false if it starts from its state.
    fn is_rebuilt(
        &self,
        relation: &Relation,
        plan: &FragmentPlan,
        manifest: &Manifest,
    ) -> Result<bool> {
        let (name, noun) = (&relation.name, relation.definition.noun());
        let refused = |why: &str, hint: &str| {
            let message = format!("{noun} \"{name}\" cannot be resumed: {why}");
            Err(Error::new(ErrorKind::JobFailed, message).with_hint(hint))
        };
        let inputs = self.inputs(plan);
        if let Some(input) = self.failed_among(&inputs, manifest) {
            let why = format!("\"{}\", which it reads, has failed", input.name);
            return refused(&why, &format!("run {}", resume_statement(input)));
        }
        let is_stored = self.stored_catalog.fragments.get(&relation.id) == Some(&plan.identity);
        match &*relation.definition {
            Definition::Errors => refused("it belongs to what it is named after", "resume that"),
            Definition::Table(_) if is_stored => Ok(false),
            Definition::Table(_) => refused(
                "its rows were stored in another form",
                "drop it with CASCADE, and create it again",
            ),
            Definition::View(_) if plan.reads.len() == inputs.len() => Ok(true),
            Definition::View(_) if inputs.is_empty() && is_stored => Ok(false),
            Definition::View(_) => refused(
                "it reads a source from the place where it stopped, and what it reads beside it, \
                 or its plan, has changed since",
                "drop it with CASCADE, and create it again",
            ),
            _ if self.lacks_log(relation) => refused(
                "its pending changes could not be read when the engine started",
                "look at SHOW JOBS for the reason; start the engine again when it is mended",
            ),
            _ if inputs.is_empty() && is_stored => Ok(false),
            _ => refused(
                "rows that it has not written have changed since",
                "drop it, and create it again with existing_rows = 'keep'",
            ),
        }
    }

    /// Adds what failed along with the root and can continue, views that can be rebuilt
    /// afterwards, and what cannot be resumed.
    fn add_followers(&self, group: &mut Group<'_>) {
        // A relation has a higher id than those that it reads.
        for id in group.manifest.failed.keys().copied() {
            let Some(checked) = self.planned.get(&id) else { continue };
            let Some(plan) = checked.fragment().filter(|_| id != group.root) else { continue };
            let inputs = self.inputs(plan);
            if inputs.iter().all(|input| !group.members.contains_key(input)) {
                continue;
            }
            let is_stored = self.stored_catalog.fragments.get(&id) == Some(&plan.identity);
            let is_whole = is_stored && !self.lacks_log(checked.relation());
            if is_whole && group.can_continue(id, &inputs) {
                group.members.insert(id, Arc::clone(checked));
                continue;
            }
            let fails = |input: &&RelationId| {
                let is_failed = group.manifest.failed.contains_key(input);
                is_failed && !group.members.contains_key(input)
            };
            // What reads another failed one is resumed along with that.
            if inputs.iter().any(|input| fails(&input)) {
                continue;
            }
            let is_view = matches!(*checked.relation().definition, Definition::View(_));
            if is_view && plan.reads.len() == inputs.len() {
                group.later.insert(id);
                continue;
            }
            group.left_out.push(Arc::clone(checked.relation()));
        }
    }

    /// The first of some relations that has failed.
    pub(super) fn failed_among(
        &self,
        inputs: &BTreeSet<RelationId>,
        manifest: &Manifest,
    ) -> Option<&Arc<Relation>> {
        let mut failed = inputs.iter().filter(|input| manifest.failed.contains_key(input));
        failed.find_map(|input| self.catalog.by_id(*input))
    }

    /// The tables and views that a fragment reads.
    pub(super) fn inputs(&self, plan: &FragmentPlan) -> BTreeSet<RelationId> {
        let is_source = |id: &RelationId| {
            let relation = self.catalog.by_id(*id);
            relation.is_some_and(|it| matches!(*it.definition, Definition::Source(_)))
        };
        plan.reads.iter().copied().filter(|id| !is_source(id)).collect()
    }

    /// Relations that are resumed have not failed for the time being.
    pub(super) fn begin_again(&mut self, relations: &[Arc<Relation>]) {
        self.state.begin_starting(relations, false);
    }

    /// Resumed relations are failed as before, those without a new error with the old one.
    pub(super) fn fail_again(&mut self, relations: &[Arc<Relation>]) {
        let manifest = self.checkpointer.manifest();
        let failed = &manifest.failed;
        for relation in relations {
            if let (None, Some(error)) = (self.state.failure(relation.id), failed.get(&relation.id))
            {
                self.set_failure(relation.id, error.clone());
            }
        }
    }
}

/// The statement that starts a failed relation again.
pub(super) fn resume_statement(relation: &Relation) -> String {
    format!("ALTER {} {} RESUME", relation.definition.noun().to_uppercase(), relation.name)
}

impl Group<'_> {
    /// True if a relation stays failed that has failed along with the members.
    pub(super) fn leaves_out(&self, id: RelationId) -> bool {
        self.left_out.iter().any(|relation| relation.id == id)
    }

    /// True if a failed relation that reads `inputs` alone can continue from its state: it and they
    /// are stored as they were at one checkpoint, and they emit all that came since.
    fn can_continue(&self, id: RelationId, inputs: &BTreeSet<RelationId>) -> bool {
        let at = |id| self.manifest.failed_at.get(&id).copied().unwrap_or(self.manifest.epoch);
        let emits = |input: &RelationId| {
            let has_rows = !self.is_rebuilt || *input != self.root || self.keeps_rows;
            self.members.contains_key(input) && at(*input) == at(id) && has_rows
        };
        inputs.iter().all(emits)
    }

    /// What the workers start the members from.
    fn recovery(&self, is_followed: bool) -> Recovery {
        let root = self.members.get(&self.root).and_then(|checked| checked.fragment());
        let rows = root.and_then(|fragment| fragment.identity.rows);
        let segments = self.manifest.segments().filter(|segment| {
            let is_member = self.members.contains_key(&segment.relation);
            let is_rebuilt = self.is_rebuilt && segment.relation == self.root;
            is_member && (!is_rebuilt || (is_followed && Some(segment.operator) == rows))
        });
        let offsets = self.manifest.offsets.iter();
        let offsets = offsets.filter(|(relation, _)| self.members.contains_key(relation));
        let only_root = |is: bool| if is { BTreeSet::from([self.root]) } else { BTreeSet::new() };
        Recovery {
            segments: segments.cloned().collect(),
            offsets: offsets.map(|(relation, offsets)| (*relation, offsets.clone())).collect(),
            rebuilt: only_root(self.is_rebuilt),
            followed: only_root(self.is_rebuilt && is_followed),
            ..recovery()
        }
    }
}

/// Of no relation.
fn recovery() -> Recovery {
    Recovery {
        resumes: true,
        segments: Vec::new(),
        offsets: BTreeMap::new(),
        rebuilt: BTreeSet::new(),
        followed: BTreeSet::new(),
        failed: Vec::new(),
        fence: Fence::default(),
        last_epoch: (0, 0),
    }
}
