//! A compaction by someone else between the two phases of a commit.

use frazil_connector_api::SinkMode;

use crate::foreign::{Act, Event, Lake, prepare, prepared};

/// Law: what is committed after a compaction is what would have been without it, by this process
/// and by the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_under_a_commit_loses_no_delete() {
    for version in ["2", "3"] {
        for partition_by in [None, Some("bucket(3, id)")] {
            for is_restarted in [false, true] {
                let lake = Lake::new(version, partition_by);
                let mut sink = lake.upsert_sink().await;
                let rows: Vec<_> = (0..20).map(|id| (id, id, 1)).collect();
                let first = prepare(&mut sink, 1, &rows).await;
                sink.commit(&first).await.unwrap();
                // The first files have deleted rows already, and one row is in a later file.
                let second = prepare(&mut sink, 2, &[(5, 5, -1), (6, 6, -1), (6, 66, 1)]).await;
                sink.commit(&second).await.unwrap();
                let news =
                    [(1, 1, -1), (1, 11, 1), (2, 2, -1), (6, 66, -1), (6, 67, 1), (30, 30, 1)];
                let third = prepare(&mut sink, 3, &news).await;
                if is_restarted {
                    lake.act(Act::Compact).await;
                    sink = lake.sink(SinkMode::Upsert { key: vec![0] });
                    sink.open(&prepared(&third)).await.unwrap();
                } else {
                    lake.arm(&[Event::Before(Act::Compact)]);
                    sink.commit(&third).await.unwrap();
                    assert!(lake.is_calm(), "the table was compacted");
                }
                let mut expected: Vec<(i64, i64)> = (0..20).map(|id| (id, id)).collect();
                expected.retain(|(id, _)| ![1, 2, 5, 6].contains(id));
                expected.extend([(1, 11), (6, 67), (30, 30)]);
                expected.sort_unstable();
                assert_eq!(lake.rows().await, expected, "v{version} {partition_by:?}");
                // The sink has learned where the rows are now.
                let fourth = prepare(&mut sink, 4, &[(3, 3, -1), (30, 30, -1), (30, 31, 1)]).await;
                sink.commit(&fourth).await.unwrap();
                expected.retain(|(id, _)| ![3, 30].contains(id));
                expected.push((30, 31));
                assert_eq!(lake.rows().await, expected, "v{version} {partition_by:?}");
            }
        }
    }
}
