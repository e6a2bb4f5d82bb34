//! CREATE SINK and CREATE PIPELINE.

use croner::parser::{CronParser, Seconds};
use frazil_connector_api::{Options, SinkMode};

use super::binder::{Binder, NewRelation};
use super::column_list::undefined_column;
use super::query_binder::reference;
use super::statement::{CreatePipeline, CreateSink, Name, SinkSource};
use crate::catalog::{ChangelogMode, Creation, Definition, PipelineDef, SinkDef};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::IncrementalPlan;
use datafusion::logical_expr::planner::ContextProvider as _;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};

/// Least time between two commits, unless `commit_interval` says another.
const COMMIT_INTERVAL_MS: u64 = 1_000;

impl Binder<'_> {
    pub(super) fn sink(&self, sink: &CreateSink) -> Result<NewRelation> {
        if sink.format.is_some() {
            return Err(
                Error::unsupported("FORMAT of a sink is not supported").at(sink.name.position)
            );
        }
        let logical = match &sink.source {
            SinkSource::Relation(name) => self.scan(name)?,
            SinkSource::Query(query) => self.query_as(query, &[], &sink.name, "CREATE SINK")?,
        };
        let at = |error: Error| match error.position {
            None => error.at(sink.name.position),
            Some(_) => error,
        };
        if sink.options.get("connector").is_none() {
            return Err(at(missing("connector")));
        }
        NewRelation::of_query(&logical, |plan| {
            let definition = sink_definition(plan, sink.options.clone()).map_err(at)?;
            Ok(self.target_creation(&sink.name, plan, Definition::Sink(definition)))
        })
    }

    pub(super) fn pipeline(&self, pipeline: &CreatePipeline) -> Result<NewRelation> {
        check_schedule(&pipeline.schedule).map_err(|error| error.at(pipeline.schedule_position))?;
        let options = self.target_options(pipeline)?;
        let logical = self.query_as(&pipeline.query, &[], &pipeline.name, "CREATE PIPELINE")?;
        NewRelation::of_query(&logical, |plan| {
            let sink =
                sink_definition(plan, options).map_err(|error| error.at(pipeline.name.position))?;
            let definition = PipelineDef { schedule: pipeline.schedule.clone(), sink };
            Ok(self.target_creation(&pipeline.name, plan, Definition::Pipeline(definition)))
        })
    }

    fn target_creation(
        &self,
        name: &Name,
        plan: &IncrementalPlan,
        definition: Definition,
    ) -> Creation {
        Creation {
            name: name.value.clone(),
            schema: plan.schema.clone(),
            upsert_key: plan.upsert_key.clone(),
            mode: plan.mode,
            depends_on: self.scope.named(),
            definition,
        }
    }

    fn scan(&self, name: &Name) -> Result<LogicalPlan> {
        let source = self
            .scope
            .get_table_source(reference(&name.value))
            .map_err(|error| Error::from(error).at(name.position))?;
        Ok(LogicalPlanBuilder::scan(reference(&name.value), source, None)?.build()?)
    }

    /// Options of the Iceberg table that `catalog.database.table` names.
    fn target_options(&self, pipeline: &CreatePipeline) -> Result<Options> {
        let [catalog, database, table] = pipeline.target.as_slice() else {
            let position = pipeline.target.first().map_or(1, |name| name.position);
            return Err(Error::unsupported("a pipeline writes to a table of a catalog")
                .with_hint("name it as catalog.database.table, such as lake.shop.daily")
                .at(position));
        };
        let relation = self.catalog.get(&catalog.value);
        let Some(Definition::Catalog(definition)) = relation.map(|r| r.definition.as_ref()) else {
            return Err(self
                .undefined("catalog", catalog)
                .with_hint("make it with CREATE CATALOG, or use the predefined \"lake\""));
        };
        let text = |(name, value): (&str, &str)| (name.to_string(), value.to_string());
        let common = definition.options.iter().filter(|(name, _)| *name != "type").map(text);
        let own = [
            ("connector", "iceberg"),
            ("database.name", database.value.as_str()),
            ("table.name", table.value.as_str()),
            ("create_table_if_not_exists", "true"),
        ];
        let given = pipeline.options.iter().map(text);
        Ok(Options::new(common.chain(own.into_iter().map(text)).chain(given)))
    }
}

fn missing(option: &str) -> Error {
    Error::new(ErrorKind::InvalidParameter, format!("option \"{option}\" is missing"))
        .with_hint(format!("add {option} = '…' to WITH"))
}

fn bad(option: &str, value: &str, hint: &str) -> Error {
    let message = format!("option \"{option}\" has a bad value \"{value}\"");
    Error::new(ErrorKind::InvalidParameter, message).with_hint(hint)
}

/// Checks the options that all sinks have; the connector checks its own.
fn sink_definition(plan: &IncrementalPlan, mut options: Options) -> Result<SinkDef> {
    let forced = match options.take("force_append_only").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(bad("force_append_only", other, "use true or false")),
    };
    let commit_interval_ms = match options.get("commit_interval") {
        None => COMMIT_INTERVAL_MS,
        Some(text) => parse_interval(text)?,
    };
    let key = match options.get("primary_key") {
        Some(names) => Some(key_columns(names, plan)?),
        None => plan.upsert_key.clone().filter(|key| !key.is_empty()),
    };
    let retracts = plan.mode == ChangelogMode::Retract;
    if retracts {
        check_unique_key(key.as_deref(), plan)?;
    }
    let mode = match options.get("type") {
        Some("append-only") => append_only(retracts, forced)?,
        Some("upsert") => upsert(key)?,
        None if retracts => upsert(key)?,
        None => SinkMode::AppendOnly,
        Some(other) => return Err(bad("type", other, "use 'append-only' or 'upsert'")),
    };
    Ok(SinkDef { mode, connector: options, commit_interval_ms })
}

fn append_only(retracts: bool, forced: bool) -> Result<SinkMode> {
    match (retracts, forced) {
        (false, _) => Ok(SinkMode::AppendOnly),
        (true, false) => Err(Error::new(
            ErrorKind::InvalidParameter,
            "an append-only sink cannot take updates and deletes, which its input has",
        )
        .with_hint("use type = 'upsert' with primary_key")),
        (true, true) => Err(Error::unsupported(
            "force_append_only of an input with updates and deletes is not supported",
        )
        .with_hint("use type = 'upsert' with primary_key")),
    }
}

fn upsert(key: Option<Vec<usize>>) -> Result<SinkMode> {
    match key {
        Some(key) => Ok(SinkMode::Upsert { key }),
        None => Err(Error::new(
            ErrorKind::InvalidParameter,
            "an upsert sink needs a key, and none is known for its input",
        )
        .with_hint("add primary_key = 'column, …': columns that are unique in the input")),
    }
}

/// A key that leaves out a column of the input's own could stand for several of its rows, of which
/// the target would keep one.
fn check_unique_key(key: Option<&[usize]>, plan: &IncrementalPlan) -> Result<()> {
    let (Some(key), Some(known)) = (key, &plan.upsert_key) else { return Ok(()) };
    if known.iter().all(|column| key.contains(column)) {
        return Ok(());
    }
    let names = |columns: &[usize]| {
        let names = columns.iter().map(|column| plan.schema.field(*column).name().as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let (given, known) = (names(key), names(known));
    let message = format!("primary_key \"{given}\" is not known to be unique in the input");
    Err(Error::new(ErrorKind::InvalidParameter, message)
        .with_hint(format!("use primary_key = '{known}', or group the input by {given}")))
}

fn key_columns(names: &str, plan: &IncrementalPlan) -> Result<Vec<usize>> {
    let columns = names.split(',').map(|name| {
        let name = name.trim().trim_matches('"');
        plan.schema.index_of(name).map_err(|_| {
            let names = plan.schema.fields().iter().map(|field| field.name().as_str());
            undefined_column(name, names)
        })
    });
    columns.collect()
}

/// Milliseconds of a text such as `5s`, `500ms` or `1 minute`.
fn parse_interval(text: &str) -> Result<u64> {
    let wrong = || bad("commit_interval", text, "write a number and a unit, such as '5s'");
    let trimmed = text.trim();
    let digits = trimmed.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit.trim().to_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).ok_or_else(wrong)
}

fn check_schedule(schedule: &str) -> Result<()> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
    parser.parse(schedule).map(|_| ()).map_err(|error| {
        let message = format!("schedule \"{schedule}\" is not a cron expression");
        Error::new(ErrorKind::InvalidParameter, message)
            .with_detail(error.to_string())
            .with_hint("use five fields: minute hour day month weekday, such as '0 * * * *'")
    })
}
