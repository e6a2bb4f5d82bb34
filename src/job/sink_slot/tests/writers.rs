//! Writers of one cut share it by key, work at the same time, and end together.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Barrier;

use super::*;

/// What happens in a writer.
#[derive(Clone, Default)]
enum Script {
    #[default]
    Writes,
    /// All three writers are in `write` at the same time.
    Meets(Arc<Barrier>),
    /// The writer with this key among its rows fails, once.
    FailsAt(i64, Arc<Mutex<bool>>),
}

/// Notes which writer got which keys.
#[derive(Clone, Default)]
struct Shared {
    script: Script,
    /// What the slot holds while a writer writes.
    memory: Option<Arc<MemoryAccount>>,
    held: Arc<Mutex<u64>>,
    made: Arc<Mutex<usize>>,
    keys: Arc<Mutex<BTreeMap<i64, Vec<usize>>>>,
    aborted: Arc<Mutex<Vec<usize>>>,
    merged: Arc<Mutex<Vec<Vec<Fragment>>>>,
}

struct One {
    number: usize,
    of: Shared,
}

#[async_trait]
impl SinkCommitter for Shared {
    async fn open(&mut self, _: &Resume) -> Answer<()> {
        Ok(())
    }

    fn writer(&mut self) -> Answer<Box<dyn SinkWriter>> {
        let mut made = self.made.lock().unwrap();
        *made += 1;
        Ok(Box::new(One { number: *made - 1, of: self.clone() }))
    }

    async fn merge(
        &mut self,
        mark: CommitMark,
        fragments: Vec<Fragment>,
    ) -> Answer<Option<Committable>> {
        self.merged.lock().unwrap().push(fragments);
        Ok(Some(Committable { mark, payload: String::new() }))
    }

    async fn commit(&mut self, _: &Committable) -> Answer<CommitOutcome> {
        Ok(committed())
    }

    async fn abort(&mut self, fragments: Vec<Fragment>) -> Answer<()> {
        assert_eq!(fragments, [], "no writer has finished");
        Ok(())
    }

    fn status(&self) -> SinkStatus {
        SinkStatus::default()
    }
}

#[async_trait]
impl SinkWriter for One {
    async fn write(&mut self, changes: ChangeBatch) -> Answer<()> {
        let keys = changes.rows().column(0).as_primitive::<Int64Type>().values().to_vec();
        if let Some(memory) = &self.of.memory {
            *self.of.held.lock().unwrap() = memory.total();
        }
        match &self.of.script {
            Script::Writes => {}
            Script::Meets(barrier) => {
                let met = tokio::time::timeout(Duration::from_secs(30), barrier.wait()).await;
                met.expect("the writers work at the same time");
            }
            Script::FailsAt(key, fails) => {
                if keys.contains(key) && std::mem::take(&mut *fails.lock().unwrap()) {
                    return Err(ConnectorError::unavailable("disk is full"));
                }
            }
        }
        let mut all = self.of.keys.lock().unwrap();
        keys.into_iter().for_each(|key| all.entry(key).or_default().push(self.number));
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Answer<Option<Fragment>> {
        Ok(Some(Fragment { payload: self.number.to_string() }))
    }

    async fn abort(self: Box<Self>) {
        self.of.aborted.lock().unwrap().push(self.number);
    }
}

fn slot_of(shared: &Shared, mode: &SinkMode) -> Arc<SinkSlot> {
    let (schema, sink) = (batch(&[]).schema(), Box::new(shared.clone()));
    let id = Uuid::from_u128(7);
    Arc::new(SinkSlot::new(RelationId(1), "s".to_string(), id, schema, mode, sink))
}

async fn put(slot: &Arc<SinkSlot>, number: u64, rows: &[(i64, i64)], env: &Env) -> Outcome {
    slot.log(vec![batch(rows)], CheckpointNumber(number), env).await.unwrap();
    prepare(slot, number, env).await
}

fn fragments(numbers: &[usize]) -> Vec<Fragment> {
    numbers.iter().map(|number| Fragment { payload: number.to_string() }).collect()
}

/// A large cut is encoded by all writers at once, each key by one of them; a small one makes no
/// more fragments than one.
#[tokio::test]
async fn a_large_cut_is_shared_among_writers() {
    let env = env(&Arc::default());
    for mode in [SinkMode::Upsert { key: vec![0] }, SinkMode::AppendOnly] {
        let script = Script::Meets(Arc::new(Barrier::new(3)));
        let shared = Shared { script, ..Shared::default() };
        let slot = slot_of(&shared, &mode);
        let rows: Vec<_> = (0..300).map(|row| (row, 1)).collect();
        let prepared = put(&slot, 1, &rows, &env).await.unwrap().unwrap();
        let keys = std::mem::take(&mut *shared.keys.lock().unwrap());
        assert_eq!(keys.keys().copied().collect::<Vec<_>>(), (0..300).collect::<Vec<_>>());
        assert!(keys.values().all(|writers| writers.len() == 1));
        let of = |number| keys.values().filter(|writers| **writers == [number]).count();
        assert!((0..3).all(|number| of(number) > 50), "{keys:?}");
        assert_eq!(*shared.merged.lock().unwrap(), [fragments(&[0, 1, 2])]);
        slot.name(prepared.committable.as_ref());
        slot.commit(prepared.sink, &prepared.committable.unwrap(), &env, |_, _| ()).await.unwrap();
    }
    let small = Shared::default();
    put(&slot_of(&small, &SinkMode::AppendOnly), 1, &[(1, 1)], &env).await.unwrap();
    assert_eq!(*small.merged.lock().unwrap(), [fragments(&[0])]);
}

/// What is handed to writers is charged: the net changes, and once more if shares are copies.
#[tokio::test]
async fn what_writers_get_is_charged() {
    let env = env(&Arc::default());
    let rows: Vec<_> = (0..300).map(|row| (row, 1)).collect();
    let bytes = batch_bytes(batch(&rows).rows()) as u64;
    for (mode, copies) in [(SinkMode::AppendOnly, 1), (SinkMode::Upsert { key: vec![0] }, 2)] {
        let memory = MemoryAccount::new(0, 0);
        let shared = Shared { memory: Some(Arc::clone(&memory)), ..Shared::default() };
        let slot = slot_of(&shared, &mode);
        slot.charge_to(&memory);
        slot.log(vec![batch(&rows)], CheckpointNumber(1), &env).await.unwrap();
        let logged = memory.total();
        prepare(&slot, 1, &env).await.unwrap();
        assert_eq!(*shared.held.lock().unwrap(), logged + copies * bytes, "{mode:?}");
        assert_eq!(memory.total(), logged);
    }
}

/// One writer that fails aborts all; the changes are encoded again, by writers of their own.
#[tokio::test]
async fn a_writer_that_fails_aborts_the_others() {
    let env = env(&Arc::default());
    let script = Script::FailsAt(17, Arc::new(Mutex::new(true)));
    let shared = Shared { script, ..Shared::default() };
    let slot = slot_of(&shared, &SinkMode::Upsert { key: vec![0] });
    let rows: Vec<_> = (0..300).map(|row| (row, 1)).collect();
    let problem = put(&slot, 1, &rows, &env).await.err().unwrap();
    assert_eq!(problem.error, "disk is full");
    let mut aborted = shared.aborted.lock().unwrap().clone();
    aborted.sort_unstable();
    assert_eq!(aborted, [0, 1, 2]);
    assert!(shared.merged.lock().unwrap().is_empty());
    shared.keys.lock().unwrap().clear();
    prepare(&slot, 2, &env).await.unwrap().unwrap();
    assert_eq!(shared.keys.lock().unwrap().len(), 300);
    assert_eq!(*shared.merged.lock().unwrap(), [fragments(&[3, 4, 5])]);
}
