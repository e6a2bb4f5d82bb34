//! Fires pipelines: by their schedule, or when asked.
//!
//! ```text
//! due ─► readers catch up ─► one checkpoint in which the pipeline's sink commits ─► done
//! ```
//!
//! Between firings a pipeline's changes wait, net, in its sink's log. Firings that were missed
//! while the engine was down are made up by one.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;

use super::{Engine, PipelineRun, PipelineRunState};
use crate::catalog::{Definition, Relation};
use crate::error::{Error, ErrorKind, Result};

mod records;

pub(super) use records::Records;

const TICK: Duration = Duration::from_millis(500);
const ATTEMPTS_MAX: u32 = 8;

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

impl Engine {
    /// Fires a pipeline now and waits for its commit.
    ///
    /// # Errors
    /// `UndefinedTable` if there is none of this name; what the run met.
    pub async fn run_pipeline(&self, name: &str) -> Result<PipelineRun> {
        let relation = self.catalog().get(name).cloned();
        let relation = relation
            .filter(|relation| matches!(*relation.definition, Definition::Pipeline(_)))
            .ok_or_else(|| {
                let message = format!("pipeline \"{name}\" does not exist");
                Error::new(ErrorKind::UndefinedTable, message)
            })?;
        while !self.pipelines().begin(relation.id) {
            tokio::time::sleep(TICK).await;
        }
        let run = run(self, &relation, self.env().now_ms()).await;
        self.pipelines().end(relation.id);
        match &run.state {
            PipelineRunState::Failed { error } => {
                Err(Error::new(ErrorKind::JobFailed, format!("pipeline \"{name}\" failed"))
                    .with_detail(error.clone()))
            }
            _ => Ok(run),
        }
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
