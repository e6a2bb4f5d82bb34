//! Merges beside checkpoints that add segments, and that drop relations.

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use object_store::memory::InMemory;

use super::*;
use crate::state::{StateDelta, StateTable, encode_delta, live_rows};

fn table() -> StateTable {
    let fields =
        vec![Field::new("k", DataType::Int64, false), Field::new("v", DataType::Int64, false)];
    StateTable { schema: Arc::new(Schema::new(fields)), key_columns: 1, row_start: 0 }
}

/// Writes keys with a value, and tombstones, as a segment of a worker.
async fn segment(env: &Env, puts: &[i64], value: i64, gone: &[i64], worker: usize) -> SegmentRef {
    let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let columns = vec![column(puts.to_vec()), column(vec![value; puts.len()])];
    let puts = RecordBatch::try_new(table().schema, columns).unwrap();
    let key = Arc::new(table().key_schema());
    let deletes = vec![RecordBatch::try_new(key, vec![column(gone.to_vec())]).unwrap()];
    let delta = StateDelta { table: 0, schema: table().schema, puts: vec![puts], deletes };
    let rows = delta.row_count() as u64;
    let mut bytes = Vec::new();
    let (offset, length) = encode_delta(&mut bytes, &delta).unwrap();
    let object = format!("state/{}.seg", uuid::Uuid::new_v4().simple());
    env.store().put(&Path::from(object.as_str()), PutPayload::from(bytes)).await.unwrap();
    SegmentRef {
        relation: RelationId(1),
        operator: OperatorId(uuid::Uuid::nil()),
        table: 0,
        worker: Some(worker),
        key_columns: 1,
        object,
        offset,
        length,
        rows,
    }
}

async fn rows(env: &Env, segments: &[SegmentRef], worker: usize) -> BTreeMap<i64, i64> {
    let mut batches = Vec::new();
    for segment in segments.iter().filter(|segment| segment.worker == Some(worker)) {
        let path = Path::from(segment.object.as_str());
        let bytes = env.store().get(&path).await.unwrap().bytes().await.unwrap();
        batches.extend(read_batches(&bytes).unwrap());
    }
    let live = live_rows(&table(), &batches).unwrap();
    let column = |batch: &RecordBatch, at: usize| {
        batch.column(at).as_primitive::<Int64Type>().values().to_vec()
    };
    live.iter().flat_map(|batch| std::iter::zip(column(batch, 0), column(batch, 1))).collect()
}

/// Law: whatever comes while merges run, the live rows are those of all segments.
#[tokio::test]
async fn a_merge_beside_newer_segments_keeps_the_rows() {
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let mut segments = Vec::new();
    let mut models = [BTreeMap::new(), BTreeMap::new()];
    let mut planned: Vec<Run> = Vec::new();
    let mut most = 0;
    for number in 0..200_i64 {
        for (worker, model) in models.iter_mut().enumerate() {
            let puts: Vec<i64> = (0..3).map(|row| (number * 7 + row * 5) % 40).collect();
            let gone = [(number * 11 + 1) % 40].into_iter().filter(|key| !puts.contains(key));
            let gone: Vec<i64> = gone.collect();
            puts.iter().for_each(|key| _ = model.insert(*key, number));
            gone.iter().for_each(|key| _ = model.remove(key));
            segments.push(segment(&env, &puts, number, &gone, worker).await);
        }
        // A merge takes as long as seven checkpoints.
        if number % 7 == 0 {
            for run in std::mem::take(&mut planned) {
                let merged = merge_run(&env, run).await.unwrap();
                assert_eq!(merged.replace_inputs(&mut segments), None);
            }
            planned = plan(&segments);
        }
        for (worker, model) in models.iter().enumerate() {
            assert_eq!(rows(&env, &segments, worker).await, *model, "checkpoint {number}");
        }
        most = most.max(segments.len());
    }
    assert!(most <= 2 * (SEGMENTS_MAX + 14), "{most} segments");
}

#[tokio::test]
async fn a_merge_whose_inputs_have_gone_is_garbage() {
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let mut segments = Vec::new();
    for number in 0..20 {
        segments.push(segment(&env, &[number], 1, &[], 0).await);
    }
    let compactor = Compactor::new(env.clone());
    let run = plan(&segments).remove(0);
    let merged = merge_run(&env, run).await.unwrap();
    let object = merged.output.as_ref().unwrap().object.clone();
    compactor.merged().push(merged);
    let gone = segments.pop().unwrap();
    let before = segments.clone();
    assert_eq!(compactor.name_merged(&mut segments), [object]);
    assert_eq!(segments, before, "{} is not there", gone.object);
}
