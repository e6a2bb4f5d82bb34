//! At every manifest each change is in exactly one place, whatever a sink does beside it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Value by key.
type Rows = BTreeMap<i64, i64>;

/// What changes leave of each key: its value, or nothing.
type Latest = BTreeMap<i64, Option<i64>>;

/// A target, and what is durable beside it, by commit.
#[derive(Clone, Default)]
struct Ledger {
    target: Arc<Mutex<(BTreeSet<Uuid>, Rows)>>,
    prepared: Arc<Mutex<BTreeMap<Uuid, Latest>>>,
    fails: Arc<Mutex<bool>>,
}

fn apply(rows: &mut Rows, latest: &Latest) {
    for (key, value) in latest {
        match value {
            Some(value) => rows.insert(*key, *value),
            None => rows.remove(key),
        };
    }
}

/// Changes as (key, value, weight).
fn changes(steps: &[(i64, i64, i64)]) -> ChangeBatch {
    let column = |of: fn(&(i64, i64, i64)) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(steps.iter().map(of)))
    };
    let rows = [("k", column(|it| it.0)), ("v", column(|it| it.1))];
    let weights = Int64Array::from_iter_values(steps.iter().map(|step| step.2));
    ChangeBatch::try_new(RecordBatch::try_from_iter(rows).unwrap(), weights).unwrap()
}

/// A key is in a batch once.
fn latest(changes: &ChangeBatch) -> Latest {
    let column = |at: usize| changes.rows().column(at).as_primitive::<Int64Type>().clone();
    let (keys, values) = (column(0), column(1));
    let of = |row: usize| (keys.value(row), (changes.weight(row) > 0).then(|| values.value(row)));
    let latest: Latest = (0..changes.num_rows()).map(of).collect();
    assert_eq!(latest.len(), changes.num_rows(), "a key comes once");
    latest
}

impl Ledger {
    fn show(&self, committable: &Committable) {
        let mut target = self.target.lock().unwrap();
        if target.0.insert(committable.mark.id) {
            apply(&mut target.1, &self.prepared.lock().unwrap()[&committable.mark.id]);
        }
    }

    fn may_fail(&self) -> Answer<()> {
        match std::mem::take(&mut *self.fails.lock().unwrap()) {
            true => Err(ConnectorError::unavailable("connection refused")),
            false => Ok(()),
        }
    }

    fn slot(&self) -> Arc<SinkSlot> {
        let (schema, sink) = (changes(&[]).schema(), Box::new(self.clone()));
        let id = Uuid::from_u128(7);
        let (name, mode) = ("s".to_string(), SinkMode::Upsert { key: vec![0] });
        Arc::new(SinkSlot::new(RelationId(1), name, id, schema, &mode, sink))
    }

    /// What the target shows once all that a manifest names is committed.
    async fn total(&self, record: &SinkRecord, env: &Env) -> Rows {
        let (committed, mut rows) = self.target.lock().unwrap().clone();
        if let Some(committable) = record.last.committable()
            && !committed.contains(&committable.mark.id)
        {
            apply(&mut rows, &self.prepared.lock().unwrap()[&committable.mark.id]);
        }
        for object in &record.pending {
            let schema = changes(&[]).schema();
            let pending = Pending::restore(0, object, &schema, env).await.unwrap();
            apply(&mut rows, &latest(&pending.changes(&schema, env).await.unwrap()));
        }
        rows
    }
}

#[async_trait]
impl SinkCommitter for Ledger {
    async fn open(&mut self, resume: &Resume) -> Answer<()> {
        if let Some(committable) = resume.last.committable() {
            self.show(committable);
        }
        Ok(())
    }

    fn writer(&mut self) -> Answer<Box<dyn SinkWriter>> {
        Ok(Box::new(Share::default()))
    }

    async fn merge(
        &mut self,
        mark: CommitMark,
        fragments: Vec<Fragment>,
    ) -> Answer<Option<Committable>> {
        self.may_fail()?;
        let mut all = Latest::new();
        for fragment in fragments {
            let share: Vec<(i64, Option<i64>)> = serde_json::from_str(&fragment.payload).unwrap();
            all.extend(share);
        }
        if all.is_empty() {
            return Ok(None);
        }
        self.prepared.lock().unwrap().insert(mark.id, all);
        Ok(Some(Committable { mark, payload: String::new() }))
    }

    async fn commit(&mut self, committable: &Committable) -> Answer<CommitOutcome> {
        self.show(committable);
        Ok(CommitOutcome::Committed { snapshot: committable.mark.id.to_string() })
    }

    async fn abort(&mut self, _: Vec<Fragment>) -> Answer<()> {
        Ok(())
    }

    fn status(&self) -> SinkStatus {
        SinkStatus::default()
    }
}

/// A writer that describes its share.
#[derive(Default)]
struct Share(Latest);

#[async_trait]
impl SinkWriter for Share {
    async fn write(&mut self, changes: ChangeBatch) -> Answer<()> {
        self.0.extend(latest(&changes));
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Answer<Option<Fragment>> {
        let rows: Vec<_> = self.0.into_iter().collect();
        Ok(Some(Fragment { payload: serde_json::to_string(&rows).unwrap() }))
    }

    async fn abort(self: Box<Self>) {}
}

/// Numbers that look random, the same for each seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
        (self.0 >> 33) % sides
    }
}

/// The changes of an epoch to some rows: some come, some change and some go, and of an update both
/// rows may come first.
fn epoch(rows: &mut Rows, dice: &mut Dice) -> ChangeBatch {
    let mut steps = Vec::new();
    let keys: BTreeSet<i64> = (0..dice.roll(4)).map(|_| dice.roll(12) as i64).collect();
    for key in keys {
        let old = rows.remove(&key);
        let new = (old.is_none() || dice.roll(3) > 0).then(|| dice.roll(1000) as i64);
        rows.extend(new.map(|value| (key, value)));
        let mut of_key: Vec<_> = old.into_iter().map(|value| (key, value, -1)).collect();
        of_key.extend(new.map(|value| (key, value, 1)));
        if dice.roll(2) == 0 {
            of_key.reverse();
        }
        steps.extend(of_key);
    }
    changes(&steps)
}

/// How far a sink's work is, beside the checkpoints.
#[derive(Default)]
enum Work {
    #[default]
    None,
    Begun(BusySink, CommitMark),
    Prepared(Prepared),
    Named(BusySink, Committable),
}

/// Law: target, committable and log make the rows as of the checkpoint, at every manifest; also
/// where the process ends at any step and another one starts from the manifest.
#[tokio::test]
async fn every_change_is_in_one_place_at_every_manifest() {
    for seed in 0..60 {
        let env = env(&Arc::default());
        let (ledger, mut dice) = (Ledger::default(), Dice(seed));
        let mut slot = ledger.slot();
        let (mut work, mut expected) = (Work::None, Rows::new());
        let mut manifest = slot.record();
        for step in 1..120_u64 {
            match dice.roll(8) {
                0..=2 => {
                    let epochs = (0..dice.roll(4)).map(|_| epoch(&mut expected, &mut dice));
                    let epochs = epochs.collect();
                    manifest = slot.log(epochs, CheckpointNumber(step), &env).await.unwrap().record;
                }
                3 | 4 => {
                    work = match work {
                        Work::None => match slot.begin() {
                            Some(sink) => Work::Begun(sink, mark(step, &env)),
                            None => Work::None,
                        },
                        Work::Begun(sink, mark) => {
                            *ledger.fails.lock().unwrap() = dice.roll(3) == 0;
                            let prepared = Arc::clone(&slot).prepare(sink, mark, &env).await;
                            prepared.map_or(Work::None, Work::Prepared)
                        }
                        other => other,
                    };
                }
                5 => {
                    if let Work::Prepared(Prepared { sink, committable, .. }) = work {
                        slot.name(committable.as_ref());
                        manifest = slot.record();
                        work = committable.map_or(Work::None, |it| Work::Named(sink, it));
                    }
                }
                6 => {
                    if let Work::Named(sink, committable) = work {
                        slot.commit(sink, &committable, &env, |_, _| ()).await.unwrap();
                        work = Work::None;
                    }
                }
                _ => {
                    work = Work::None;
                    slot = ledger.slot();
                    slot.restore(&manifest, Fence(step), &env).await.unwrap();
                    if dice.roll(2) == 0 {
                        slot.recover(&env, |_, _| ()).await.unwrap();
                    }
                }
            }
            assert_eq!(ledger.total(&manifest, &env).await, expected, "seed {seed}, step {step}");
        }
    }
}

/// A busy sink delays no checkpoint: its log takes the changes of the meantime.
#[tokio::test]
async fn a_checkpoint_does_not_wait_for_a_sink_at_work() {
    let (env, ledger) = (env(&Arc::default()), Ledger::default());
    let slot = ledger.slot();
    slot.log(vec![changes(&[(1, 5, 1)])], CheckpointNumber(1), &env).await.unwrap();
    let sink = slot.begin().unwrap();
    // The sink is locked and has not prepared: an index is loaded, a catalog does not answer.
    let record =
        slot.log(vec![changes(&[(2, 6, 1)])], CheckpointNumber(2), &env).await.unwrap().record;
    assert_eq!(record.pending.len(), 2);
    assert!(slot.begin().is_none(), "it is at work");
    let prepared = Arc::clone(&slot).prepare(sink, mark(1, &env), &env).await.unwrap();
    let garbage = slot.name(prepared.committable.as_ref());
    assert_eq!(garbage, record.pending[..1]);
    let lacks = |checkpoint| slot.lacks(CheckpointNumber(checkpoint));
    assert!(!lacks(0) && lacks(1) && lacks(2));
    slot.commit(prepared.sink, &prepared.committable.unwrap(), &env, |_, _| ()).await.unwrap();
    assert!(!lacks(1) && lacks(2));
    assert_eq!(ledger.target.lock().unwrap().1, Rows::from([(1, 5)]));
}
