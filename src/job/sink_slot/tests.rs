//! Pending changes of a sink, and what its errors do.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use frazil_connector_api::{Fragment, Result as Answer, SinkWriter};
use object_store::memory::InMemory;

use super::*;

/// The last weight of each key that its writers get.
#[derive(Clone, Default)]
struct Weights(Arc<Mutex<BTreeMap<i64, i64>>>);

#[async_trait]
impl SinkCommitter for Weights {
    async fn open(&mut self, _: &Resume) -> Answer<()> {
        Ok(())
    }

    fn writer(&mut self) -> Answer<Box<dyn SinkWriter>> {
        Ok(Box::new(self.clone()))
    }

    async fn merge(&mut self, mark: CommitMark, _: Vec<Fragment>) -> Answer<Option<Committable>> {
        Ok(Some(Committable { mark, payload: String::new() }))
    }

    async fn commit(&mut self, _: &Committable) -> Answer<CommitOutcome> {
        Ok(committed())
    }

    async fn abort(&mut self, _: Vec<Fragment>) -> Answer<()> {
        Ok(())
    }

    fn status(&self) -> SinkStatus {
        SinkStatus::default()
    }
}

#[async_trait]
impl SinkWriter for Weights {
    async fn write(&mut self, changes: ChangeBatch) -> Answer<()> {
        let keys = changes.rows().column(0).as_primitive::<Int64Type>().values().clone();
        let weights = changes.weight_column();
        let mut all = self.0.lock().unwrap();
        all.extend(keys.iter().copied().zip(weights.values().iter().copied()));
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Answer<Option<Fragment>> {
        Ok(None)
    }

    async fn abort(self: Box<Self>) {}
}

fn committed() -> CommitOutcome {
    CommitOutcome::Committed { snapshot: "7".to_string() }
}

fn batch(rows: &[(i64, i64)]) -> ChangeBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
    let weights = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    ChangeBatch::try_new(RecordBatch::try_from_iter([("k", keys)]).unwrap(), weights).unwrap()
}

fn slot(weights: &Arc<Mutex<BTreeMap<i64, i64>>>) -> Arc<SinkSlot> {
    let schema = batch(&[]).schema();
    let sink = Box::new(Weights(Arc::clone(weights)));
    let id = Uuid::from_u128(7);
    let mode = SinkMode::Upsert { key: vec![0] };
    Arc::new(SinkSlot::new(RelationId(1), "daily".to_string(), id, schema, &mode, sink))
}

/// Law: the log has the last change of each key, across restarts, in a few objects. `log` returns
/// as garbage each object that the record does not name any more.
#[tokio::test]
async fn what_waits_stays_net_and_in_few_objects() {
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let weights = Arc::default();
    let mut daily = slot(&weights);
    let mut expected: BTreeMap<i64, i64> = BTreeMap::new();
    let mut objects = std::collections::BTreeSet::new();
    let mut most = 0;
    for number in 0..200_i64 {
        // Rows come, stay for a while, and most of them go.
        let rows: Vec<(i64, i64)> = (0..number % 7)
            .map(|row| (number * 10 + row, 1))
            .chain((0..number.min(5) % 7).map(|row| ((number - 5) * 10 + row, -1)))
            .collect();
        for (key, weight) in &rows {
            expected.insert(*key, *weight);
        }
        let logged =
            daily.log(vec![batch(&rows)], CheckpointNumber(number as u64), &env).await.unwrap();
        objects.extend(logged.record.pending.iter().cloned());
        for gone in &logged.garbage {
            assert!(objects.remove(gone), "it was in a record before");
        }
        assert_eq!(objects, logged.record.pending.iter().cloned().collect());
        most = most.max(objects.len());
        if number % 50 == 49 {
            daily = slot(&weights);
            daily.restore(&logged.record, Fence(1), &env).await.unwrap();
        }
    }
    assert!((2..=12).contains(&most), "{most} objects");
    // What waits is in objects: little of it is in memory.
    let kept: Vec<usize> = daily.progress().pending.iter().map(Pending::kept_bytes).collect();
    let most_kept = KEPT_BYTES_MAX;
    assert!(kept.iter().sum::<usize>() <= most_kept && kept.contains(&0), "{kept:?}");
    let prepared = prepare(&daily, 200, &env).await.unwrap().unwrap();
    let garbage = daily.name(prepared.committable.as_ref());
    assert!(prepared.committable.is_some() && daily.record().pending.is_empty());
    assert_eq!(garbage.into_iter().collect::<std::collections::BTreeSet<_>>(), objects);
    assert_eq!(*weights.lock().unwrap(), expected);
}

/// What a call of [`Scripted`] does.
#[derive(Debug, Clone, Copy)]
enum Call {
    Succeeds,
    /// Prepares nothing.
    Nothing,
    Unavailable,
    Conflict,
    Unknown,
    Refused,
    Panics,
}

/// A sink whose calls of merge and commit have scripted outcomes; later calls succeed.
#[derive(Clone, Default)]
struct Scripted {
    calls: Arc<Mutex<VecDeque<Call>>>,
    resumes: Arc<Mutex<Vec<Resume>>>,
    /// Committables of the calls of commit.
    commits: Arc<Mutex<Vec<Committable>>>,
    /// Calls of abort and of maintain.
    aborts: Arc<Mutex<u32>>,
    maintained: Arc<Mutex<u32>>,
}

impl Scripted {
    fn slot(&self, calls: impl IntoIterator<Item = Call>) -> Arc<SinkSlot> {
        self.calls.lock().unwrap().extend(calls);
        let (schema, sink) = (batch(&[]).schema(), Box::new(self.clone()));
        let id = Uuid::from_u128(7);
        let (name, mode) = ("s".to_string(), SinkMode::Upsert { key: vec![0] });
        Arc::new(SinkSlot::new(RelationId(1), name, id, schema, &mode, sink))
    }

    fn next(&self) -> Answer<Call> {
        let call = self.calls.lock().unwrap().pop_front().unwrap_or(Call::Succeeds);
        match call {
            Call::Unavailable => Err(ConnectorError::unavailable("connection refused")),
            Call::Refused => Err(ConnectorError::config("column is missing").with_hint("add it")),
            Call::Panics => panic!("a fault of the connector"),
            _ => Ok(call),
        }
    }
}

#[async_trait]
impl SinkCommitter for Scripted {
    async fn open(&mut self, resume: &Resume) -> Answer<()> {
        self.resumes.lock().unwrap().push(resume.clone());
        match resume.last.committable() {
            Some(_) => self.next().map(drop),
            None => Ok(()),
        }
    }

    fn writer(&mut self) -> Answer<Box<dyn SinkWriter>> {
        Ok(Box::new(Weights::default()))
    }

    async fn merge(&mut self, mark: CommitMark, _: Vec<Fragment>) -> Answer<Option<Committable>> {
        let payload = String::new();
        Ok(match self.next()? {
            Call::Nothing => None,
            _ => Some(Committable { mark, payload }),
        })
    }

    async fn commit(&mut self, committable: &Committable) -> Answer<CommitOutcome> {
        self.commits.lock().unwrap().push(committable.clone());
        let reason = "because".to_string();
        Ok(match self.next()? {
            Call::Conflict => CommitOutcome::Conflict { reason },
            Call::Unknown => CommitOutcome::Unknown { reason },
            _ => committed(),
        })
    }

    async fn abort(&mut self, _: Vec<Fragment>) -> Answer<()> {
        *self.aborts.lock().unwrap() += 1;
        Ok(())
    }

    async fn maintain(&mut self) -> Answer<()> {
        *self.maintained.lock().unwrap() += 1;
        Ok(())
    }

    fn status(&self) -> SinkStatus {
        SinkStatus::default()
    }
}

fn env(store: &Arc<InMemory>) -> Env {
    Env::real(Arc::clone(store) as _).unwrap().seeded(1)
}

fn mark(checkpoint: u64, env: &Env) -> CommitMark {
    CommitMark { checkpoint: CheckpointNumber(checkpoint), fence: Fence(1), id: env.random_id() }
}

type Outcome = std::result::Result<Option<Prepared>, SinkProblem>;

/// Prepares all that is logged.
async fn prepare(slot: &Arc<SinkSlot>, number: u64, env: &Env) -> Outcome {
    let Some(sink) = slot.begin() else { return Ok(None) };
    Arc::clone(slot).prepare(sink, mark(number, env), env).await.map(Some)
}

/// Logs a change and prepares all that is logged.
async fn due(slot: &Arc<SinkSlot>, number: u64, env: &Env) -> Outcome {
    slot.log(vec![batch(&[(number as i64, 1)])], CheckpointNumber(number), env).await.unwrap();
    prepare(slot, number, env).await
}

/// As [`due`], and a manifest names the committable.
async fn named(slot: &Arc<SinkSlot>, number: u64, env: &Env) -> (BusySink, Committable) {
    let Prepared { sink, committable, .. } = due(slot, number, env).await.unwrap().unwrap();
    slot.name(committable.as_ref());
    (sink, committable.unwrap())
}

/// RESUME recovers a sink while a prepare has it: what the prepare has committed meanwhile is not
/// committed once more, behind the next commit.
#[tokio::test]
async fn a_recovery_takes_what_is_to_be_committed_once_it_has_the_sink() {
    let env = env(&Arc::default());
    let scripted = Scripted::default();
    let slot = scripted.slot([Call::Succeeds, Call::Refused]);
    let (sink, first) = named(&slot, 1, &env).await;
    slot.commit(sink, &first, &env, |_, _| ()).await.unwrap_err();
    assert!(slot.resume());
    slot.log(vec![batch(&[(2, 1)])], CheckpointNumber(2), &env).await.unwrap();
    let sink = slot.begin().unwrap();
    let mut recovery = Box::pin(slot.recover(&env, |_, _| ()));
    assert!(futures::poll!(&mut recovery).is_pending(), "a prepare has the sink");
    // It opens the sink, which commits the first.
    let prepared = Arc::clone(&slot).prepare(sink, mark(2, &env), &env).await.unwrap();
    let second = prepared.committable.unwrap();
    slot.name(Some(&second));
    slot.commit(prepared.sink, &second, &env, |_, _| ()).await.unwrap();
    recovery.await.unwrap();
    assert_eq!(*scripted.commits.lock().unwrap(), [first, second]);
}

/// An error that cannot heal and a panic stop the sink, at once and with the reason; its changes
/// are logged on, and a new process continues with them.
#[tokio::test]
async fn a_sink_that_cannot_prepare_is_stopped_and_keeps_its_changes() {
    for (call, expected) in [
        (Call::Refused, "column is missing; add it"),
        (Call::Panics, "the connector panicked: a fault of the connector"),
    ] {
        let store = Arc::new(InMemory::new());
        let (env, scripted) = (env(&store), Scripted::default());
        let slot = scripted.slot([call]);
        let expected = format!("{expected}; {STOPPED}");
        let problem = due(&slot, 1, &env).await.err().unwrap();
        assert_eq!((problem.severity, &problem.error), (Severity::Stopped, &expected));
        for number in 2..4 {
            assert!(due(&slot, number, &env).await.unwrap().is_none(), "it is not tried again");
            assert!(!slot.is_free(Duration::from_secs(100)));
            assert_eq!(slot.stopped().as_ref(), Some(&expected));
            assert!(slot.is_idle(), "nothing more will be committed");
        }
        assert_eq!(scripted.resumes.lock().unwrap().len(), 1);
        let next = scripted.slot([]);
        next.restore(&slot.record(), Fence(2), &env).await.unwrap();
        assert_eq!(next.progress().pending.iter().map(|it| it.rows).sum::<usize>(), 3);
        assert!(due(&next, 5, &env).await.unwrap().unwrap().committable.is_some());
    }
}

/// An error that may heal makes a pause, which grows; after success there is none.
#[tokio::test]
async fn a_sink_out_of_reach_is_tried_again_after_a_pause() {
    let (env, scripted) = (env(&Arc::default()), Scripted::default());
    let slot = scripted.slot([Call::Unavailable, Call::Unavailable, Call::Nothing]);
    for attempts in 1..3 {
        let problem = due(&slot, u64::from(attempts), &env).await.err().unwrap();
        assert_eq!(*scripted.aborts.lock().unwrap(), attempts);
        assert_eq!(problem.severity, Severity::Retried { attempts });
        assert!(!slot.is_free(env.elapsed()) && slot.is_free(env.elapsed() + pause(attempts)));
        assert!(slot.is_failing());
    }
    let prepared = due(&slot, 3, &env).await.unwrap().unwrap();
    assert!(prepared.committable.is_none());
    assert_eq!(slot.name(None).len(), 1, "all changes are one object of the log");
    drop(prepared);
    assert!(slot.is_free(env.elapsed()) && slot.is_idle());
    named(&slot, 4, &env).await;
}

/// A commit that cannot heal, or panics, ends with the reason and leaves its committable to the
/// next process.
#[tokio::test]
async fn a_commit_that_cannot_succeed_ends() {
    for call in [Call::Refused, Call::Panics] {
        let (env, scripted) = (env(&Arc::default()), Scripted::default());
        let slot = scripted.slot([Call::Succeeds, Call::Unavailable, call]);
        let (busy, committable) = named(&slot, 1, &env).await;
        let told = Mutex::new(Vec::new());
        let report = |attempts, error| told.lock().unwrap().push((attempts, error));
        let error = slot.commit(busy, &committable, &env, report).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::JobFailed);
        assert_eq!(*told.lock().unwrap(), [(1, "connection refused".to_string())]);
        assert!(due(&slot, 2, &env).await.unwrap().is_none());
        assert_eq!(slot.stopped(), Some(error.message));
        assert_eq!(slot.record().last, LastCommit::Prepared(committable.clone()));
        let next = scripted.slot([]);
        next.restore(&slot.record(), Fence(2), &env).await.unwrap();
        next.recover(&env, |_, _| ()).await.unwrap();
        let resume = scripted.resumes.lock().unwrap().pop().unwrap();
        assert_eq!(
            resume,
            Resume {
                is_new: false,
                fence: Fence(2),
                last: LastCommit::Prepared(committable.clone())
            }
        );
        assert_eq!(next.record().last, LastCommit::Visible(committable.mark));
    }
}

/// A conflict and a lost reply keep the sink open and have the same committable committed again;
/// what commits have replaced is removed once, after them.
#[tokio::test]
async fn a_conflict_and_an_unknown_outcome_are_tried_again() {
    let (env, scripted) = (env(&Arc::default()), Scripted::default());
    let slot = scripted.slot([Call::Succeeds, Call::Conflict, Call::Unknown, Call::Conflict]);
    let (busy, committable) = named(&slot, 1, &env).await;
    let told = Mutex::new(Vec::new());
    let report = |attempts, error| told.lock().unwrap().push((attempts, error));
    let (outcome, _) = slot.commit(busy, &committable, &env, report).await.unwrap().unwrap();
    assert_eq!(outcome, committed());
    let unknown = "it is not known whether the commit was made: because".to_string();
    let conflict = || "because".to_string();
    assert_eq!(*told.lock().unwrap(), [(1, conflict()), (2, unknown), (3, conflict())]);
    assert_eq!(*scripted.commits.lock().unwrap(), vec![committable.clone(); 4]);
    assert_eq!(scripted.resumes.lock().unwrap().len(), 1, "it was opened once");
    assert_eq!((*scripted.maintained.lock().unwrap(), *scripted.aborts.lock().unwrap()), (1, 0));
    assert_eq!(slot.record().last, LastCommit::Visible(committable.mark));
}

/// DROP SINK ends a commit that is tried again and again.
#[tokio::test]
async fn a_dropped_sink_does_not_commit_any_more() {
    let (env, scripted) = (env(&Arc::default()), Scripted::default());
    let failing = std::iter::repeat_n(Call::Unavailable, 1000);
    let slot = scripted.slot([Call::Succeeds].into_iter().chain(failing));
    let (busy, committable) = named(&slot, 1, &env).await;
    let report = |attempts, _| {
        if attempts == 2 {
            slot.drop_sink();
        }
    };
    assert!(slot.commit(busy, &committable, &env, report).await.unwrap().is_none());
    assert_eq!(scripted.calls.lock().unwrap().len(), 998);
}

/// Each prepare has an id of its own, and the same ones under the same seed.
#[tokio::test]
async fn commits_have_ids_of_their_own() {
    let (one, two) = (env(&Arc::default()), env(&Arc::default()));
    let mut ids = Vec::new();
    for (number, env) in [(1, &one), (2, &one), (1, &two), (2, &two)] {
        let (_, committable) = named(&Scripted::default().slot([]), number, env).await;
        ids.push(committable.mark.id);
    }
    assert_eq!(ids[..2], ids[2..]);
    assert_ne!(ids[0], ids[1]);
}

mod law;
mod writers;
