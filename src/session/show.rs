//! What SHOW shows, as one batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};

use super::Variables;
use super::variables::unrecognized;
use crate::catalog::{Catalog, Definition, Relation, RelationId};
use crate::dataflow::FieldNotice;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{CatchUp, Engine, JobKind, JobState, JobStatus, PipelineRun, PipelineRunState};
use crate::sql::{Show, redacted};
use crate::state::MemoryAccount;
use crate::types::type_name;

type Column = (&'static str, ArrayRef);

/// The rows of a SHOW.
///
/// # Errors
/// `UndefinedTable`; `InvalidParameter` for a variable that is not there.
pub(super) fn show(engine: &Engine, variables: &Variables, what: &Show) -> Result<RecordBatch> {
    let catalog = engine.catalog();
    let named = |wanted: fn(&Definition) -> bool| relations(&catalog, wanted);
    let columns = match what {
        Show::Jobs => jobs(&engine.jobs()),
        Show::Memory => memory(engine.memory(), &catalog),
        Show::Workers => workers(engine),
        Show::Tables => named(|is| matches!(is, Definition::Table(_) | Definition::Errors)),
        Show::Sources => named(|is| matches!(is, Definition::Source(_))),
        Show::Sinks => sinks(&engine.jobs()),
        Show::MaterializedViews => named(|is| matches!(is, Definition::View(_))),
        Show::Views => named(|is| matches!(is, Definition::View(_) | Definition::LogicalView(_))),
        Show::Pipelines => pipelines(&catalog),
        Show::PipelineRuns => runs(&engine.pipeline_runs()),
        Show::Catalogs => named(|is| matches!(is, Definition::Catalog(_))),
        Show::Create { name } => {
            let relation = found(&catalog, &name.value, name.position)?;
            vec![
                ("name", texts([relation.name.as_str()])),
                ("create_sql", texts([redacted(&relation.sql)])),
            ]
        }
        Show::Columns { name } => columns(found(&catalog, &name.value, name.position)?),
        Show::Variable(name) => return variable(variables, name),
        Show::All => vec![
            ("name", texts(variables.iter().map(|(name, _)| name))),
            ("setting", texts(variables.iter().map(|(_, value)| value))),
        ],
    };
    Ok(RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )?)
}

fn found<'a>(catalog: &'a Catalog, name: &str, position: usize) -> Result<&'a Arc<Relation>> {
    catalog.get(name).ok_or_else(|| {
        Error::new(ErrorKind::UndefinedTable, format!("relation \"{name}\" does not exist"))
            .at(position)
    })
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn optional(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn counts(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    let count = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
    Arc::new(values.map(count).collect::<Int64Array>())
}

fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

fn relations(catalog: &Catalog, wanted: fn(&Definition) -> bool) -> Vec<Column> {
    let names = catalog.iter().filter(|relation| wanted(&relation.definition));
    vec![("name", texts(names.map(|relation| relation.name.as_str())))]
}

fn columns(relation: &Relation) -> Vec<Column> {
    let fields = relation.schema.fields();
    let key = |at: usize| match relation.definition.as_ref() {
        Definition::Table(table) if table.primary_key.contains(&at) => "primary key",
        _ => "",
    };
    vec![
        ("name", texts(fields.iter().map(|field| field.name().as_str()))),
        ("type", texts(fields.iter().map(|field| type_name(field.data_type())))),
        (
            "nullable",
            texts(fields.iter().map(|field| if field.is_nullable() { "yes" } else { "no" })),
        ),
        ("key", texts((0..fields.len()).map(key))),
    ]
}

fn variable(variables: &Variables, name: &str) -> Result<RecordBatch> {
    let value = variables
        .get(name)
        .ok_or_else(|| unrecognized(name).with_hint("SHOW ALL lists what there is"))?;
    let name =
        variables.iter().map(|(name, _)| name).find(|known| known.eq_ignore_ascii_case(name));
    Ok(RecordBatch::try_from_iter([(name.unwrap_or("setting"), texts([value]))])?)
}

fn kind(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Table => "table",
        JobKind::View => "materialized view",
        JobKind::Sink => "sink",
        JobKind::Pipeline => "pipeline",
        JobKind::Unbound(noun) => noun,
    }
}

fn state(state: &JobState) -> (&'static str, Option<String>) {
    match state {
        JobState::Running => ("running", None),
        JobState::CatchingUp(_) => ("catching up", None),
        JobState::Finished => ("finished", None),
        JobState::Retrying { attempts, error } => {
            ("retrying", Some(format!("{error} (tries: {attempts})")))
        }
        JobState::Failed { error } => ("failed", Some(error.clone())),
    }
}

fn jobs(jobs: &[JobStatus]) -> Vec<Column> {
    vec![
        ("name", texts(jobs.iter().map(|job| job.name.as_str()))),
        ("kind", texts(jobs.iter().map(|job| kind(job.kind)))),
        ("state", texts(jobs.iter().map(|job| state(&job.state).0))),
        ("row_count", counts(jobs.iter().map(|job| job.row_count))),
        ("rows_in", counts(jobs.iter().map(|job| Some(job.rows_in)))),
        ("bytes_in", counts(jobs.iter().map(|job| Some(job.bytes_in)))),
        ("bad_messages", counts(jobs.iter().map(|job| Some(job.bad_messages)))),
        ("state_bytes", counts(jobs.iter().map(|job| Some(job.state_bytes)))),
        ("error", optional(jobs.iter().map(error))),
        ("progress", optional(jobs.iter().map(|job| progress(&job.state)))),
        ("epochs_behind", counts(jobs.iter().map(|job| epochs_behind(&job.state)))),
        ("schema_changes", optional(jobs.iter().map(|job| schema_changes(&job.field_notices)))),
    ]
}

/// The error of a job, with what starts it again.
fn error(job: &JobStatus) -> Option<String> {
    let (_, error) = state(&job.state);
    match (&job.state, &job.resumed_by) {
        (JobState::Failed { error }, Some(resume)) if !error.contains("RESUME") => {
            Some(format!("{error}; {resume} starts it again"))
        }
        _ => error,
    }
}

/// How messages differ from the declared columns: columns that they lack, then other fields.
fn schema_changes(notices: &[FieldNotice]) -> Option<String> {
    const FIELDS_MAX: usize = 20;
    const SPLITS_MAX: usize = 3;
    let mut fields: BTreeMap<(bool, &str), Vec<(&str, i64)>> = BTreeMap::new();
    for FieldNotice { name, is_missing, split, since } in notices {
        fields.entry((!is_missing, name)).or_default().push((&split.0, *since));
    }
    let more = |count: usize, shown: usize| match count.saturating_sub(shown) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let texts = fields.iter().take(FIELDS_MAX).map(|((is_undeclared, name), splits)| {
        let what = if *is_undeclared { "no column takes field" } else { "messages lack column" };
        let places = splits.iter().take(SPLITS_MAX);
        let places = places.map(|(split, since)| format!("offset {since} of split {split}"));
        let places = places.collect::<Vec<_>>().join(", ");
        format!("{what} \"{name}\" since {places}{}", more(splits.len(), SPLITS_MAX))
    });
    let text = texts.collect::<Vec<_>>().join("; ");
    (!fields.is_empty()).then(|| text + &more(fields.len(), FIELDS_MAX))
}

/// How much of the rows that were there at its start a job has taken.
fn progress(state: &JobState) -> Option<String> {
    let JobState::CatchingUp(CatchUp { rows_done, rows_total, .. }) = state else { return None };
    let percent = (rows_done * 100).checked_div(*rows_total).unwrap_or(100);
    Some(format!("{percent} % ({rows_done} of {rows_total} rows)"))
}

fn epochs_behind(state: &JobState) -> Option<u64> {
    match state {
        JobState::CatchingUp(catch_up) => Some(catch_up.epochs_behind),
        _ => None,
    }
}

/// What is charged, then the sum and the limits; bytes in scratch files count against no limit.
fn memory(account: &MemoryAccount, catalog: &Catalog) -> Vec<Column> {
    let uses = account.uses();
    let owner = |owner: RelationId| match catalog.by_id(owner) {
        Some(relation) => relation.name.clone(),
        None => owner.to_string(),
    };
    let name = uses.iter().map(|used| used.owner.map(owner)).chain([None, None, None]);
    let kinds = uses.iter().map(|used| used.kind.name());
    let kinds = kinds.chain(["total", "memory_soft_limit", "memory_limit"]);
    let sums = [account.total(), account.soft_limit(), account.limit()];
    let memory = uses.iter().map(|used| used.memory).chain(sums);
    let scratch_total = uses.iter().map(|used| used.scratch).sum();
    let scratch = uses.iter().map(|used| Some(used.scratch));
    vec![
        ("name", optional(name)),
        ("kind", texts(kinds)),
        ("memory_bytes", counts(memory.map(Some))),
        ("scratch_bytes", counts(scratch.chain([Some(scratch_total), None, None]))),
    ]
}

/// One that is silent for seconds holds up all statements that wait for an epoch.
fn workers(engine: &Engine) -> Vec<Column> {
    let silences = engine.worker_silences();
    let silent_ms = silences.iter().map(|silence| u64::try_from(silence.duration.as_millis()).ok());
    vec![
        ("worker", counts(silences.iter().map(|silence| Some(silence.worker as u64)))),
        ("process", counts(silences.iter().map(|silence| Some(silence.process as u64)))),
        ("silent_ms", counts(silent_ms)),
    ]
}

fn sinks(jobs: &[JobStatus]) -> Vec<Column> {
    let sinks: Vec<_> =
        jobs.iter().filter_map(|job| job.sink.as_ref().map(|sink| (job, sink))).collect();
    vec![
        ("name", texts(sinks.iter().map(|(job, _)| job.name.as_str()))),
        ("state", texts(sinks.iter().map(|(job, _)| state(&job.state).0))),
        ("target", texts(sinks.iter().map(|(_, sink)| sink.target.as_str()))),
        ("snapshot", optional(sinks.iter().map(|(_, sink)| sink.snapshot.clone()))),
        ("row_count", counts(sinks.iter().map(|(_, sink)| sink.row_count))),
        ("error", optional(sinks.iter().map(|(job, _)| state(&job.state).1))),
    ]
}

fn pipelines(catalog: &Catalog) -> Vec<Column> {
    let pipeline = |relation: &Arc<Relation>| match relation.definition.as_ref() {
        Definition::Pipeline(pipeline) => Some((relation.name.clone(), pipeline.schedule.clone())),
        _ => None,
    };
    let (names, schedules): (Vec<_>, Vec<_>) = catalog.iter().filter_map(pipeline).unzip();
    vec![("name", texts(names)), ("schedule", texts(schedules))]
}

/// A firing's state, snapshot and error.
fn run_state(state: &PipelineRunState) -> (&'static str, Option<String>, Option<String>) {
    match state {
        PipelineRunState::Running => ("running", None, None),
        PipelineRunState::Retrying { attempts, error } => {
            ("retrying", None, Some(format!("{error} (tries: {attempts})")))
        }
        PipelineRunState::Committed { snapshot } => ("committed", Some(snapshot.clone()), None),
        PipelineRunState::Empty => ("empty", None, None),
        PipelineRunState::Failed { error } => ("failed", None, Some(error.clone())),
    }
}

/// Firings of pipelines.
fn runs(runs: &[PipelineRun]) -> Vec<Column> {
    vec![
        ("pipeline", texts(runs.iter().map(|run| run.pipeline.as_str()))),
        ("run", counts(runs.iter().map(|run| Some(run.run)))),
        ("state", texts(runs.iter().map(|run| run_state(&run.state).0))),
        ("scheduled", times(runs.iter().map(|run| Some(run.scheduled_ms)))),
        ("started", times(runs.iter().map(|run| Some(run.started_ms)))),
        ("finished", times(runs.iter().map(|run| run.finished_ms))),
        ("snapshot", optional(runs.iter().map(|run| run_state(&run.state).1))),
        ("error", optional(runs.iter().map(|run| run_state(&run.state).2))),
    ]
}

#[cfg(test)]
mod tests {
    use frazil_connector_api::SplitId;

    use super::*;

    fn notice(name: &str, is_missing: bool, split: usize) -> FieldNotice {
        let since = 10 * split as i64;
        FieldNotice { name: name.to_string(), is_missing, split: SplitId(split.to_string()), since }
    }

    #[test]
    fn schema_changes_name_missing_columns_first_and_are_bounded() {
        assert_eq!(schema_changes(&[]), None);
        let notices = [notice("b", false, 0), notice("z", true, 0), notice("z", true, 1)];
        let text = "messages lack column \"z\" since offset 0 of split 0, offset 10 of split 1; no \
                    column takes field \"b\" since offset 0 of split 0";
        assert_eq!(schema_changes(&notices).as_deref(), Some(text));
        let splits: Vec<_> = (0..9).map(|split| notice("a", true, split)).collect();
        assert!(schema_changes(&splits).unwrap().ends_with("offset 20 of split 2, and 6 more"));
        let fields: Vec<_> = (0..23).map(|at| notice(&at.to_string(), false, 0)).collect();
        assert!(schema_changes(&fields).unwrap().ends_with("split 0, and 3 more"));
    }
}
