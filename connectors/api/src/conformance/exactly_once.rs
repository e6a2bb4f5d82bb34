//! The law of sinks: after a commit the target equals the sum of all changes, whatever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use uuid::Uuid;

use super::SinkRun;
use super::sink_run::{prepared, visible};
use crate::{
    ChangeBatch, CheckpointNumber, CommitMark, CommitOutcome, Committable, ConnectorErrorKind,
    Fence, Resume, Retry, SinkCommitter, SinkMode,
};

/// What happens to the next request that would make a commit visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// Another writer is faster. It leaves the rows as they are.
    Conflict,
    /// The request does its work, and the reply is lost.
    LostReply,
    /// The request is lost.
    LostRequest,
}

/// A target that is empty at first, as the law sees it. Nobody else uses it.
#[async_trait]
pub trait SinkTarget: Send + Sync {
    /// The sink, as one more process makes it: not opened, and with the same id each time. Its
    /// columns are [`law_schema`].
    fn sink(&self, mode: &SinkMode) -> Box<dyn SinkCommitter>;

    /// The visible rows in any order.
    async fn rows(&self) -> Vec<(i64, i64)>;

    /// Names of the stored objects that hold rows, visible or not.
    async fn objects(&self) -> BTreeSet<String>;

    /// Something happens to the next request.
    fn arm(&self, fault: CommitFault);
}

/// The columns of the sinks under test: `id` and `value`, both BIGINT NOT NULL.
pub fn law_schema() -> SchemaRef {
    let field = |name| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![field("id"), field("value")]))
}

/// Checks the law of sinks in one mode; `new_target` makes a target for each part of it.
///
/// The parts: any number of writers; a commit that is repeated; lost replies and requests;
/// conflicts; crashes before and after the committable is durable; aborts; commits that the data
/// directory does not know; older processes; retractions in an append-only sink. The key of an
/// upsert sink must be column 0.
///
/// # Panics
/// If the law is broken.
pub async fn assert_exactly_once(new_target: &dyn Fn() -> Box<dyn SinkTarget>, mode: &SinkMode) {
    for writers in 1..=3 {
        let target = new_target();
        let mut process = Process::start(&*target, mode, writers).await;
        process.nothing_is_nothing_to_commit().await;
        for _ in 0..4 {
            process.commit_cut("some writers").await;
        }
    }
    let parts: [for<'a> fn(Process<'a>) -> Part<'a>; 9] = [
        |process| Box::pin(process.a_commit_is_repeated()),
        |process| Box::pin(process.replies_are_lost()),
        |process| Box::pin(process.requests_are_lost()),
        |process| Box::pin(process.another_writer_is_faster()),
        |process| Box::pin(process.the_process_ends_before_the_commit()),
        |process| Box::pin(process.the_process_ends_before_the_merge()),
        |process| Box::pin(process.changes_are_aborted()),
        |process| Box::pin(process.a_commit_is_not_known()),
        |process| Box::pin(process.an_older_process_comes_late()),
    ];
    for part in parts {
        let target = new_target();
        let mut process = Process::start(&*target, mode, 2).await;
        process.commit_cut("the first").await;
        part(process).await;
    }
    if *mode == SinkMode::AppendOnly {
        let target = new_target();
        Process::start(&*target, mode, 1).await.a_retraction_is_refused().await;
    }
}

type Part<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Rows, and how often each is there.
type Rows = BTreeMap<(i64, i64), i64>;

/// Rows and weights.
type Changes = Vec<((i64, i64), i64)>;

/// A process that writes cuts, and what its data directory knows.
struct Process<'a> {
    target: &'a dyn SinkTarget,
    mode: &'a SinkMode,
    writers: usize,
    run: SinkRun,
    /// What the target must show.
    rows: Rows,
    /// The last cut.
    cut: i64,
    fence: Fence,
    last: Resume,
}

impl<'a> Process<'a> {
    async fn start(target: &'a dyn SinkTarget, mode: &'a SinkMode, writers: usize) -> Self {
        let mut run = SinkRun::new(target.sink(mode), mode, writers);
        let last = Resume { is_new: true, fence: Fence(1), ..Resume::default() };
        run.open(&last).await.expect("a new sink opens");
        let last = Resume { is_new: false, ..last };
        Self { target, mode, writers, run, rows: Rows::new(), cut: 0, fence: Fence(1), last }
    }

    /// The process ends; the next one opens with what the data directory knows.
    async fn restart(&mut self) {
        self.run = SinkRun::new(self.target.sink(self.mode), self.mode, self.writers);
        self.run.open(&self.last).await.expect("the next process opens the sink");
    }

    /// The changes of the next cut, and the rows after it: some rows come, and in an upsert sink
    /// some of the cut before change, one goes, and so does one that never was.
    fn next_cut(&self) -> (ChangeBatch, Rows) {
        let cut = self.cut + 1;
        let mut changes: Changes = (0..7).map(|row| ((cut * 10 + row, cut), 1)).collect();
        let mut rows = self.rows.clone();
        match self.mode {
            // Rows of an append-only sink may be equal.
            SinkMode::AppendOnly => changes.extend([((0, 0), 2), ((cut * 10, cut), 1)]),
            SinkMode::Upsert { .. } => {
                let before = (cut - 1) * 10;
                let old = self.rows.keys().filter(|(id, _)| (before..before + 4).contains(id));
                changes.extend(old.map(|&(id, _)| match id == before {
                    true => ((id, 0), -1),
                    false => ((id, cut * 100), 1),
                }));
                changes.push(((cut * 10 + 9, 0), -1));
                rows.retain(|(id, _), _| changes.iter().all(|((changed, _), _)| id != changed));
            }
        }
        for (row, weight) in changes.iter().filter(|(_, weight)| *weight > 0) {
            *rows.entry(*row).or_default() += weight;
        }
        (batch(&changes), rows)
    }

    fn mark(&self) -> CommitMark {
        let number = self.cut as u64 + 1;
        let checkpoint = CheckpointNumber(number);
        CommitMark { checkpoint, fence: self.fence, id: id(number << 8 | self.fence.0) }
    }

    async fn assert_shows(&self, rows: &Rows, when: &str) {
        let mut shown = Rows::new();
        for row in self.target.rows().await {
            *shown.entry(row).or_default() += 1;
        }
        assert_eq!(shown, *rows, "rows of the target: {when}");
    }

    /// Writes and merges the next cut; nothing of it is visible.
    async fn prepare_cut(&mut self) -> Committable {
        let (changes, rows) = self.next_cut();
        self.run.write(changes).await.expect("the writers take the changes");
        let committable = self.run.prepare(self.mark()).await.expect("the changes are merged");
        let committable = committable.expect("there is something to commit");
        self.assert_shows(&self.rows, "merged, not committed").await;
        (self.rows, self.cut) = (rows, self.cut + 1);
        self.last = prepared(&committable, self.fence);
        committable
    }

    async fn finish_cut(&mut self, committable: &Committable, when: &str) {
        self.run.commit(committable).await.expect("the changes are committed");
        self.last = visible(committable, self.fence);
        self.assert_shows(&self.rows, when).await;
    }

    async fn commit_cut(&mut self, when: &str) -> Committable {
        let committable = self.prepare_cut().await;
        self.finish_cut(&committable, when).await;
        committable
    }

    async fn nothing_is_nothing_to_commit(&mut self) {
        self.run.write(ChangeBatch::empty(law_schema())).await.expect("no rows are written");
        let nothing = self.run.prepare(self.mark()).await.expect("nothing is merged");
        assert_eq!(nothing, None, "a committable of nothing");
        self.assert_shows(&self.rows, "nothing was written").await;
    }

    async fn a_commit_is_repeated(mut self) {
        let committable = self.prepare_cut().await;
        let first = self.run.commit(&committable).await.expect("the changes are committed");
        let again = self.run.commit(&committable).await.expect("a repeated commit is harmless");
        assert_eq!(first, again, "a repeated commit has the same name");
        self.assert_shows(&self.rows, "committed twice by one process").await;
        // The next process may not know that it is visible.
        self.restart().await;
        let again = self.run.commit(&committable).await.expect("a repeated commit is harmless");
        assert_eq!(first, again, "a commit repeated by another process has the same name");
        self.finish_cut(&committable, "committed again by another process").await;
        self.commit_cut("after repeated commits").await;
    }

    async fn replies_are_lost(mut self) {
        for is_crash in [false, true] {
            let committable = self.prepare_cut().await;
            self.target.arm(CommitFault::LostReply);
            let outcome = self.run.try_commit(&committable).await;
            let is_unknown = matches!(outcome, Ok(CommitOutcome::Unknown { .. }));
            assert!(is_unknown, "a lost reply is Unknown: {outcome:?}");
            if is_crash {
                self.restart().await;
            }
            self.finish_cut(&committable, "committed after a lost reply").await;
        }
        self.commit_cut("after lost replies").await;
    }

    async fn requests_are_lost(mut self) {
        let before = self.rows.clone();
        let committable = self.prepare_cut().await;
        self.target.arm(CommitFault::LostRequest);
        match self.run.try_commit(&committable).await {
            Ok(CommitOutcome::Unknown { .. }) => {}
            Err(error) if error.retry == Retry::Backoff => {}
            outcome => panic!("a lost request is Unknown or Unavailable: {outcome:?}"),
        }
        self.assert_shows(&before, "the request of the commit was lost").await;
        self.finish_cut(&committable, "committed after a lost request").await;
        self.commit_cut("after a lost request").await;
    }

    async fn another_writer_is_faster(mut self) {
        let before = self.rows.clone();
        let committable = self.prepare_cut().await;
        self.target.arm(CommitFault::Conflict);
        let outcome = self.run.try_commit(&committable).await;
        let is_conflict = matches!(outcome, Ok(CommitOutcome::Conflict { .. }));
        assert!(is_conflict, "a lost race is a Conflict: {outcome:?}");
        self.assert_shows(&before, "the commit met a conflict").await;
        self.finish_cut(&committable, "committed after a conflict").await;
        self.commit_cut("after a conflict").await;
    }

    async fn the_process_ends_before_the_commit(mut self) {
        let committable = self.prepare_cut().await;
        self.restart().await;
        self.assert_shows(&self.rows, "opened with a committable").await;
        self.finish_cut(&committable, "committed by the next process").await;
        self.commit_cut("after a crash before a commit").await;
    }

    async fn the_process_ends_before_the_merge(mut self) {
        let (changes, _) = self.next_cut();
        self.run.write(changes).await.expect("the writers take the changes");
        self.restart().await;
        self.assert_shows(&self.rows, "the process ended with open writers").await;
        self.commit_cut("the changes came again").await;
    }

    /// Two ways: a writer fails, or all have finished and the merge is not made.
    async fn changes_are_aborted(mut self) {
        let objects = self.target.objects().await;
        for has_finished in [true, false] {
            let (changes, _) = self.next_cut();
            self.run.write(changes).await.expect("the writers take the changes");
            if has_finished {
                let fragments = self.run.finish().await.expect("the writers finish");
                assert!(!fragments.is_empty(), "writers that took rows made something");
                self.run.abort_merge(fragments).await.expect("fragments are aborted");
            } else {
                self.run.abort().await.expect("writers are aborted");
            }
            assert_eq!(self.target.objects().await, objects, "stored objects after an abort");
            self.run.open(&self.last).await.expect("the sink opens after an abort");
            self.assert_shows(&self.rows, "aborted").await;
        }
        self.commit_cut("after an abort").await;
    }

    /// An older copy of the data directory is put back while the target has a newer commit.
    async fn a_commit_is_not_known(mut self) {
        let older = self.last.clone();
        let mut copy = SinkRun::new(self.target.sink(self.mode), self.mode, 1);
        copy.open(&older).await.expect("the copy opens");
        let (changes, _) = self.next_cut();
        copy.write(changes).await.expect("the writers take the changes");
        let mark = CommitMark { id: id(7), ..self.mark() };
        let late = copy.prepare(mark).await.expect("the copy's changes are merged");
        let late = late.expect("the copy has something to commit");
        self.commit_cut("beside a copy of the data directory").await;
        let error = copy.try_commit(&late).await.expect_err("a commit after an unknown one");
        assert_eq!(
            error.kind,
            ConnectorErrorKind::Target,
            "a commit after an unknown one: {error}"
        );
        for resume in [&older, &prepared(&late, self.fence)] {
            let mut copy = SinkRun::new(self.target.sink(self.mode), self.mode, 1);
            let error = copy.open(resume).await.expect_err("opened behind an unknown commit");
            assert_eq!(error.kind, ConnectorErrorKind::Target, "opened behind a commit: {error}");
        }
        self.assert_shows(&self.rows, "a copy of the data directory was refused").await;
        self.commit_cut("after a copy was refused").await;
    }

    async fn an_older_process_comes_late(mut self) {
        let mut old = SinkRun::new(self.target.sink(self.mode), self.mode, 1);
        old.open(&self.last).await.expect("the older process opens");
        let (changes, _) = self.next_cut();
        old.write(changes).await.expect("the writers take the changes");
        let mark = CommitMark { id: id(8), ..self.mark() };
        let late = old.prepare(mark).await.expect("the older process merges");
        let late = late.expect("the older process has something to commit");
        self.fence = self.fence.next();
        self.last.fence = self.fence;
        self.restart().await;
        self.commit_cut("by a newer process").await;
        let error = old.try_commit(&late).await.expect_err("a commit of an older process");
        assert_eq!(error.kind, ConnectorErrorKind::Fenced, "a commit of an older process: {error}");
        self.assert_shows(&self.rows, "an older process was refused").await;
    }

    async fn a_retraction_is_refused(mut self) {
        let retraction = batch(&[((1, 1), -1)]);
        let error = self.run.write(retraction).await.expect_err("an append-only sink retracts");
        assert_eq!(error.kind, ConnectorErrorKind::Target, "an append-only sink retracts: {error}");
    }
}

/// Ids that look random and are the same in each run.
fn id(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn batch(changes: &[((i64, i64), i64)]) -> ChangeBatch {
    let column = |of: fn(&((i64, i64), i64)) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(changes.iter().map(of)))
    };
    let columns = vec![column(|change| change.0.0), column(|change| change.0.1)];
    let rows = RecordBatch::try_new(law_schema(), columns).expect("columns fit the schema");
    let weights = Int64Array::from_iter_values(changes.iter().map(|change| change.1));
    ChangeBatch::try_new(rows, weights).expect("weights fit the rows")
}

#[cfg(test)]
mod tests;
