//! Queries: planned once, run over one snapshot.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use chrono::{DateTime, Utc};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::physical_plan::execute_stream;
use datafusion::scalar::ScalarValue;
use futures::StreamExt;

use super::cached_plans::{Asked, CachedPlan};
use super::lake_table::LakeTables;
use super::outcome::SELECT;
use super::pg_catalog::{CatalogExtras, CatalogUse};
use super::relation_schema::{RelationSchema, attached};
use super::shared::Shared;
use super::snapshot_table::SnapshotTable;
use super::{Outcome, Variables, explain, query_error};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::plan::{BatchPlanner, physical_plan};
use crate::sql::{self, Bound, CONFLICTS, Execute, Statement, StatementKind};

/// A plan whose tables are those of one snapshot, and what plans how it is run.
pub(super) struct Planned {
    planner: PlannedBy,
    pub(super) plan: LogicalPlan,
    /// It is a [`BatchPlanner::short_plan`].
    is_optimised: bool,
}

enum PlannedBy {
    /// The planner of queries; with the moment that `now()` says.
    Queries(Arc<BatchPlanner>, DateTime<Utc>),
    /// The planner of questions about the catalog.
    Catalog(Box<SessionState>),
}

/// Runs a query or EXPLAIN.
pub(super) async fn run(
    shared: &Shared,
    variables: &Variables,
    statement: &Statement,
    params: &[ScalarValue],
) -> Result<Outcome> {
    if let StatementKind::Explain(_) = &statement.kind {
        let lake = LakeTables::load(&shared.engine.catalog(), statement).await?;
        return explain::run(shared, statement, &lake);
    }
    let catalog = shared.engine.catalog();
    let cached = shared.plans.get(&catalog, &statement.text, params);
    let planned = match cached.filter(|cached| matches!(cached.asked, Asked::Query)) {
        Some(cached) => {
            let tables = RelationSchema::new(catalog, shared.engine.snapshot());
            Planned::cached(shared, &tables, &cached, params).await?
        }
        None => plan(shared, variables, statement, params).await?.with_params(params)?,
    };
    let (schema, stream) = planned.run().await?;
    let stream = shared.queries().await?.ahead(stream).await?;
    Ok(Outcome::Rows { schema, stream, tag: SELECT })
}

/// The values of EXECUTE for parameters of these types.
///
/// # Errors
/// `Syntax` for another number of values; what the values say.
pub(super) async fn arguments(
    shared: &Shared,
    execute: &Execute,
    types: &[Option<DataType>],
) -> Result<Vec<ScalarValue>> {
    let catalog = shared.engine.catalog();
    let field = |(at, data_type): (usize, &Option<DataType>)| {
        let data_type = data_type.clone().unwrap_or(DataType::Utf8);
        Arc::new(Field::new(format!("${}", at + 1), data_type, true))
    };
    let params: Vec<FieldRef> = types.iter().enumerate().map(field).collect();
    let Some(plan) = sql::bind_arguments(&catalog, execute, &params)? else {
        return Ok(Vec::new());
    };
    let tables = RelationSchema::new(catalog, shared.engine.snapshot());
    let (_, mut stream) = Planned::attach(shared, &tables, plan).await?.run().await?;
    while let Some(row) = stream.next().await {
        let row = row.map_err(query_error)?;
        if row.num_rows() > 0 {
            let values = row.columns().iter().map(|column| ScalarValue::try_from_array(column, 0));
            return values.collect::<std::result::Result<_, _>>().map_err(query_error);
        }
    }
    Err(Error::internal("values gave no row"))
}

/// Types of `$1`, `$2` …: what the first of the plans wants that wants something, else what the
/// client gave; a number that the client gave in a wider type stays what it is, as `1.5` does
/// beside an integer.
pub(super) fn parameter_types<'a>(
    plans: impl IntoIterator<Item = &'a LogicalPlan>,
    given: &[Option<DataType>],
) -> Result<Vec<Option<DataType>>> {
    let mut inferred: Vec<Option<DataType>> = Vec::new();
    for plan in plans {
        for (at, wanted) in sql::parameter_types(plan)?.into_iter().enumerate() {
            inferred.resize(inferred.len().max(at + 1), None);
            inferred[at] = inferred[at].take().or(wanted);
        }
    }
    let param = |at: usize| {
        let wanted = inferred.get(at).cloned().flatten();
        let given = given.get(at).cloned().flatten();
        match (&wanted, &given) {
            (Some(wanted), Some(wider)) if is_wider(wider, wanted) => given,
            _ => wanted.or(given),
        }
    };
    Ok((0..inferred.len().max(given.len())).map(param).collect())
}

fn is_wider(given: &DataType, wanted: &DataType) -> bool {
    if !given.is_numeric() || !wanted.is_numeric() || wanted.is_floating() {
        return false;
    }
    match (given.primitive_width(), wanted.primitive_width()) {
        (Some(given_width), Some(wanted_width)) if given.is_integer() && wanted.is_integer() => {
            given_width > wanted_width
        }
        _ => !given.is_integer(),
    }
}

impl Planned {
    /// A plan over relations of the engine, which takes this moment for `now()`.
    pub(super) async fn attach(
        shared: &Shared,
        tables: &RelationSchema,
        plan: LogicalPlan,
    ) -> Result<Self> {
        let planner = Arc::clone(shared.queries().await?.planner());
        let planner = PlannedBy::Queries(planner, shared.engine.env().now());
        Ok(Self { planner, plan: attached(plan, tables)?, is_optimised: false })
    }

    /// A plan that is kept, over relations of the engine and with the values of its parameters.
    pub(super) async fn cached(
        shared: &Shared,
        tables: &RelationSchema,
        cached: &CachedPlan,
        params: &[ScalarValue],
    ) -> Result<Self> {
        let planner = Arc::clone(shared.queries().await?.planner());
        let plan = planner.folded(cached.with(tables, params)?).map_err(query_error)?;
        let planner = PlannedBy::Queries(planner, shared.engine.env().now());
        Ok(Self { planner, plan, is_optimised: true })
    }

    /// With values in the places of parameters.
    pub(super) fn with_params(self, params: &[ScalarValue]) -> Result<Self> {
        Ok(Self { plan: with_params(self.plan, params)?, ..self })
    }

    /// Starts it: its columns as clients see them, and its rows.
    pub(super) async fn run(self) -> Result<(SchemaRef, SendableRecordBatchStream)> {
        let schema = sql::visible_columns(&self.plan);
        let (physical, task) = match self.planner {
            PlannedBy::Queries(planner, start) => {
                let physical = match self.is_optimised {
                    true => planner.physical_plan_of_short(self.plan, gives_few).await,
                    false => planner.physical_plan(&self.plan, start, gives_few).await,
                };
                (physical, planner.task())
            }
            PlannedBy::Catalog(state) => {
                (physical_plan(&state, &self.plan).await, state.task_ctx())
            }
        };
        let stream = execute_stream(physical.map_err(query_error)?, task).map_err(query_error)?;
        Ok((schema, stream))
    }
}

/// A plan with values in the places of parameters.
pub(super) fn with_params(plan: LogicalPlan, params: &[ScalarValue]) -> Result<LogicalPlan> {
    let names = plan.get_parameter_names().map_err(query_error)?;
    if names.is_empty() {
        return Ok(plan);
    }
    let numbers = names.iter().filter_map(|name| name.trim_start_matches('$').parse().ok());
    if let Some(number) = numbers.filter(|number: &usize| *number > params.len()).min() {
        return Err(sql::no_parameter(number));
    }
    sql::with_final_types(plan.with_param_values(params.to_vec()).map_err(query_error)?)
}

/// Plans a query over the newest snapshot; keeps its plan for other values of its parameters.
pub(super) async fn plan(
    shared: &Shared,
    variables: &Variables,
    statement: &Statement,
    params: &[ScalarValue],
) -> Result<Planned> {
    let catalog = shared.engine.catalog();
    let context = shared.catalog_context().await?;
    let named = CatalogUse::of(statement, &catalog, context);
    if named.is_question() {
        let state = catalog_state(shared, variables, &catalog).await?;
        let plan = context.plan(&state, &statement.text).await?;
        let planner = PlannedBy::Catalog(Box::new(state));
        return Ok(Planned { planner, plan, is_optimised: false });
    }
    let tables = RelationSchema::new(Arc::clone(&catalog), shared.engine.snapshot());
    let lake = LakeTables::load(&catalog, statement).await?;
    let extras = match named.is_empty() {
        true => CatalogExtras::of_lake(lake),
        false => {
            let state = catalog_state(shared, variables, &catalog).await?;
            CatalogExtras::load(lake, &named, &state).await?
        }
    };
    let bound = sql::bind_with(&catalog, statement, &extras)?;
    if named.is_empty() {
        shared.keep_plan(&catalog, &tables, statement, &bound, params).await?;
    }
    match bound {
        Bound::Query(plan) => Planned::attach(shared, &tables, plan).await,
        _ => Err(Error::internal("a query was bound to something else")),
    }
}

/// The state of the planner of questions about the catalog.
async fn catalog_state(
    shared: &Shared,
    variables: &Variables,
    catalog: &Arc<Catalog>,
) -> Result<SessionState> {
    let context = shared.catalog_context().await?;
    let public = RelationSchema::new(Arc::clone(catalog), shared.engine.snapshot());
    let start = shared.engine.env().now();
    let memory = shared.queries().await?.planner().memory();
    context.state(catalog, variables, Arc::new(public), start, memory)
}

/// True for a scan of a table or view of ours that gives a few rows, and for rows that are there.
fn gives_few(scan: &TableScan) -> bool {
    let provider = source_as_provider(&scan.source);
    let table = provider.as_ref().ok().and_then(|table| table.downcast_ref::<SnapshotTable>());
    table.is_some_and(|table| table.gives_few(&scan.filters))
        || scan.table_name.table() == CONFLICTS
}
