//! [`Progress`]: how far a run is.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::host::Host;
use crate::error::Result;
use crate::job::{JobState, JobStatus};

/// Time between two lines where no terminal can be redrawn.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// Shows rows a second, the epoch, freshness and the last snapshot of each sink: redrawn on a
/// terminal, a line now and then elsewhere.
#[derive(Debug)]
pub(super) struct Progress {
    host: Host,
    bar: Option<ProgressBar>,
    rows_in: u64,
    measured: Duration,
    rows_per_second: f64,
    epoch: u64,
    epoch_changed: Duration,
    next_line: Duration,
    told: BTreeMap<String, String>,
}

impl Progress {
    /// Nothing shown yet.
    pub(super) fn new(host: Host) -> Result<Self> {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        let now = host.env.elapsed();
        Ok(Self {
            epoch: host.engine.epoch(),
            host,
            bar,
            rows_in: 0,
            measured: now,
            rows_per_second: 0.0,
            epoch_changed: now,
            next_line: now + LINE_INTERVAL,
            told: BTreeMap::new(),
        })
    }

    /// Shows how things are now.
    pub(super) fn show(&mut self) -> Result<()> {
        let now = self.host.env.elapsed();
        let jobs = self.host.engine.jobs();
        self.measure(now, &jobs);
        self.tell_troubles(&jobs)?;
        let line = self.line(now, &jobs);
        if let Some(bar) = &self.bar {
            bar.set_message(line);
            bar.tick();
        } else if now >= self.next_line {
            self.next_line = now + LINE_INTERVAL;
            writeln!(io::stderr(), "{line}")?;
        }
        Ok(())
    }

    /// Shows the last line and leaves it there.
    pub(super) fn finish(&mut self) -> Result<()> {
        let now = self.host.env.elapsed();
        let jobs = self.host.engine.jobs();
        self.measure(now, &jobs);
        let line = self.line(now, &jobs);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        writeln!(io::stderr(), "{line}")?;
        Ok(())
    }

    fn measure(&mut self, now: Duration, jobs: &[JobStatus]) {
        let rows_in: u64 = jobs.iter().map(|job| job.rows_in).sum();
        let seconds = now.saturating_sub(self.measured).as_secs_f64();
        if seconds >= 1.0 {
            // A count of rows is far below what a double holds exactly.
            #[expect(clippy::cast_precision_loss, reason = "only shown")]
            let rows = rows_in.saturating_sub(self.rows_in) as f64;
            self.rows_per_second = rows / seconds;
            (self.rows_in, self.measured) = (rows_in, now);
        }
        let epoch = self.host.engine.epoch();
        if epoch != self.epoch {
            (self.epoch, self.epoch_changed) = (epoch, now);
        }
    }

    fn line(&self, now: Duration, jobs: &[JobStatus]) -> String {
        let rows_in: u64 = jobs.iter().map(|job| job.rows_in).sum();
        let fresh = now.saturating_sub(self.epoch_changed).as_millis();
        let mut line = format!(
            "{rows_in} rows in, {:.0} rows/s, epoch {}, {fresh} ms old",
            self.rows_per_second, self.epoch
        );
        for job in jobs {
            if let Some(snapshot) = job.sink.as_ref().and_then(|sink| sink.snapshot.as_ref()) {
                line += &format!(", {}: snapshot {snapshot}", job.name);
            }
        }
        line
    }

    /// Says once what has gone wrong with a job, and again when that changes.
    fn tell_troubles(&mut self, jobs: &[JobStatus]) -> Result<()> {
        for job in jobs {
            let trouble = match &job.state {
                JobState::Retrying { error, .. } => format!("{} is retried: {error}", job.name),
                JobState::Failed { error } => format!("{} has failed: {error}", job.name),
                JobState::Running | JobState::CatchingUp(_) | JobState::Finished => {
                    self.told.remove(&job.name);
                    continue;
                }
            };
            if self.told.get(&job.name) == Some(&trouble) {
                continue;
            }
            match &self.bar {
                Some(bar) => bar.suspend(|| writeln!(io::stderr(), "{trouble}"))?,
                None => writeln!(io::stderr(), "{trouble}")?,
            }
            self.told.insert(job.name.clone(), trouble);
        }
        Ok(())
    }
}
