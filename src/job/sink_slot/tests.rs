//! What waits for a sink that is not due.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use frazil_connector_api::Result as Answer;
use object_store::memory::InMemory;

use super::*;

/// Sums up the weights of the rows that it is given.
#[derive(Default)]
struct Sums(Arc<Mutex<BTreeMap<i64, i64>>>);

#[async_trait]
impl Sink for Sums {
    async fn open(&mut self, _: Option<&Committable>) -> Answer<()> {
        Ok(())
    }

    async fn write(&mut self, changes: ChangeBatch) -> Answer<()> {
        let keys = changes.rows().column(0).as_primitive::<Int64Type>().values().clone();
        let weights = changes.weight_column();
        let mut sums = self.0.lock().unwrap();
        for (key, weight) in keys.iter().zip(weights.values()) {
            *sums.entry(*key).or_default() += weight;
        }
        Ok(())
    }

    async fn prepare(&mut self, checkpoint: u64, fence: u64) -> Answer<Option<Committable>> {
        Ok(Some(Committable { checkpoint, fence, payload: String::new() }))
    }

    async fn commit(&mut self, _: &Committable) -> Answer<CommitOutcome> {
        Ok(CommitOutcome::AlreadyVisible)
    }

    fn status(&self) -> SinkStatus {
        SinkStatus::default()
    }
}

fn batch(rows: &[(i64, i64)]) -> ChangeBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
    let weights = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    ChangeBatch::try_new(RecordBatch::try_from_iter([("k", keys)]).unwrap(), weights).unwrap()
}

fn slot(sums: &Arc<Mutex<BTreeMap<i64, i64>>>) -> SinkSlot {
    let schema = batch(&[]).schema();
    let sink = Box::new(Sums(Arc::clone(sums)));
    SinkSlot::new(RelationId(1), "daily".to_string(), Uuid::from_u128(7), schema, sink)
}

/// Law: what waits is the sum of all changes, across a restart, in a few objects; and what the
/// record does not name is told as garbage.
#[tokio::test]
async fn what_waits_stays_net_and_in_few_objects() {
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let sums = Arc::default();
    let mut daily = slot(&sums);
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
            *expected.entry(*key).or_default() += weight;
        }
        let prepared = daily.prepare(vec![batch(&rows)], false, (number as u64, 1), &env).await;
        let prepared = prepared.unwrap();
        assert!(prepared.commit.is_none());
        objects.extend(prepared.record.pending.iter().cloned());
        for gone in &prepared.garbage {
            assert!(objects.remove(gone), "it was in a record before");
        }
        assert_eq!(objects, prepared.record.pending.iter().cloned().collect());
        most = most.max(objects.len());
        if number % 50 == 49 {
            daily = slot(&sums);
            daily.restore(&prepared.record, &env).await.unwrap();
        }
    }
    assert!((2..=12).contains(&most), "{most} objects");
    let prepared = daily.prepare(Vec::new(), true, (200, 1), &env).await.unwrap();
    assert!(prepared.commit.is_some() && prepared.record.pending.is_empty());
    assert_eq!(prepared.garbage.into_iter().collect::<std::collections::BTreeSet<_>>(), objects);
    expected.retain(|_, weight| *weight != 0);
    assert_eq!(*sums.lock().unwrap(), expected);
}
