//! A sink in memory passes the law, and each wrong one fails the part that is about its fault.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use futures::executor::block_on;
use serde::{Deserialize, Serialize};

use super::*;
use crate::{ConnectorError, Fragment, LastCommit, Result, SinkStatus, SinkWriter};

/// What a wrong sink does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    CommitsAgain,
    ShowsWhatIsMerged,
    LosesShares,
    KeepsWhatIsAborted,
    KeepsWhatWritersAbort,
    ForgetsWhatIsPrepared,
    TakesOlderProcesses,
    TakesUnknownCommits,
    OpensBehindACommit,
    CallsLostRepliesConflicts,
    CallsConflictsCommitted,
    TakesRetractions,
    KeepsFormerRows,
}

#[derive(Default)]
struct Store {
    objects: BTreeMap<String, Changes>,
    shown: Vec<String>,
    last: Option<CommitMark>,
    faults: VecDeque<CommitFault>,
    numbered: u64,
}

/// A target in memory, and a sink into it.
#[derive(Clone)]
struct Memory {
    store: Arc<Mutex<Store>>,
    is_append_only: bool,
    defect: Option<Defect>,
    rows: Changes,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    previous: Option<Uuid>,
    objects: Vec<String>,
}

impl Memory {
    fn new(mode: &SinkMode, defect: Option<Defect>) -> Self {
        let is_append_only = *mode == SinkMode::AppendOnly;
        Self { store: Arc::default(), is_append_only, defect, rows: Vec::new() }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn show(&self, committable: &Committable) -> Result<CommitOutcome> {
        let mut store = self.store.lock().unwrap();
        let Committable { mark, payload } = committable;
        let snapshot = mark.id.to_string();
        let payload: Payload = serde_json::from_str(payload).unwrap();
        let last = store.last;
        if last.is_some_and(|it| it.fence > mark.fence) && !self.has(Defect::TakesOlderProcesses) {
            return Err(ConnectorError::new(ConnectorErrorKind::Fenced, "an older process"));
        }
        if last.is_some_and(|it| it.id == mark.id) && !self.has(Defect::CommitsAgain) {
            return Ok(CommitOutcome::Committed { snapshot });
        }
        let is_next = last.map(|it| it.id) == payload.previous || self.has(Defect::CommitsAgain);
        if !is_next && !self.has(Defect::TakesUnknownCommits) {
            return Err(ConnectorError::new(ConnectorErrorKind::Target, "an unknown commit"));
        }
        let fault = store.faults.pop_front();
        let reason = "a fault".to_string();
        match fault {
            Some(CommitFault::Conflict) if self.has(Defect::CallsConflictsCommitted) => {
                return Ok(CommitOutcome::Committed { snapshot });
            }
            Some(CommitFault::Conflict) => return Ok(CommitOutcome::Conflict { reason }),
            Some(CommitFault::LostRequest) => return Ok(CommitOutcome::Unknown { reason }),
            Some(CommitFault::LostReply) | None => {}
        }
        store.shown.extend(payload.objects);
        store.last = Some(*mark);
        Ok(match fault {
            None => CommitOutcome::Committed { snapshot },
            Some(_) if self.has(Defect::CallsLostRepliesConflicts) => {
                CommitOutcome::Conflict { reason }
            }
            Some(_) => CommitOutcome::Unknown { reason },
        })
    }

    fn remove(&self, fragments: &[Fragment]) {
        let mut store = self.store.lock().unwrap();
        for fragment in fragments {
            store.objects.remove(&fragment.payload);
        }
    }
}

#[async_trait]
impl SinkTarget for Memory {
    fn sink(&self, _: &SinkMode) -> Box<dyn SinkCommitter> {
        Box::new(self.clone())
    }

    async fn rows(&self) -> Vec<(i64, i64)> {
        let store = self.store.lock().unwrap();
        let mut rows = Rows::new();
        for (row, weight) in store.shown.iter().flat_map(|name| &store.objects[name]) {
            let keeps = *weight > 0 && self.has(Defect::KeepsFormerRows);
            if !(self.is_append_only || keeps) {
                rows.retain(|(id, _), _| *id != row.0);
            }
            if *weight > 0 {
                *rows.entry(*row).or_default() += weight;
            }
        }
        rows.into_iter().flat_map(|(row, n)| std::iter::repeat_n(row, n.max(0) as usize)).collect()
    }

    async fn objects(&self) -> BTreeSet<String> {
        self.store.lock().unwrap().objects.keys().cloned().collect()
    }

    fn arm(&self, fault: CommitFault) {
        self.store.lock().unwrap().faults.push_back(fault);
    }
}

#[async_trait]
impl SinkCommitter for Memory {
    async fn open(&mut self, resume: &Resume) -> Result<()> {
        match &resume.last {
            LastCommit::Prepared(_) if self.has(Defect::ForgetsWhatIsPrepared) => Ok(()),
            LastCommit::Prepared(committable) => self.show(committable).map(drop),
            _ => {
                let last = self.store.lock().unwrap().last;
                let is_known = last.map(|it| it.id) == resume.last.mark().map(|it| it.id);
                match is_known || self.has(Defect::OpensBehindACommit) {
                    true => Ok(()),
                    false => {
                        Err(ConnectorError::new(ConnectorErrorKind::Target, "an unknown commit"))
                    }
                }
            }
        }
    }

    fn writer(&mut self) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(self.clone()))
    }

    async fn merge(
        &mut self,
        mark: CommitMark,
        mut fragments: Vec<Fragment>,
    ) -> Result<Option<Committable>> {
        if fragments.is_empty() {
            return Ok(None);
        }
        if self.has(Defect::LosesShares) {
            fragments.truncate(1);
        }
        let previous = self.store.lock().unwrap().last.map(|it| it.id);
        let objects = fragments.into_iter().map(|fragment| fragment.payload).collect();
        let payload = serde_json::to_string(&Payload { previous, objects }).unwrap();
        let committable = Committable { mark, payload };
        if self.has(Defect::ShowsWhatIsMerged) {
            self.show(&committable)?;
        }
        Ok(Some(committable))
    }

    async fn commit(&mut self, committable: &Committable) -> Result<CommitOutcome> {
        self.show(committable)
    }

    async fn abort(&mut self, fragments: Vec<Fragment>) -> Result<()> {
        if !self.has(Defect::KeepsWhatIsAborted) {
            self.remove(&fragments);
        }
        Ok(())
    }

    fn status(&self) -> SinkStatus {
        SinkStatus::default()
    }
}

#[async_trait]
impl SinkWriter for Memory {
    async fn write(&mut self, changes: ChangeBatch) -> Result<()> {
        let column = |at: usize| -> Vec<i64> {
            let column = changes.rows().column(at).as_any().downcast_ref::<Int64Array>();
            column.unwrap().values().to_vec()
        };
        for (row, cells) in std::iter::zip(column(0), column(1)).enumerate() {
            let weight = changes.weight(row);
            if weight < 0 && self.is_append_only && !self.has(Defect::TakesRetractions) {
                return Err(ConnectorError::new(ConnectorErrorKind::Target, "a retraction"));
            }
            self.rows.push((cells, weight));
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Option<Fragment>> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let mut store = self.store.lock().unwrap();
        store.numbered += 1;
        let payload = format!("object-{}", store.numbered);
        store.objects.insert(payload.clone(), self.rows.clone());
        Ok(Some(Fragment { payload }))
    }

    async fn abort(self: Box<Self>) {
        if self.has(Defect::KeepsWhatWritersAbort) {
            let _ = self.finish().await;
        }
    }
}

fn upsert() -> SinkMode {
    SinkMode::Upsert { key: vec![0] }
}

fn check(mode: &SinkMode, defect: Option<Defect>) {
    block_on(assert_exactly_once(&|| Box::new(Memory::new(mode, defect)), mode));
}

#[test]
fn a_sink_in_memory_keeps_the_law() {
    check(&upsert(), None);
    check(&SinkMode::AppendOnly, None);
}

#[test]
fn a_wrong_sink_breaks_the_law() {
    let faults = [
        (Defect::CommitsAgain, "rows of the target: committed twice by one process"),
        (Defect::ShowsWhatIsMerged, "rows of the target: merged, not committed"),
        (Defect::LosesShares, "rows of the target: some writers"),
        (Defect::KeepsWhatIsAborted, "stored objects after an abort"),
        (Defect::KeepsWhatWritersAbort, "stored objects after an abort"),
        (Defect::ForgetsWhatIsPrepared, "rows of the target: opened with a committable"),
        (Defect::TakesOlderProcesses, "a commit of an older process"),
        (Defect::TakesUnknownCommits, "a commit after an unknown one"),
        (Defect::OpensBehindACommit, "opened behind an unknown commit"),
        (Defect::CallsLostRepliesConflicts, "a lost reply is Unknown"),
        (Defect::CallsConflictsCommitted, "a lost race is a Conflict"),
        (Defect::TakesRetractions, "an append-only sink retracts"),
        (Defect::KeepsFormerRows, "rows of the target: some writers"),
    ];
    for (defect, expected) in faults {
        let mode = match defect {
            // The same rows by key twice are the same rows.
            Defect::TakesRetractions | Defect::CommitsAgain => SinkMode::AppendOnly,
            _ => upsert(),
        };
        let broken = catch_unwind(AssertUnwindSafe(|| check(&mode, Some(defect))));
        let panic = broken.expect_err(&format!("{defect:?} keeps the law"));
        let text = panic.downcast_ref::<String>().expect("the law says which part is broken");
        assert!(text.contains(expected), "{defect:?}: {text}");
    }
}
