//! Merges beside checkpoints that add segments, and that drop relations.

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use object_store::memory::InMemory;

use super::*;
use crate::change::{hash_rows, shard_of, shards_of};
use crate::checkpoint::Manifests;
use crate::state::{DeltaShards, StateDelta, StateTable, encode_delta, table_rows};

fn table() -> StateTable {
    let fields =
        vec![Field::new("k", DataType::Int64, false), Field::new("v", DataType::Int64, false)];
    StateTable { schema: Arc::new(Schema::new(fields)), key_columns: 1, row_start: 0 }
}

fn column(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn shards(keys: &[i64]) -> Vec<u8> {
    let hashes = hash_rows(&[column(keys.to_vec())], keys.len()).unwrap();
    hashes.into_iter().map(shard_of).collect()
}

/// Writes keys with a value, and tombstones, as a segment of some shards.
async fn segment(
    env: &Env,
    keys: &[i64],
    value: i64,
    gone: &[i64],
    of_worker: ShardRange,
) -> SegmentRef {
    let shards = DeltaShards { puts: vec![shards(keys)], deletes: vec![shards(gone)] };
    let columns = vec![column(keys.to_vec()), column(vec![value; keys.len()])];
    let puts = RecordBatch::try_new(table().schema, columns).unwrap();
    let key = Arc::new(table().key_schema());
    let deletes = vec![RecordBatch::try_new(key, vec![column(gone.to_vec())]).unwrap()];
    let (schema, puts) = (table().schema, vec![puts]);
    let delta = StateDelta { table: 0, schema, puts, deletes, delete_shards: None };
    let mut bytes = Vec::new();
    let place = encode_delta(&mut bytes, &delta, shards).unwrap();
    let Place { offset, length, directory, rows, crc } = place;
    let object = format!("state/{}.seg", uuid::Uuid::new_v4().simple());
    env.store().put(&Path::from(object.as_str()), PutPayload::from(bytes)).await.unwrap();
    SegmentRef {
        relation: RelationId(1),
        operator: OperatorId(uuid::Uuid::nil()),
        table: 0,
        shards: of_worker,
        key_columns: 1,
        object,
        offset,
        length,
        directory,
        rows,
        crc: Some(crc),
    }
}

async fn rows(env: &Env, manifest: &Manifest, shards: ShardRange) -> BTreeMap<i64, i64> {
    let segments = manifest.segments().cloned().collect();
    let mut reader = ShardReader::open(env.clone(), segments, shards).await.unwrap();
    let mut newest = NewestRows::new(1, true);
    let column = |batch: &RecordBatch, at: usize| {
        batch.column(at).as_primitive::<Int64Type>().values().to_vec()
    };
    let mut rows = BTreeMap::new();
    while let Some(group) = reader.next().await.unwrap() {
        for batch in table_rows(&table(), &newest.of(group).unwrap()).unwrap() {
            for (key, value) in std::iter::zip(column(&batch, 0), column(&batch, 1)) {
                assert_eq!(rows.insert(key, value), None, "key {key} comes twice");
            }
        }
    }
    rows
}

/// Law: whatever comes while merges run, whoever wrote it and whoever reads it, the live rows are
/// those of all segments.
#[tokio::test]
async fn a_merge_beside_newer_segments_keeps_the_rows() {
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let (manifests, mut manifest) = Manifests::open(env.clone()).await.unwrap();
    let (mut in_manifests, mut in_objects) = (0, 0);
    let mut model = BTreeMap::new();
    let mut planned: Vec<Run> = Vec::new();
    let (mut most, mut workers) = (0, 1);
    for number in 0..300_i64 {
        // A start with other workers.
        if number % 60 == 59 {
            workers = [1, 3, 2, 4, 2][number as usize / 60];
        }
        // Merges of few keys become part of a manifest.
        let keys = if number < 150 { 12 } else { 120 };
        let puts: Vec<i64> = (0..9).map(|row| (number * 7 + row * 5) % keys).collect();
        let gone = [(number * 11 + 1) % keys].into_iter().filter(|key| !puts.contains(key));
        let gone: Vec<i64> = gone.collect();
        puts.iter().for_each(|key| _ = model.insert(*key, number));
        gone.iter().for_each(|key| _ = model.remove(key));
        for worker in 0..workers {
            let own = shards_of(worker, workers);
            let mine = |keys: &[i64]| -> Vec<i64> {
                let keys = std::iter::zip(keys, shards(keys));
                keys.filter(|(_, shard)| own.contains(*shard)).map(|(key, _)| *key).collect()
            };
            let (puts, gone) = (mine(&puts), mine(&gone));
            if !puts.is_empty() || !gone.is_empty() {
                manifest.add_segments([segment(&env, &puts, number, &gone, own).await]);
            }
        }
        // A merge takes as long as seven checkpoints.
        if number % 7 == 0 {
            for run in std::mem::take(&mut planned) {
                let merged = merge_run(&env, run).await.unwrap();
                let is_small = merged.output.body.is_some();
                *(if is_small { &mut in_manifests } else { &mut in_objects }) += 1;
                let mut body = ManifestBody::after(&manifest);
                assert_eq!(merged.replace_inputs(&mut manifest, &mut body), None);
                manifests.append(&mut manifest, body).await.unwrap();
            }
            planned = plan(manifest.segments());
        }
        let readers = 1 + number as usize % 5;
        let mut read = BTreeMap::new();
        for reader in 0..readers {
            let own = rows(&env, &manifest, shards_of(reader, readers)).await;
            assert!(own.keys().all(|key| !read.contains_key(key)), "a row has two owners");
            read.extend(own);
        }
        assert_eq!(read, model, "checkpoint {number}");
        most = most.max(manifest.segments().count() / workers);
    }
    assert!(most <= 2 * (SEGMENTS_MAX + 14), "{most} segments");
    assert!(in_manifests > 5 && in_objects > 5, "{in_manifests} and {in_objects} merges");
}

#[tokio::test]
async fn a_merge_whose_inputs_have_gone_is_garbage() {
    let env = Env::real(Arc::new(InMemory::new())).unwrap();
    let mut manifest = Manifest::empty();
    for number in 0..20 {
        let keys: Vec<i64> = (number * 100..number * 100 + 50).collect();
        manifest.add_segments([segment(&env, &keys, 1, &[], ShardRange::ALL).await]);
    }
    let compactor = Compactor::new(env.clone());
    let run = plan(manifest.segments()).remove(0);
    let merged = merge_run(&env, run).await.unwrap();
    let object = merged.output.segments[0].object.clone();
    compactor.merged().push(merged);
    let gone = manifest.state.values_mut().next().unwrap().edit().pop().unwrap();
    let before: Vec<SegmentRef> = manifest.segments().cloned().collect();
    let mut body = ManifestBody::after(&manifest);
    assert_eq!(compactor.name_merged(&mut manifest, &mut body), [object]);
    assert!(manifest.segments().eq(&before), "{} is not there", gone.object);
}
