//! Incremental plan to dataflow.
//!
//! ```text
//! plan node            in front of it        operator
//! Scan                 -                     an input
//! Filter, Project      -                     on the worker where the rows are
//! Union                -                     none: streams are put together
//! Aggregate            route by group        HashAggregate
//! Join                 route by key          HashJoin
//! TopN                 route to worker 0     TopN
//! (end of a view)      route by upsert key   Materialize
//! (table with a key)   route by key          UpsertTable
//! ```
//!
//! **Invariant:** the dataflow is a function of the plan and the numbers of workers, so that every
//! worker builds the same one. State is found by the [`OperatorId`] of its operator.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use frazil_connector_api::{ChangeBatch, Decoded, Positions, SinkMode, Source};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator as _;
use timely::dataflow::operators::{Concatenate, Probe};
use timely::dataflow::{ProbeHandle, Scope};

use super::adapter::{Input, Packets, SharedOperator, add_operator, epoch_of};
use super::charges::FragmentCharges;
use super::connect::build_source;
use super::context::{FragmentContext, StoredOperator, WorkerContext};
use super::control::{BACKFILL_EPOCHS, FragmentProgress, PublishedRows};
use super::fragment::{BackfillRows, EarlyState, Fragment, RelationInput, SourceInput};
use super::node_operators::{CheckedRelation, hash_aggregate, hash_join, is_append_only, top_n};
use super::operators::{ErrorsTable, Filter, Materialize, Operator, Project, UpsertTable};
use super::packet::{Feed, Packet};
use super::placement::{Placement, Route};
use super::route::add_route;
use super::segments;
use super::sink::{SinkCollect, followed_by_key};
use super::source::{FieldNotices, ReaderConfig, SourceHandle};
use super::tap::Tap;
use crate::catalog::{Catalog, Definition, ErrorsRetention, Relation, RelationId, TableDef};
use crate::config::Config;
use crate::env::{self, Env};
use crate::error::{Error, ErrorKind, Result, caught};
use crate::plan::{IncrementalPlan, Node, OperatorIds, rows_operator};
use crate::state::{
    MemoryAccount, NewestRows, OperatorId, RowsSnapshot, SegmentRef, ShardRows, SnapshotStore,
    StateTable, table_rows,
};

/// What a worker builds with.
pub(crate) struct Builder<'a> {
    pub(crate) config: &'a Config,
    pub(crate) env: &'a Env,
    /// Reads what is stored.
    pub(crate) tokio: &'a tokio::runtime::Handle,
    pub(crate) catalog: &'a Catalog,
    pub(crate) snapshots: &'a Arc<SnapshotStore>,
    pub(crate) memory: &'a Arc<MemoryAccount>,
    pub(crate) context: &'a WorkerContext,
    /// Taps of the relations that run.
    pub(crate) taps: &'a BTreeMap<RelationId, Tap>,
    /// Index of the worker and their number.
    pub(crate) worker: usize,
    pub(crate) peers: usize,
    /// Number of workers of each process.
    pub(crate) threads: usize,
    /// A number that no other worker, and no other start of the engine, has.
    pub(crate) writer: u64,
    /// First epoch of the fragment.
    pub(crate) epoch: u64,
    /// State and offsets to start from; `None` for a new fragment, which is backfilled.
    pub(crate) restore: Option<&'a Restore>,
    /// Where a new fragment begins to read, for sources that tell another place every moment.
    pub(crate) starts: &'a BTreeMap<RelationId, Positions>,
}

/// What a fragment starts from.
#[derive(Debug, Default)]
pub(crate) struct Restore {
    /// Segments by operator and state table, oldest first.
    pub(crate) state: BTreeMap<(OperatorId, usize), Vec<SegmentRef>>,
    /// Where its sources are read on.
    pub(crate) offsets: BTreeMap<RelationId, Positions>,
    /// True if only the rows that the relation kept are stored: its plan starts empty and is
    /// backfilled, and the first epoch emits the difference to those rows.
    pub(crate) is_rebuilt: bool,
    /// True if the fragment catches up as a new one.
    pub(crate) catches_up: bool,
    /// True if a rebuilt fragment that catches up has followers, who get the difference.
    pub(crate) is_followed: bool,
}

impl Builder<'_> {
    /// True if the fragment takes no part in epochs before it has caught up.
    fn catches_up(&self) -> bool {
        self.restore.is_none_or(|restore| restore.catches_up)
    }

    /// True if the fragment starts from the rows of its inputs instead of from stored state.
    fn is_backfilled(&self) -> bool {
        self.restore.is_none_or(|restore| restore.is_rebuilt)
    }
}

/// A fragment under construction, inside its Timely scope.
struct Parts<'b, 'a, 'scope> {
    builder: &'b Builder<'a>,
    scope: Scope<'scope, u64>,
    relation: RelationId,
    context: FragmentContext,
    tap: Tap,
    relations: Vec<RelationInput>,
    sources: Vec<SourceInput>,
    feeds: Vec<Feed>,
    operators: Vec<SharedOperator>,
    ids: OperatorIds,
    /// State tables that have found their operators.
    claimed: BTreeSet<(OperatorId, usize)>,
    /// Changes that this worker feeds into the first epoch, by feed.
    initial: Vec<(usize, ChangeBatch)>,
    charges: FragmentCharges,
}

/// Builds the fragment of a relation; `None` if the relation has none (a source, a catalog).
///
/// What goes wrong on this worker alone (stored state, a connector, a thread) fails the fragment,
/// which is built all the same: the dataflows of all workers must have one shape.
///
/// # Errors
/// `JobFailed` if what it reads does not run, on every worker; then nothing is built.
pub(crate) fn build_fragment(
    timely: &mut timely::worker::Worker,
    builder: &Builder<'_>,
    checked: &CheckedRelation,
) -> Result<Option<Fragment>> {
    let (relation, Some(planned)) = (checked.relation(), checked.fragment()) else {
        return Ok(None);
    };
    builder.check_inputs(&planned.reads)?;
    let mut fragment = timely.dataflow_named(&relation.name, |scope| {
        let context = builder.context.clone();
        let context = FragmentContext::new(context, relation, builder.epoch, builder.env);
        let mut parts = Parts {
            builder,
            scope,
            relation: relation.id,
            context,
            tap: Tap::default(),
            relations: Vec::new(),
            sources: Vec::new(),
            feeds: Vec::new(),
            operators: Vec::new(),
            ids: OperatorIds::default(),
            claimed: BTreeSet::new(),
            initial: Vec::new(),
            charges: FragmentCharges::new(builder.memory, relation.id),
        };
        let mut collected = None;
        let output = match (&*relation.definition, &planned.plan) {
            (Definition::Table(table), _) => parts.table(relation, table)?,
            (Definition::Errors, _) => parts.errors(relation)?,
            (definition, Some(plan)) => match definition.sink() {
                Some(sink) => parts.sink(plan, &sink.mode, &mut collected)?,
                None => {
                    let rows = parts.node(plan)?;
                    parts.kept_rows(relation, rows)?
                }
            },
            (_, None) => return Err(Error::internal("a fragment without a plan was built")),
        };
        parts.check_claims(&relation.name);
        Ok::<_, Error>(parts.finish(relation, output, collected))
    })?;
    let started = caught("a backfill", || fragment.start(builder));
    started.unwrap_or_else(|error| fragment.context.fail(error));
    Ok(Some(fragment))
}

impl Builder<'_> {
    /// Every relation that a fragment follows must run.
    fn check_inputs(&self, reads: &BTreeSet<RelationId>) -> Result<()> {
        for id in reads.iter().filter(|id| !self.taps.contains_key(id)) {
            let input = self.catalog.by_id(*id);
            let is_source = |input: &Relation| matches!(*input.definition, Definition::Source(_));
            if input.is_some_and(|input| is_source(input)) {
                continue;
            }
            let name = input.map_or_else(|| format!("relation {id}"), |it| it.name.clone());
            let message = format!("\"{name}\", which it reads, does not run");
            return Err(Error::new(ErrorKind::JobFailed, message));
        }
        Ok(())
    }
}

impl Fragment {
    /// Brings all inputs to the first epoch and feeds what is there already.
    fn start(&mut self, builder: &Builder<'_>) -> Result<()> {
        // All of them first: what follows may fail, and the epochs of a failed fragment end, too.
        for feed in &mut self.feeds {
            feed.advance_to(builder.epoch);
        }
        for input in &mut self.relations {
            input.feed.advance_to(builder.epoch);
        }
        let changes_from = builder.epoch + BACKFILL_EPOCHS;
        match builder.catches_up() {
            false => self.context.admit(builder.epoch),
            true => self.changes_from = changes_from,
        }
        if !builder.is_backfilled() {
            return Ok(());
        }
        if builder.catches_up() {
            self.backfill_epochs = Some(builder.epoch..changes_from);
        }
        for input in self.relations.iter_mut().filter(|input| input.is_backfilled) {
            input.begin_with(builder.snapshots.newest(input.upstream, builder.worker));
        }
        Ok(())
    }
}

impl<'scope> Parts<'_, '_, 'scope> {
    fn finish(
        mut self,
        relation: &Relation,
        output: Packets<'scope>,
        collected: Option<Rc<RefCell<Vec<ChangeBatch>>>>,
    ) -> Fragment {
        let probe = ProbeHandle::new();
        let (tap, context) = (self.tap.clone(), self.context.clone());
        let end: Packets<'scope> = output.unary::<CapacityContainerBuilder<Vec<Packet>>, _, _, _>(
            Pipeline,
            "Tap",
            move |_capability, _info| {
                move |input, _output| {
                    input.for_each(|capability, packets| {
                        for packet in packets.drain(..) {
                            if let Decoded::Changes(changes) = &packet.data {
                                let pushed = tap.push(epoch_of(&capability), changes);
                                pushed.unwrap_or_else(|error| context.fail(error));
                            }
                        }
                    });
                }
            },
        );
        end.probe_with(&probe);
        for (feed, changes) in std::mem::take(&mut self.initial) {
            self.feeds[feed].advance_to(self.builder.epoch);
            self.feeds[feed].send(Packet::local(changes));
        }
        let early = EarlyState::new(self.context.clone(), self.builder.env, self.builder.tokio);
        Fragment {
            relation: self.relation,
            context: self.context,
            early,
            relations: self.relations,
            sources: self.sources,
            feeds: self.feeds,
            probe,
            tap: self.tap,
            is_append_only: is_append_only(relation.mode),
            operators: self.operators,
            collected,
            held: Vec::new(),
            held_bytes: 0,
            is_dirty: false,
            closed_before: self.builder.epoch,
            backfill_epochs: None,
            changes_from: self.builder.epoch,
            has_caught_up: false,
            progress: FragmentProgress::new(self.relation),
            charges: self.charges,
            has_moved: true,
        }
    }

    /// An input that closes its epochs on command.
    fn feed(&mut self) -> (usize, Packets<'scope>) {
        let mut feed = Feed::new();
        let stream = feed.to_stream(self.scope);
        self.feeds.push(feed);
        (self.feeds.len() - 1, stream)
    }

    /// A table: its source's batches and DML, by primary key.
    fn table(&mut self, relation: &Relation, table: &TableDef) -> Result<Packets<'scope>> {
        let (feed, stream) = self.feed();
        if let Some(source) = build_source(self.builder.env, &relation.definition).transpose() {
            self.source(relation, source, None, feed);
        }
        if table.primary_key.is_empty() {
            return self.kept_rows(relation, stream);
        }
        let key = table.primary_key.clone();
        let operator = UpsertTable::try_new(Arc::clone(&relation.schema), key.clone())?
            .with_former_rows(self.tap.former_rows());
        let routes = [self.kept_by((0..key.len()).collect()), self.kept_by(key)];
        self.keyed(relation, stream, routes, operator, UpsertTable::snapshot)
    }

    /// The bad messages of a table or source, by split and offset: each once, although every view
    /// over a source reads all its messages.
    fn errors(&mut self, relation: &Relation) -> Result<Packets<'scope>> {
        let mut streams = vec![self.feed().1];
        for upstream in &relation.depends_on {
            let refused = self.builder.context.refused_of(*upstream);
            let mut feed = Feed::new();
            streams.push(feed.to_stream(self.scope));
            self.relations.push(RelationInput {
                upstream: *upstream,
                queue: Rc::clone(&refused.queue),
                projection: None,
                is_backfilled: false,
                feed,
                backfill: None,
                backfill_rows: BackfillRows::default(),
            });
        }
        let stream = self.scope.concatenate(streams);
        let operator = ErrorsTable::try_new(self.retention(relation)?)?;
        let snapshot = ErrorsTable::snapshot;
        self.keyed(relation, stream, [Route::Single, Route::Single], operator, snapshot)
    }

    /// How long the bad messages of a table or source are kept.
    fn retention(&self, errors: &Relation) -> Result<ErrorsRetention> {
        let of = errors.depends_on.first().and_then(|of| self.builder.catalog.by_id(*of));
        let options = match of.map(|of| &*of.definition) {
            Some(Definition::Table(table)) => table.connector.clone(),
            Some(Definition::Source(source)) => Some(source.connector.clone()),
            _ => None,
        };
        ErrorsRetention::take_from(&mut options.unwrap_or_default())
    }

    /// Rows by primary key; the routes are those of stored rows and of what comes.
    fn keyed<O: Operator + 'static>(
        &mut self,
        relation: &Relation,
        stream: Packets<'scope>,
        [stored, coming]: [Route; 2],
        operator: O,
        snapshot: impl Fn(&O) -> RowsSnapshot + 'static,
    ) -> Result<Packets<'scope>> {
        let operator = Rc::new(RefCell::new(operator));
        let stream = self.routed(stream, coming);
        let readable = Rc::clone(&operator);
        let kept = self.stored(&*operator.borrow(), rows_operator(relation), &[stored])?;
        self.restore(&(Rc::clone(&operator) as SharedOperator), &kept);
        let snapshot = move || snapshot(&readable.borrow());
        Ok(self.readable(relation, stream, operator, kept, snapshot))
    }

    /// Rows that are kept as they come: a view, a table without key.
    fn kept_rows(
        &mut self,
        relation: &Relation,
        stream: Packets<'scope>,
    ) -> Result<Packets<'scope>> {
        let key = relation.upsert_key.clone();
        let schema = Arc::clone(&relation.schema);
        let writer = self.builder.writer;
        let operator =
            Materialize::try_new(schema, is_append_only(relation.mode), key.clone(), writer)?;
        let operator = Rc::new(RefCell::new(operator));
        let columns = key.unwrap_or_else(|| (0..relation.schema.fields().len()).collect());
        // Rows by key are stored with the key first, appended ones as they came.
        let stored = match is_append_only(relation.mode) {
            true => columns.clone(),
            false => (0..columns.len()).collect(),
        };
        let stored = [self.kept_by(stored)];
        let kept = self.stored(&*operator.borrow(), rows_operator(relation), &stored)?;
        let shared = Rc::clone(&operator) as SharedOperator;
        let stream = match self.builder.restore {
            Some(restore) if restore.is_rebuilt && restore.catches_up => {
                if restore.is_followed {
                    let emitted = caught("a view's rows", || self.keep_difference(relation, &kept));
                    emitted.unwrap_or_else(|error| self.context.fail(error));
                }
                stream
            }
            Some(restore) if restore.is_rebuilt => {
                self.restore(&shared, &kept);
                let (feed, former) = self.feed();
                match caught("a view's rows", || operator.borrow().snapshot().batches(None)) {
                    Ok(former) => self
                        .initial
                        .extend(former.into_iter().map(|it| (feed, ChangeBatch::retractions(it)))),
                    Err(error) => self.context.fail(error),
                }
                self.scope.concatenate([stream, former])
            }
            _ => {
                self.restore(&shared, &kept);
                stream
            }
        };
        let stream = self.routed(stream, self.kept_by(columns));
        let readable = Rc::clone(&operator);
        let snapshot = move || readable.borrow().snapshot();
        Ok(self.readable(relation, stream, operator, kept, snapshot))
    }

    /// Has the tap keep what a rebuilt view emits, from the retraction of its stored rows on.
    fn keep_difference(&mut self, relation: &Relation, kept: &StoredOperator) -> Result<()> {
        let (schema, key) = (Arc::clone(&relation.schema), relation.upsert_key.clone());
        let former = Materialize::try_new(schema, is_append_only(relation.mode), key, 0)?;
        let former = Rc::new(RefCell::new(former));
        self.restore(&(Rc::clone(&former) as SharedOperator), kept);
        let rows = former.borrow().snapshot().batches(None)?;
        let rows = rows.into_iter().map(ChangeBatch::retractions).collect();
        let columns = || (0..relation.schema.fields().len()).collect();
        let key = relation.upsert_key.clone().unwrap_or_else(columns);
        self.tap.keep(Arc::clone(&relation.schema), key, rows)
    }

    /// Where rows of a table or view are kept. One row without a key stays on one worker.
    fn kept_by(&self, columns: Vec<usize>) -> Route {
        match columns.is_empty() {
            true => Route::Single,
            false => Route::Columns { columns, workers: self.builder.peers },
        }
    }

    fn routed(&self, stream: Packets<'scope>, route: Route) -> Input<'scope> {
        if self.builder.peers == 1 {
            return Input::Local(stream);
        }
        // All processes have as many workers.
        let (worker, threads) = (self.builder.worker, self.builder.threads);
        let first = worker - worker % threads;
        let own = first as u64..(first + threads) as u64;
        Input::Routed(add_route(stream, route, own, self.context.clone()))
    }

    /// The operator at the end of a table or view: its snapshots are what sessions read.
    fn readable(
        &mut self,
        relation: &Relation,
        input: Input<'scope>,
        operator: SharedOperator,
        stored: StoredOperator,
        snapshot: impl Fn() -> RowsSnapshot + 'static,
    ) -> Packets<'scope> {
        let store = Arc::clone(self.builder.snapshots);
        let (relation, worker) = (relation.id, self.builder.worker);
        let counts = (worker >= self.builder.threads).then(|| self.builder.context.clone());
        let publish = move |epoch| {
            let rows = snapshot();
            if let Some(context) = &counts {
                let row_count = rows.row_count();
                context.note_published(PublishedRows { relation, epoch, row_count });
            }
            store.publish(relation, worker, epoch, ShardRows::Here(rows));
        };
        if self.builder.restore.is_some_and(|restore| !restore.catches_up) {
            publish(self.builder.epoch.saturating_sub(1));
        }
        let context = self.context.clone();
        let after_epoch = move |epoch| {
            // What a fragment has while it catches up is nobody's to read.
            if context.is_admitted(epoch) {
                publish(epoch);
            }
        };
        self.add(vec![input], operator, Some(stored), Some(Box::new(after_epoch)))
    }

    /// Adds an operator that keeps nothing between epochs.
    fn stateless(
        &mut self,
        input: Packets<'scope>,
        operator: impl Operator + 'static,
    ) -> Packets<'scope> {
        let operator: SharedOperator = Rc::new(RefCell::new(operator));
        self.add(vec![Input::Local(input)], operator, None, None)
    }

    /// Adds the operator of a plan node that keeps state; `routes` are as in [`Parts::stored`].
    fn stateful(
        &mut self,
        plan: &IncrementalPlan,
        inputs: Vec<Input<'scope>>,
        operator: impl Operator + 'static,
        routes: &[Route],
    ) -> Result<Packets<'scope>> {
        let id = self.ids.next(plan)?;
        let stored = self.stored(&operator, id, routes)?;
        let operator: SharedOperator = Rc::new(RefCell::new(operator));
        self.restore(&operator, &stored);
        Ok(self.add(inputs, operator, Some(stored), None))
    }

    /// What a checkpoint knows of an operator. The routes say for each state table where its rows
    /// belong; tables beyond the last route follow that one.
    fn stored(
        &self,
        operator: &dyn Operator,
        id: OperatorId,
        routes: &[Route],
    ) -> Result<StoredOperator> {
        let tables = operator.state_tables().into_iter().enumerate().map(|(table, stored)| {
            let route = routes.get(table).or(routes.last()).cloned();
            let route = route.ok_or_else(|| Error::internal("stored rows without a route"))?;
            let StateTable { key_columns, row_start, .. } = stored;
            Ok(Placement { route, key_columns, row_start })
        });
        Ok(StoredOperator { id, tables: tables.collect::<Result<_>>()? })
    }

    fn add(
        &mut self,
        inputs: Vec<Input<'scope>>,
        operator: SharedOperator,
        stored: Option<StoredOperator>,
        after_epoch: Option<Box<dyn FnMut(u64)>>,
    ) -> Packets<'scope> {
        self.operators.push(Rc::clone(&operator));
        let context = self.context.clone();
        add_operator(self.scope, inputs, operator, stored, context, after_epoch)
    }

    /// Gives an operator its stored rows, if it starts from a checkpoint. If they do not fit, the
    /// fragment has failed.
    fn restore(&mut self, operator: &SharedOperator, stored: &StoredOperator) {
        let Some(restore) = self.builder.restore else { return };
        let name = operator.borrow().name();
        let restored = caught(name, || self.try_restore(restore, operator, stored));
        restored.unwrap_or_else(|error| self.context.fail(error.within(name)));
    }

    fn try_restore(
        &mut self,
        restore: &Restore,
        operator: &SharedOperator,
        stored: &StoredOperator,
    ) -> Result<()> {
        let tables = operator.borrow().state_tables();
        for (table, (description, placement)) in std::iter::zip(tables, &stored.tables).enumerate()
        {
            let Some(segments) = restore.state.get(&(stored.id, table)) else { continue };
            self.claimed.insert((stored.id, table));
            let shards = placement.shards_of(self.builder.worker);
            let (env, tokio) = (self.builder.env, self.builder.tokio);
            let mut groups = segments::read(env, tokio, segments.clone(), shards);
            let mut newest = NewestRows::new(description.key_columns, true);
            while let Some(group) = groups.blocking_recv() {
                for rows in table_rows(&description, &newest.of(group?)?)? {
                    operator.borrow_mut().restore(table, rows)?;
                }
                self.make_room(operator);
            }
        }
        Ok(())
    }

    /// Charges what was restored so far, and moves rows of the operator to scratch files if that is
    /// too much: the worker does not look at its memory before all is restored. Nobody reads the
    /// rows yet.
    fn make_room(&mut self, operator: &SharedOperator) {
        let Builder { memory, env, threads, .. } = *self.builder;
        self.charges.set_state(self.operators.iter().chain([operator]));
        let (Some(scratch), Some(to_move)) = (env.scratch(), memory.to_move(threads)) else {
            return;
        };
        env::return_freed_memory(true);
        let moved = operator.borrow_mut().move_cold(to_move.bytes, to_move.least, scratch);
        if let Err(error) = moved {
            tracing::warn!(%error, "rows cannot be moved to a scratch file");
        }
        self.charges.set_state(self.operators.iter().chain([operator]));
        scratch.trim();
    }

    /// Fails the fragment if no operator has taken a part of its stored state: it would be lost
    /// without a word.
    fn check_claims(&self, name: &str) {
        let Some(restore) = self.builder.restore else { return };
        if self.context.has_failed() {
            return;
        }
        let left = restore.state.keys().filter(|key| !self.claimed.contains(key)).count();
        if left == 0 {
            return;
        }
        let message = format!("{left} stored tables of \"{name}\" belong to none of its operators");
        self.context.fail(Error::new(ErrorKind::Corrupt, message));
    }

    /// Starts reading a source into a feed, on the workers that have splits of it. If that cannot
    /// be, the fragment has failed.
    fn source(
        &mut self,
        relation: &Relation,
        source: Result<Arc<dyn Source>>,
        projection: Option<Vec<usize>>,
        feed: usize,
    ) {
        let read = source.and_then(|source| self.read(relation, source, projection, feed));
        read.unwrap_or_else(|error| self.context.fail(error.within("source")));
    }

    fn read(
        &mut self,
        relation: &Relation,
        source: Arc<dyn Source>,
        projection: Option<Vec<usize>>,
        feed: usize,
    ) -> Result<()> {
        let builder = self.builder;
        if let Some(known) = self.sources.iter_mut().find(|it| it.relation == relation.id) {
            known.feeds.push((feed, projection));
            return Ok(());
        }
        let stored = match builder.restore {
            Some(restore) => restore.offsets.get(&relation.id),
            None => builder.starts.get(&relation.id),
        };
        let offsets = stored.cloned().unwrap_or_default();
        let is_known = !offsets.is_empty();
        let offsets = super::source::own_offsets(offsets, builder.worker, builder.peers);
        let config = ReaderConfig {
            worker: builder.worker,
            peers: builder.peers,
            batch_rows: builder.config.source_batch_rows,
            channel_batches: builder.config.source_channel_batches,
            is_known,
        };
        let thread = std::thread::current();
        let handle =
            SourceHandle::spawn(source, offsets.clone(), config, builder.env.clone(), thread)?;
        let errors = builder.catalog.get(&format!("{}$errors", relation.name));
        let input = SourceInput {
            relation: relation.id,
            errors: errors.map(|errors| errors.id),
            handle,
            closed_offsets: offsets.clone(),
            notices: FieldNotices::default(),
            offsets,
            flushed: 0,
            ended: false,
            feeds: vec![(feed, projection)],
        };
        self.sources.push(input);
        Ok(())
    }

    fn scan(
        &mut self,
        relation: RelationId,
        projection: Option<Vec<usize>>,
        needs_former_rows: bool,
    ) -> Result<Packets<'scope>> {
        let builder = self.builder;
        let relation = builder
            .catalog
            .by_id(relation)
            .ok_or_else(|| Error::internal(format!("relation {relation} is not in the catalog")))?;
        let is_source = matches!(&*relation.definition, Definition::Source(_));
        let source = is_source.then(|| build_source(builder.env, &relation.definition));
        if let Some(source) = source.and_then(Result::transpose) {
            let (feed, stream) = self.feed();
            self.source(relation, source, projection, feed);
            return Ok(stream);
        }
        let tap = builder.taps.get(&relation.id).ok_or_else(|| {
            Error::internal(format!("relation \"{}\" does not run", relation.name))
        })?;
        let mut feed = Feed::new();
        let stream = feed.to_stream(self.scope);
        let queue = tap.subscribe(needs_former_rows);
        self.relations.push(RelationInput {
            upstream: relation.id,
            queue,
            projection,
            is_backfilled: true,
            feed,
            backfill: None,
            backfill_rows: BackfillRows::default(),
        });
        Ok(stream)
    }

    fn node(&mut self, plan: &IncrementalPlan) -> Result<Packets<'scope>> {
        let peers = self.builder.peers;
        match &plan.node {
            Node::Scan { relation, projection, .. } => {
                self.scan(*relation, projection.clone(), true)
            }
            Node::Values { rows } => {
                let (feed, stream) = self.feed();
                if self.builder.is_backfilled() && self.builder.worker == 0 {
                    self.initial.push((feed, ChangeBatch::inserts(rows.clone())));
                }
                Ok(stream)
            }
            Node::Filter { input, predicate } => {
                let rows = self.node(input)?;
                let operator = Filter::new(Arc::clone(predicate));
                Ok(self.stateless(rows, operator))
            }
            Node::Project { input, exprs } => {
                let rows = self.node(input)?;
                let operator = Project::new(exprs.clone(), Arc::clone(&plan.schema));
                Ok(self.stateless(rows, operator))
            }
            Node::Union { inputs } => {
                let streams = inputs.iter().map(|input| self.node(input));
                let streams = streams.collect::<Result<Vec<_>>>()?;
                Ok(self.scope.concatenate(streams))
            }
            Node::Aggregate { input, group, aggregates } => {
                let rows = self.node(input)?;
                // The state begins with the values of the group's expressions.
                let columns = (0..group.len()).collect();
                let (route, stored) = match group.is_empty() {
                    true => (Route::Single, Route::Single),
                    false => (
                        Route::Exprs { exprs: group.clone(), workers: peers },
                        Route::Columns { columns, workers: peers },
                    ),
                };
                let rows = self.routed(rows, route);
                let worker = self.builder.worker;
                let operator = hash_aggregate(plan, input, group, aggregates, worker)?;
                self.stateful(plan, vec![rows], operator, &[stored])
            }
            Node::Join { left, right, kind, left_keys, right_keys, filter } => {
                let left_rows = self.node(left)?;
                let right_rows = self.node(right)?;
                let route = |exprs: &[_]| Route::Exprs { exprs: exprs.to_vec(), workers: peers };
                let routes = [route(left_keys), route(right_keys)];
                let inputs = vec![
                    self.routed(left_rows, routes[0].clone()),
                    self.routed(right_rows, routes[1].clone()),
                ];
                let sides = [(left.as_ref(), left_keys.as_slice()), (right.as_ref(), right_keys)];
                let operator = hash_join(plan, sides, *kind, filter.clone(), self.builder.writer)?;
                self.stateful(plan, inputs, operator, &routes)
            }
            Node::TopN { input, order, offset, limit } => {
                let rows = self.node(input)?;
                let rows = self.routed(rows, Route::Single);
                let operator = top_n(plan, input, order, (*offset, *limit))?;
                self.stateful(plan, vec![rows], operator, &[Route::Single])
            }
        }
    }

    fn sink(
        &mut self,
        plan: &IncrementalPlan,
        mode: &SinkMode,
        collected: &mut Option<Rc<RefCell<Vec<ChangeBatch>>>>,
    ) -> Result<Packets<'scope>> {
        let rows = match followed_by_key(plan, mode, self.builder.catalog) {
            Some(table) => self.scan(table, None, false)?,
            None => self.node(plan)?,
        };
        let rows = self.routed(rows, Route::Single);
        let operator = SinkCollect::new(plan, mode, self.builder.catalog);
        *collected = Some(operator.ready());
        let operator: SharedOperator = Rc::new(RefCell::new(operator));
        Ok(self.add(vec![rows], operator, None, None))
    }
}
