//! Law: after `commit(n)` the table equals the sum of all changes up to checkpoint n, however often
//! a crash, a lost reply or a repeated call came between.

use std::path::Path;

use frazil_connector_api::conformance::SinkRun;
use frazil_connector_api::{Committable, Fence, LastCommit, Resume};
use proptest::prelude::*;

use crate::harness::{
    Door, FOREIGN_VALUE, Fault, Layout, Model, assert_holds, changes, mark, prepared, sink,
};

/// How a checkpoint ends.
#[derive(Debug, Clone)]
enum End {
    Plain,
    /// These faults come first; the sink must get over them by itself.
    Faults(Vec<Fault>),
    /// The sink commits twice, and so does another process.
    Repeated,
    /// Crash between prepare and commit; the next process commits.
    CrashPrepared,
    /// Opened again with the committable, after a commit whose reply was lost.
    Reopened,
    /// Crash before prepare: the changes since the last checkpoint come again.
    CrashUnprepared,
}

#[derive(Debug, Clone)]
struct Step {
    writes: Vec<Vec<(i64, Option<i64>)>>,
    /// Whether updates come without the old row.
    upserts_only: bool,
    end: End,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![Just(Fault::LoseReply), Just(Fault::FailBefore), Just(Fault::Conflict)]
}

fn step() -> impl Strategy<Value = Step> {
    let set = (0_i64..24, prop::option::weighted(0.75, 0_i64..200));
    let writes = prop::collection::vec(prop::collection::vec(set, 0..14), 0..4);
    let end = prop_oneof![
        3 => Just(End::Plain),
        2 => prop::collection::vec(fault(), 1..4).prop_map(End::Faults),
        1 => Just(End::Repeated),
        1 => Just(End::CrashPrepared),
        1 => Just(End::Reopened),
        1 => Just(End::CrashUnprepared),
    ];
    (writes, any::<bool>(), end).prop_map(|(writes, upserts_only, end)| Step {
        writes,
        upserts_only,
        end,
    })
}

struct Run<'a> {
    folder: &'a Path,
    layout: Layout,
    door: Door,
    sink: SinkRun,
    model: Model,
    checkpoint: u64,
    fence: u64,
    last: LastCommit,
}

impl Run<'_> {
    async fn write(&mut self, step: &Step) {
        for sets in &step.writes {
            let mut net = self.model.apply(sets);
            if step.upserts_only {
                let sure: Vec<i64> =
                    net.iter().filter(|(_, weight)| *weight > 0).map(|(row, _)| row.id).collect();
                net.retain(|(row, weight)| *weight > 0 || !sure.contains(&row.id));
            }
            self.sink.write(changes(&net)).await.unwrap();
        }
    }

    async fn restart(&mut self) {
        self.fence += 1;
        self.sink = sink(self.folder, "t", self.layout, &self.door);
        self.sink
            .open(&Resume { is_new: false, fence: Fence(self.fence), last: self.last.clone() })
            .await
            .unwrap();
    }

    async fn step(&mut self, step: &Step) {
        self.checkpoint += 1;
        let before = self.model.clone();
        self.write(step).await;
        if matches!(step.end, End::CrashUnprepared) {
            self.restart().await;
            self.model = before;
            self.write(step).await;
        }
        let mark = mark(self.checkpoint, self.fence);
        let Some(committable) = self.sink.prepare(mark).await.unwrap() else { return };
        self.last = LastCommit::Prepared(committable.clone());
        self.finish(&step.end, &committable).await;
        self.last = LastCommit::Visible(mark);
        // Another writer's rows are rows of the table like others.
        for id in self.door.take_foreign() {
            self.model.rows.insert(id, FOREIGN_VALUE);
        }
    }

    async fn finish(&mut self, end: &End, committable: &Committable) {
        match end {
            End::Plain | End::CrashUnprepared => {
                self.sink.commit(committable).await.unwrap();
            }
            End::Faults(faults) => {
                self.door.next(faults.iter().copied());
                self.sink.commit(committable).await.unwrap();
                self.door.clear();
            }
            End::Repeated => {
                let first = self.sink.commit(committable).await.unwrap();
                let again = self.sink.commit(committable).await.unwrap();
                assert_eq!(again, first);
                let mut other = sink(self.folder, "t", self.layout, &Door::default());
                other.open(&prepared(committable, 9)).await.unwrap();
                assert_eq!(other.status().row_count, self.sink.status().row_count);
            }
            End::CrashPrepared => self.restart().await,
            End::Reopened => {
                self.door.next([Fault::LoseReply]);
                self.sink.commit(committable).await.unwrap();
                self.sink.open(&prepared(committable, self.fence)).await.unwrap();
            }
        }
    }
}

async fn run(layout: Layout, steps: &[Step]) {
    let folder = tempfile::tempdir().unwrap();
    let door = Door::with_foreign(folder.path(), layout);
    let first = sink(folder.path(), "t", layout, &door);
    let model = Model::default();
    let (folder, last) = (folder.path(), LastCommit::None);
    let mut run = Run { folder, layout, door, sink: first, model, checkpoint: 0, fence: 1, last };
    run.sink.open(&Resume::default()).await.unwrap();
    for step in steps {
        run.step(step).await;
        assert_holds(folder, "t", &run.model).await;
        assert_eq!(run.sink.status().row_count, Some(run.model.rows.len() as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn table_equals_the_sum_of_all_changes(
        layout in prop::sample::select(Layout::all()),
        wide_key in any::<bool>(),
        steps in prop::collection::vec(step(), 1..8),
    ) {
        let layout = if wide_key { Layout { key: &[0, 8], ..layout } } else { layout };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(layout, &steps));
    }
}
