//! Fires pipelines: by their schedule, or when asked.
//!
//! ```text
//! due ─► readers catch up ─► one checkpoint in which the pipeline's sink commits ─► done
//! ```
//!
//! Between firings a pipeline's changes wait, net, in its sink's log. Firings that were missed
//! while the engine was down are made up by one.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;

use super::checkpointer::Checkpointer;
use super::{Engine, PipelineRun, PipelineRunState};
use crate::catalog::RelationId;
use crate::catalog::{Definition, Relation};
use crate::checkpoint::PipelineRecord;
use crate::error::{Error, ErrorKind, Result};

const TICK: Duration = Duration::from_millis(500);
const ATTEMPTS_MAX: u32 = 8;

/// What is remembered of pipelines, in memory and in the manifests.
#[derive(Default)]
pub(super) struct Records {
    checkpointer: Option<Checkpointer>,
    records: Mutex<BTreeMap<RelationId, PipelineRecord>>,
    running: Mutex<BTreeSet<RelationId>>,
}

impl Records {
    pub(super) fn new(checkpointer: Checkpointer) -> Self {
        let records = Mutex::new(checkpointer.manifest().pipelines.clone());
        Self { checkpointer: Some(checkpointer), records, running: Mutex::default() }
    }

    fn get(&self, pipeline: RelationId) -> PipelineRecord {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(&pipeline).cloned().unwrap_or_default()
    }

    fn set(&self, pipeline: RelationId, record: PipelineRecord) {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pipeline, record.clone());
        if let Some(checkpointer) = &self.checkpointer {
            checkpointer.set_pipeline(pipeline, record);
        }
    }

    /// The last runs of all pipelines, oldest first.
    pub(super) fn recent(&self) -> Vec<PipelineRun> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let mut runs: Vec<PipelineRun> =
            records.values().flat_map(|record| record.recent.iter().cloned()).collect();
        runs.sort_by_key(|run| run.started_ms);
        runs
    }

    /// True if no run of the pipeline is under way; one is from now on.
    fn begin(&self, pipeline: RelationId) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(pipeline)
    }

    fn end(&self, pipeline: RelationId) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&pipeline);
    }
}

/// Starts the clock of all pipelines; it ends with the engine.
pub(super) fn spawn(engine: &Engine) {
    let engine = engine.downgrade();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(TICK).await;
            let Some(engine) = Engine::upgrade(&engine) else { return };
            fire_due(&engine);
        }
    });
}

fn fire_due(engine: &Engine) {
    let now_ms = engine.env().now_ms();
    for relation in engine.catalog().iter() {
        let Definition::Pipeline(pipeline) = &*relation.definition else { continue };
        let mut record = engine.pipelines().get(relation.id);
        let Some(last_ms) = record.last_scheduled_ms else {
            // A new pipeline counts from now.
            record.last_scheduled_ms = Some(now_ms);
            engine.pipelines().set(relation.id, record);
            continue;
        };
        let due_ms = latest_due(&pipeline.schedule, last_ms, now_ms);
        if let Some(due_ms) = due_ms
            && engine.pipelines().begin(relation.id)
        {
            let (engine, relation) = (engine.clone(), relation.clone());
            tokio::spawn(async move {
                run(&engine, &relation, due_ms).await;
                engine.pipelines().end(relation.id);
            });
        }
    }
}

/// The newest firing in `(last, now]`, if there is one.
fn latest_due(schedule: &str, last_ms: i64, now_ms: i64) -> Option<i64> {
    let cron = Cron::from_str(schedule).ok()?;
    // Schedules are of whole seconds; a part of one would be carried into the answer.
    let now = DateTime::<Utc>::from_timestamp(now_ms.div_euclid(1000), 0)?;
    let due = cron.find_previous_occurrence(&now, true).ok()?.timestamp_millis();
    (due > last_ms).then_some(due)
}

/// Fires a pipeline now.
///
/// # Errors
/// `UndefinedTable` if there is none of this name; what the run met.
pub(super) async fn run_now(engine: &Engine, name: &str) -> Result<PipelineRun> {
    let relation = engine.catalog().get(name).cloned();
    let relation = relation
        .filter(|relation| matches!(*relation.definition, Definition::Pipeline(_)))
        .ok_or_else(|| {
            let message = format!("pipeline \"{name}\" does not exist");
            Error::new(ErrorKind::UndefinedTable, message)
        })?;
    while !engine.pipelines().begin(relation.id) {
        tokio::time::sleep(TICK).await;
    }
    let run = run(engine, &relation, engine.env().now_ms()).await;
    engine.pipelines().end(relation.id);
    match &run.state {
        PipelineRunState::Failed { error } => {
            Err(Error::new(ErrorKind::JobFailed, format!("pipeline \"{name}\" failed"))
                .with_detail(error.clone()))
        }
        _ => Ok(run),
    }
}

/// One run, tried again with growing pauses.
async fn run(engine: &Engine, relation: &Relation, scheduled_ms: i64) -> PipelineRun {
    let mut record = engine.pipelines().get(relation.id);
    record.runs += 1;
    let mut run = PipelineRun {
        pipeline: relation.name.clone(),
        run: record.runs,
        scheduled_ms,
        started_ms: engine.env().now_ms(),
        finished_ms: None,
        state: PipelineRunState::Running,
    };
    engine.state().set_run(run.clone());
    let mut attempts = 0;
    run.state = loop {
        match engine.flush_one(relation.id).await {
            Ok(Some(snapshot)) => break PipelineRunState::Committed { snapshot },
            Ok(None) => break PipelineRunState::Empty,
            Err(error) if error.retryable && attempts < ATTEMPTS_MAX => {
                attempts += 1;
                let error = error.to_string();
                run.state = PipelineRunState::Retrying { attempts, error };
                engine.state().set_run(run.clone());
                tokio::time::sleep(TICK * 2_u32.pow(attempts.min(6))).await;
            }
            Err(error) => break PipelineRunState::Failed { error: error.to_string() },
        }
    };
    run.finished_ms = Some(engine.env().now_ms());
    record.add(run.clone());
    engine.pipelines().set(relation.id, record);
    engine.state().set_run(run.clone());
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_firings_are_made_up_by_one() {
        let hour = 3_600_000;
        let at = 1_000 * hour;
        assert_eq!(latest_due("0 * * * *", at, at + 1), None);
        assert_eq!(latest_due("0 * * * *", at, at + hour), Some(at + hour));
        assert_eq!(latest_due("0 * * * *", at, at + 5 * hour + 7), Some(at + 5 * hour));
    }
}
