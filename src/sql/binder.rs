//! [`bind`]: a statement against a catalog.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;

use super::scope::{ExtraTables, NoExtraTables, Scope};
use super::statement::{
    Drop, Name, ObjectKind, Resume, Show, Statement, StatementKind, Transaction,
};
use super::syntax::Places;
use crate::catalog::{COUNTERS, Catalog, Creation, Definition, Relation, Removal};
use crate::error::{Error, ErrorKind, Result, nearest};
use crate::plan::{FragmentPlan, IncrementalPlan, PlannedRelation, on_large_stack, plan};
use crate::types::TypeForms;

/// What a statement asks, bound to a catalog.
#[derive(Debug, Clone)]
pub enum Bound {
    /// Makes a relation.
    Create(Box<NewRelation>),
    /// `IF NOT EXISTS` of a name that is taken: nothing to do.
    AlreadyExists {
        /// The name.
        name: String,
    },
    /// Drops relations.
    Drop(Removal),
    /// Starts a failed job again.
    Resume(Arc<Relation>),
    /// `IF EXISTS` of names that are not: nothing to do.
    NothingToDrop {
        /// The first of the names.
        name: String,
    },
    /// Reads.
    Query(LogicalPlan),
    /// Writes rows of a table.
    Write(Box<Write>),
    /// Removes all rows of tables.
    Truncate(Vec<Write>),
    /// Makes a table of the columns and rows of a query.
    CreateTableAs(LogicalPlan),
    /// Shows a plan.
    Explain(Explain),
    /// Shows what there is.
    Show(Show),
    /// Sets a variable.
    Set {
        /// The variable.
        name: String,
        /// Its values; empty for the default.
        value: Vec<String>,
        /// Until the transaction ends.
        local: bool,
    },
    /// Resets a variable, or all.
    Reset {
        /// The variable.
        name: Option<String>,
    },
    /// Waits until all writes are visible everywhere.
    Flush,
    /// Runs a pipeline now.
    RunPipeline(Arc<Relation>),
    /// Begins or ends a transaction.
    Transaction(Transaction),
    /// Concerns what the session holds.
    OfSession,
}

/// INSERT, UPDATE, DELETE: a query, and what its rows do to a table.
#[derive(Debug, Clone)]
pub struct Write {
    /// What its rows are.
    pub kind: WriteKind,
    /// The table.
    pub table: Arc<Relation>,
    /// Gives the columns that `kind` tells, in the table's order and of its types, and behind them
    /// those of RETURNING.
    pub plan: LogicalPlan,
    /// With ON CONFLICT: the rows that `plan` finds beside those of their keys.
    pub proposal: Option<Proposal>,
    /// With FROM or USING: a row of the table may be there several times, and the first counts.
    pub is_joined: bool,
}

/// The rows of INSERT … ON CONFLICT.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Gives all columns of the table, in order and of its types.
    pub plan: LogicalPlan,
    /// `DO UPDATE`; else a row stays out whose key is there.
    pub updates: bool,
}

/// What the rows of a write's query are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteKind {
    /// New rows.
    Insert,
    /// Each an old row, and the new row that takes its place.
    Update,
    /// Old rows, which go.
    Delete,
    /// Each an old row, NULL if there is none, the new row that takes its place, and whether the
    /// same key comes again, of rows beside those of their keys.
    Merge,
}

impl WriteKind {
    /// Number of columns of the query before those of RETURNING.
    #[must_use]
    pub fn width(self, table: &Relation) -> usize {
        let width = table.schema.fields().len();
        match self {
            Self::Insert | Self::Delete => width,
            Self::Update => 2 * width,
            Self::Merge => 2 * width + 1,
        }
    }
}

/// What EXPLAIN shows.
#[derive(Debug, Clone)]
pub enum Explain {
    /// A query that runs once.
    Batch(LogicalPlan),
    /// A query that is kept up.
    Incremental(IncrementalPlan),
}

/// A relation to be made, bound and planned.
#[derive(Debug, Clone)]
pub struct NewRelation {
    /// What it is.
    pub creation: Creation,
    /// The plan of its query; `None` if it has none that is kept up.
    pub plan: Option<IncrementalPlan>,
    /// The forms that its types were bound in.
    pub forms: TypeForms,
}

impl From<Creation> for NewRelation {
    fn from(creation: Creation) -> Self {
        Self { creation, plan: None, forms: TypeForms::Own }
    }
}

impl NewRelation {
    /// Plans a query once; `make` gives what it belongs to.
    pub(super) fn of_query(
        query: &LogicalPlan,
        make: impl FnOnce(&IncrementalPlan) -> Result<Creation>,
    ) -> Result<Self> {
        let plan = plan(query)?;
        Ok(Self { creation: make(&plan)?, plan: Some(plan), forms: TypeForms::Own })
    }

    /// Enters the relation, and its `$errors`, into a catalog. `text` is the statement's.
    ///
    /// # Errors
    /// As [`Catalog::create`]; the catalog is to be thrown away then.
    pub fn enter(self, catalog: &mut Catalog, text: &str) -> Result<Vec<PlannedRelation>> {
        let Self { creation, mut plan, forms } = self;
        let made = catalog.create(creation, text, forms)?.into_iter().map(|relation| {
            // The first is what the statement names.
            let fragment = FragmentPlan::of(&relation, plan.take())?;
            Ok(PlannedRelation { relation, fragment })
        });
        made.collect()
    }
}

/// Binds a statement to the catalog alone.
///
/// # Errors
/// A name that does not exist, types that do not fit, SQL that is not supported; each with its
/// place, if it is known.
pub fn bind(catalog: &Catalog, statement: &Statement) -> Result<Bound> {
    bind_with(catalog, statement, &NoExtraTables)
}

/// Binds a statement to the catalog and a session's own tables. CREATE does not see these, since it
/// must bind alike on every worker.
///
/// # Errors
/// As [`bind`].
pub fn bind_with(
    catalog: &Catalog,
    statement: &Statement,
    extra: &dyn ExtraTables,
) -> Result<Bound> {
    let bound = match &statement.kind {
        StatementKind::Explain(inner) => inner,
        _ => statement,
    };
    let extra = if bound.kind.is_creation() { &NoExtraTables } else { extra };
    bind_in_forms(catalog, statement, extra, TypeForms::Own)
}

/// Binds a statement whose types have certain forms.
///
/// # Errors
/// As [`bind`].
pub(super) fn bind_in_forms(
    catalog: &Catalog,
    statement: &Statement,
    extra: &dyn ExtraTables,
    forms: TypeForms,
) -> Result<Bound> {
    let scope = Scope::new(catalog, extra, forms);
    on_large_stack(|| Binder { catalog, scope, statement }.bind())
}

/// Binds one statement.
pub(super) struct Binder<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) scope: Scope<'a>,
    pub(super) statement: &'a Statement,
}

impl Binder<'_> {
    fn bind(&self) -> Result<Bound> {
        Ok(match &self.statement.kind {
            StatementKind::Query(query) => Bound::Query(self.query(query)?),
            StatementKind::Insert(insert) => self.insert(insert)?,
            StatementKind::Update(update) => self.update(update)?,
            StatementKind::Delete(delete) => self.delete(delete)?,
            StatementKind::CreateTable(table) => {
                self.created(&table.name, table.if_not_exists, || Ok(self.table(table)?.into()))?
            }
            StatementKind::Truncate(truncate) => Bound::Truncate(self.truncate(truncate)?),
            StatementKind::CreateTableAs(table) => self.table_as(table)?,
            StatementKind::CreateSource(source) => {
                self.created(&source.name, source.if_not_exists, || {
                    Ok(self.source(source)?.into())
                })?
            }
            StatementKind::CreateMaterializedView(view) => {
                self.created(&view.name, view.if_not_exists, || self.materialized_view(view))?
            }
            StatementKind::CreateView(view) => {
                self.created(&view.name, view.if_not_exists, || {
                    Ok(self.logical_view(view)?.into())
                })?
            }
            StatementKind::CreateSink(sink) => {
                self.created(&sink.name, sink.if_not_exists, || self.sink(sink))?
            }
            StatementKind::CreatePipeline(pipeline) => {
                self.created(&pipeline.name, pipeline.if_not_exists, || self.pipeline(pipeline))?
            }
            StatementKind::CreateCatalog(catalog) => {
                self.created(&catalog.name, catalog.if_not_exists, || {
                    Ok(self.iceberg(catalog)?.into())
                })?
            }
            StatementKind::Drop(drop) => self.drop(drop)?,
            StatementKind::Resume(resume) => self.resume(resume)?,
            StatementKind::Explain(inner) => Bound::Explain(self.explain(inner)?),
            StatementKind::Show(show) => Bound::Show(self.show(show)?),
            StatementKind::Set { name, value, local } => {
                Bound::Set { name: name.clone(), value: value.clone(), local: *local }
            }
            StatementKind::Reset { name } => Bound::Reset { name: name.clone() },
            StatementKind::Flush => Bound::Flush,
            StatementKind::RunPipeline { name } => Bound::RunPipeline(self.pipeline_named(name)?),
            StatementKind::Copy(copy) => {
                return bind_with(self.catalog, &copy.query, self.scope.extra());
            }
            StatementKind::CopyIn(_) => Bound::OfSession,
            StatementKind::Transaction(transaction) => Bound::Transaction(transaction.clone()),
            StatementKind::Prepare(prepare) => {
                return bind_with(self.catalog, &prepare.statement, self.scope.extra());
            }
            StatementKind::Declare(declare) => {
                return bind_with(self.catalog, &declare.query, self.scope.extra());
            }
            StatementKind::Execute(_)
            | StatementKind::Deallocate { .. }
            | StatementKind::Fetch(_)
            | StatementKind::Close { .. }
            | StatementKind::Discard(_)
            | StatementKind::NoEffect(_)
            | StatementKind::Unlisten => Bound::OfSession,
        })
    }

    fn created(
        &self,
        name: &Name,
        if_not_exists: bool,
        make: impl FnOnce() -> Result<NewRelation>,
    ) -> Result<Bound> {
        if self.catalog.get(&name.value).is_none() {
            let new = NewRelation { forms: self.scope.forms(), ..make()? };
            refuse_reserved(&new.creation)?;
            return Ok(Bound::Create(Box::new(new)));
        }
        already_exists(name, if_not_exists)
    }

    fn drop(&self, drop: &Drop) -> Result<Bound> {
        let mut roots: Vec<Arc<Relation>> = Vec::new();
        for name in &drop.names {
            match self.catalog.get(&name.value) {
                Some(relation) => {
                    if relation.name == COUNTERS {
                        let message = format!("\"{COUNTERS}\" belongs to the engine");
                        let error = Error::new(ErrorKind::WrongObjectType, message);
                        return Err(error.at(name.position));
                    }
                    if matches!(*relation.definition, Definition::Errors) {
                        let message =
                            format!("\"{}\" goes only with what it belongs to", relation.name);
                        let error = Error::new(ErrorKind::DependentObjects, message);
                        return Err(error.at(name.position));
                    }
                    check_kind("DROP", drop.kind, relation).map_err(|e| e.at(name.position))?;
                    roots.push(Arc::clone(relation));
                }
                None if drop.if_exists => {}
                None => return Err(self.undefined(drop.kind.noun(), name)),
            }
        }
        match (roots.is_empty(), drop.names.first()) {
            (true, Some(name)) => Ok(Bound::NothingToDrop { name: name.value.clone() }),
            _ => Ok(Bound::Drop(self.catalog.removal(&roots, drop.cascade)?)),
        }
    }

    fn resume(&self, Resume { kind, name }: &Resume) -> Result<Bound> {
        let Some(relation) = self.catalog.get(&name.value) else {
            return Err(self.undefined(kind.noun(), name));
        };
        check_kind("ALTER", *kind, relation).map_err(|error| error.at(name.position))?;
        Ok(Bound::Resume(Arc::clone(relation)))
    }

    fn explain(&self, inner: &Statement) -> Result<Explain> {
        let binder = Binder {
            catalog: self.catalog,
            scope: Scope::new(self.catalog, self.scope.extra(), self.scope.forms()),
            statement: inner,
        };
        let new = match &inner.kind {
            StatementKind::Query(query) => return Ok(Explain::Batch(binder.query(query)?)),
            StatementKind::CreateMaterializedView(view) => binder.materialized_view(view)?,
            StatementKind::CreateSink(sink) => binder.sink(sink)?,
            StatementKind::CreatePipeline(pipeline) => binder.pipeline(pipeline)?,
            other => {
                let message = format!("EXPLAIN of {} is not supported", other.tag());
                return Err(Error::unsupported(message).at(inner.offset + 1).with_hint(
                    "explain a SELECT, CREATE MATERIALIZED VIEW, CREATE SINK or CREATE PIPELINE",
                ));
            }
        };
        match new.plan {
            Some(plan) => Ok(Explain::Incremental(plan)),
            None => Err(Error::internal("a statement without a plan was explained")),
        }
    }

    fn show(&self, show: &Show) -> Result<Show> {
        if let Show::Create { name } | Show::Columns { name } = show
            && self.catalog.get(&name.value).is_none()
        {
            return Err(self.undefined("relation", name));
        }
        Ok(show.clone())
    }

    fn pipeline_named(&self, name: &Name) -> Result<Arc<Relation>> {
        match self.catalog.get(&name.value) {
            Some(relation) if matches!(*relation.definition, Definition::Pipeline(_)) => {
                Ok(Arc::clone(relation))
            }
            Some(_) => {
                let message = format!("\"{}\" is not a pipeline", name.value);
                Err(Error::new(ErrorKind::WrongObjectType, message).at(name.position))
            }
            None => Err(self.undefined("pipeline", name)),
        }
    }

    /// The name of nothing, with the name that it was most likely meant to be.
    pub(super) fn undefined(&self, noun: &str, name: &Name) -> Error {
        let message = format!("{noun} \"{}\" does not exist", name.value);
        let error = Error::new(ErrorKind::UndefinedTable, message).at(name.position);
        let names = self.catalog.iter().map(|relation| relation.name.as_str());
        match nearest(&name.value, names) {
            Some(near) => error.with_hint(format!("perhaps you meant \"{near}\"")),
            None => error,
        }
    }

    pub(super) fn places(&self) -> Places<'_> {
        Places::new(&self.statement.text, self.statement.offset)
    }
}

/// The name that a CREATE makes is taken.
pub(super) fn already_exists(name: &Name, if_not_exists: bool) -> Result<Bound> {
    if if_not_exists {
        return Ok(Bound::AlreadyExists { name: name.value.clone() });
    }
    let message = format!("relation \"{}\" already exists", name.value);
    Err(Error::new(ErrorKind::DuplicateTable, message).at(name.position))
}

/// What a statement names must be of the kind that it says.
fn check_kind(verb: &str, kind: ObjectKind, relation: &Relation) -> Result<()> {
    let fits = match relation.definition.as_ref() {
        Definition::Table(_) => kind == ObjectKind::Table,
        Definition::Source(_) => kind == ObjectKind::Source,
        Definition::View(_) => kind == ObjectKind::MaterializedView,
        Definition::LogicalView(_) => kind == ObjectKind::View,
        Definition::Sink(_) => kind == ObjectKind::Sink,
        Definition::Pipeline(_) => kind == ObjectKind::Pipeline,
        Definition::Catalog(_) => kind == ObjectKind::Catalog,
        Definition::Unbound(unbound) => kind.noun() == unbound.noun,
        Definition::Errors => kind == ObjectKind::Table,
    };
    if fits {
        return Ok(());
    }
    let (is, noun) = (relation.definition.noun(), kind.noun());
    let message = format!("\"{}\" is not a {noun}", relation.name);
    Err(Error::new(ErrorKind::WrongObjectType, message)
        .with_hint(format!("use {verb} {}", is.to_uppercase())))
}

/// Weights and operations travel beside a relation's columns, under names that begin so.
fn refuse_reserved(creation: &Creation) -> Result<()> {
    let names = creation.schema.fields().iter().map(|field| field.name());
    if creation.name == COUNTERS && !names.clone().eq(["counter", "given"]) {
        let message = format!("relation \"{COUNTERS}\" belongs to the engine");
        return Err(Error::new(ErrorKind::InvalidSql, message).with_hint("give it another name"));
    }
    match names.into_iter().find(|name| name.starts_with('$')) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            ErrorKind::InvalidSql,
            format!("column \"{name}\" begins with $, which is reserved"),
        )
        .with_hint("give it another name")),
    }
}
