//! The law of sinks, with another engine that compacts the table at each conflict.

use std::collections::BTreeSet;

use frazil_connector_api::conformance::{CommitFault, SinkTarget, assert_exactly_once, law_schema};

use super::*;

#[async_trait]
impl SinkTarget for Lake {
    fn sink(&self, mode: &SinkMode) -> Box<dyn SinkCommitter> {
        self.committer(mode)
    }

    async fn rows(&self) -> Vec<(i64, i64)> {
        Lake::rows(self).await
    }

    async fn objects(&self) -> BTreeSet<String> {
        let Ok(files) = std::fs::read_dir(self.data_folder()) else { return BTreeSet::new() };
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn arm(&self, fault: CommitFault) {
        let event = match fault {
            CommitFault::Conflict => Event::Before(Act::Compact),
            CommitFault::LostReply => Event::LostThen(None),
            CommitFault::LostRequest => Event::Lost,
        };
        Lake::arm(self, &[event]);
    }
}

async fn keeps_the_law(version: &'static str, partition_by: Option<&'static str>) {
    assert_eq!(rows_schema(), law_schema());
    for mode in [SinkMode::Upsert { key: vec![0] }, SinkMode::AppendOnly] {
        let new_lake = || -> Box<dyn SinkTarget> { Box::new(Lake::new(version, partition_by)) };
        assert_exactly_once(&new_lake, &mode).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn version_2_keeps_the_law_of_sinks() {
    keeps_the_law("2", Some("bucket(2, id)")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn version_3_keeps_the_law_of_sinks() {
    keeps_the_law("3", None).await;
}

/// Writers in tasks of their own share the index: in each cut every key is updated, and a third of
/// them deleted and set again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_work_beside_each_other() {
    const WRITERS: i64 = 4;
    for (version, partition_by) in [("3", None), ("2", Some("bucket(3, id)"))] {
        let lake = Lake::new(version, partition_by);
        let mut sink = lake.committer(&SinkMode::Upsert { key: vec![0] });
        sink.open(&Resume::default()).await.unwrap();
        for cut in 1..6_i64 {
            let shares = (0..WRITERS).map(|share| {
                let mut writer = sink.writer().unwrap();
                tokio::spawn(async move {
                    for batch in 0..4 {
                        let ids = (batch * 100..(batch + 1) * 100).map(|id| id * WRITERS + share);
                        let rows = ids.flat_map(|id| {
                            let is_there = cut > 1 && id % 3 != (cut - 1) % 3;
                            let old = is_there.then_some((id, cut - 1, -1));
                            let new = (id % 3 != cut % 3).then_some((id, cut, 1));
                            old.into_iter().chain(new)
                        });
                        writer.write(changes_of(&rows.collect::<Vec<_>>())).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    writer.finish().await.unwrap().unwrap()
                })
            });
            let mut fragments = Vec::new();
            for share in shares.collect::<Vec<_>>() {
                fragments.push(share.await.unwrap());
            }
            let mark = CommitMark {
                checkpoint: CheckpointNumber(cut as u64),
                fence: Fence(1),
                id: Uuid::new_v4(),
            };
            let committable = sink.merge(mark, fragments).await.unwrap().unwrap();
            sink.commit(&committable).await.unwrap();
            let there = (0..400 * WRITERS).filter(|id| id % 3 != cut % 3);
            let expected: Vec<_> = there.map(|id| (id, cut)).collect();
            assert_eq!(lake.rows().await, expected, "version {version}, cut {cut}");
            assert_eq!(sink.status().row_count, Some(expected.len() as u64));
        }
    }
}
