//! Queries: planned once, run over one snapshot.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, Values};
use datafusion::physical_plan::execute_stream;
use datafusion::scalar::ScalarValue;

use super::lake_table::LakeTables;
use super::pg_catalog::CatalogContext;
use super::relation_schema::RelationSchema;
use super::session_state::Shared;
use super::{Description, Outcome, Variables, query_error};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::batch_state;
use crate::sql::{self, Bound, Statement, StatementKind};

/// A plan whose tables are those of one snapshot, and the state to run it in.
pub(super) struct Planned {
    state: SessionState,
    pub(super) plan: LogicalPlan,
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
        return super::explain::run(shared, statement, &lake);
    }
    let planned = plan(shared, variables, statement).await?;
    let planned = planned.with_params(params)?;
    planned.run().await
}

/// What a statement takes and gives.
pub(super) async fn describe(
    shared: &Shared,
    variables: &Variables,
    statement: &Statement,
    given: &[Option<DataType>],
) -> Result<Description> {
    match &statement.kind {
        StatementKind::Query(_) => {
            let planned = plan(shared, variables, statement).await?;
            let params = parameter_types(&planned.plan, given)?;
            // With typed NULLs in their places, so that `SELECT $1` has a type.
            let nulls =
                params.iter().map(|param| null_of(param.as_ref())).collect::<Result<Vec<_>>>()?;
            let planned = planned.with_params(&nulls)?;
            let schema = Arc::clone(planned.plan.schema().inner());
            Ok(Description { params, columns: Some(schema) })
        }
        StatementKind::Insert(_) | StatementKind::Update(_) | StatementKind::Delete(_) => {
            let params = super::write::parameter_types(shared, statement, given).await?;
            Ok(Description { params, columns: None })
        }
        StatementKind::Show(what) => {
            let batch = super::show::show(&shared.engine, variables, what)?;
            Ok(Description { params: Vec::new(), columns: Some(batch.schema()) })
        }
        StatementKind::Explain(_) => {
            let columns = Some(super::explain::columns());
            Ok(Description { params: Vec::new(), columns })
        }
        _ => Ok(Description::default()),
    }
}

fn null_of(param: Option<&DataType>) -> Result<ScalarValue> {
    ScalarValue::try_from(param.unwrap_or(&DataType::Utf8)).map_err(query_error)
}

/// Types of `$1`, `$2` …: what the plan wants, else what the client gave; a number that the client
/// gave in a wider type stays what it is, as `1.5` does beside an integer.
pub(super) fn parameter_types(
    plan: &LogicalPlan,
    given: &[Option<DataType>],
) -> Result<Vec<Option<DataType>>> {
    let inferred = sql::parameter_types(plan)?;
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
    pub(super) fn attach(
        shared: &Shared,
        tables: &RelationSchema,
        plan: LogicalPlan,
    ) -> Result<Self> {
        let state = batch_state(shared.engine.env().now());
        Ok(Self { state, plan: attached(plan, tables)? })
    }

    /// With values in the places of parameters.
    pub(super) fn with_params(self, params: &[ScalarValue]) -> Result<Self> {
        if params.is_empty() {
            return Ok(self);
        }
        let plan = self.plan.with_param_values(params.to_vec()).map_err(query_error)?;
        Ok(Self { state: self.state, plan: sql::floats_beside_decimals(plan)? })
    }

    /// Starts it.
    pub(super) async fn run(self) -> Result<Outcome> {
        let schema = Arc::clone(self.plan.schema().inner());
        let physical = self.state.create_physical_plan(&self.plan).await.map_err(query_error)?;
        let stream = execute_stream(physical, self.state.task_ctx()).map_err(query_error)?;
        Ok(Outcome::Rows { schema, stream })
    }
}

/// Plans a query over the newest snapshot.
async fn plan(shared: &Shared, variables: &Variables, statement: &Statement) -> Result<Planned> {
    let catalog = shared.engine.catalog();
    let tables = RelationSchema::new(Arc::clone(&catalog), shared.engine.snapshot());
    let concerns = CatalogContext::concerns(&statement.text);
    let mut refused = None;
    if concerns {
        match plan_catalog(shared, variables, statement).await {
            Ok(planned) => return Ok(planned),
            Err(error) => refused = Some(error),
        }
    }
    let lake = LakeTables::load(&catalog, statement).await?;
    let error = match sql::bind_with(&catalog, statement, &lake) {
        Ok(Bound::Query(plan)) => return Planned::attach(shared, &tables, plan),
        Ok(_) => return Err(Error::internal("a query was bound to something else")),
        Err(error) => error,
    };
    match (error.kind, refused) {
        (ErrorKind::UndefinedTable | ErrorKind::UndefinedFunction, Some(refused)) => Err(refused),
        // A function such as current_schema() that only the catalog knows.
        (ErrorKind::UndefinedFunction, None) => {
            plan_catalog(shared, variables, statement).await.map_err(|_| error)
        }
        _ => Err(error),
    }
}

async fn plan_catalog(
    shared: &Shared,
    variables: &Variables,
    statement: &Statement,
) -> Result<Planned> {
    let context = shared.catalog_context().await?;
    let catalog = shared.engine.catalog();
    let public = RelationSchema::new(Arc::clone(&catalog), shared.engine.snapshot());
    let start = shared.engine.env().now();
    let state = context.state(&catalog, variables, Arc::new(public), start)?;
    let plan = context.plan(&state, &statement.text).await?;
    Ok(Planned { state, plan })
}

/// The plan with a snapshot's rows in the place of the binder's tables, which have a schema only.
fn attached(plan: LogicalPlan, tables: &RelationSchema) -> Result<LogicalPlan> {
    let attach = |node: LogicalPlan| {
        let mut scan = match node {
            LogicalPlan::TableScan(scan) => scan,
            LogicalPlan::Values(values) => return nullable(values).map(Transformed::yes),
            other => return Ok(Transformed::no(other)),
        };
        if source_as_provider(&scan.source).is_ok() {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        }
        let rows = tables.by_name(scan.table_name.table());
        let rows = rows.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let Some(rows) = rows else {
            let name = scan.table_name.table();
            let error = Error::new(
                ErrorKind::UndefinedTable,
                format!("relation \"{name}\" does not exist"),
            );
            return Err(DataFusionError::External(Box::new(error)));
        };
        scan.source = provider_as_source(rows);
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    };
    let plan = plan.transform_up_with_subqueries(attach).map_err(query_error)?;
    Ok(plan.data)
}

/// The same values in columns that may hold NULL. The planner of INSERT takes the table's columns,
/// and what is NULL there would fail before anybody can tell which column it is.
fn nullable(mut values: Values) -> datafusion::error::Result<LogicalPlan> {
    let fields = values.schema.iter().map(|(qualifier, field)| {
        let field = field.as_ref().clone().with_nullable(true);
        (qualifier.cloned(), Arc::new(field))
    });
    let metadata = values.schema.metadata().clone();
    values.schema = Arc::new(DFSchema::new_with_metadata(fields.collect(), metadata)?);
    Ok(LogicalPlan::Values(values))
}
