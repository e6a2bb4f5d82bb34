//! Reads of segments by one worker and by several.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use object_store::{ObjectStore, PutPayload};
use uuid::Uuid;

use super::*;
use crate::catalog::RelationId;
use crate::change::{hash_rows, shard_of, shards_of};
use crate::env::faulty_store::FaultyStore;
use crate::state::{DeltaShards, OperatorId, StateDelta, StateTable, encode_delta, table_rows};

const ROWS_OF_A_SHARD: usize = 6;

fn table() -> StateTable {
    let key = Field::new("k", DataType::Int64, false);
    let schema = Schema::new(vec![key, Field::new("v", DataType::Utf8, true)]);
    StateTable { schema: Arc::new(schema), key_columns: 1, row_start: 0 }
}

fn column(keys: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(keys.to_vec()))
}

fn shards(keys: &[i64]) -> Vec<u8> {
    let hashes = hash_rows(&[column(keys)], keys.len()).unwrap();
    hashes.into_iter().map(shard_of).collect()
}

/// As many keys of each shard.
fn keys() -> Vec<i64> {
    let mut counts = [0; SHARDS];
    let candidates: Vec<i64> = (0..40_000).collect();
    let candidates = std::iter::zip(shards(&candidates), candidates);
    let keys = candidates.filter(|(shard, _)| {
        counts[usize::from(*shard)] += 1;
        counts[usize::from(*shard)] <= ROWS_OF_A_SHARD
    });
    let keys: Vec<i64> = keys.map(|(_, key)| key).collect();
    assert_eq!(keys.len(), SHARDS * ROWS_OF_A_SHARD);
    keys
}

/// Puts a segment of rows `key -> value`.
async fn segment(store: &FaultyStore, keys: &[i64], value: &str, gone: &[i64]) -> SegmentRef {
    let values: ArrayRef = Arc::new(StringArray::from(vec![value; keys.len()]));
    let puts = RecordBatch::try_new(table().schema, vec![column(keys), values]).unwrap();
    let deletes = RecordBatch::try_new(Arc::new(table().key_schema()), vec![column(gone)]).unwrap();
    let delta = StateDelta {
        table: 0,
        schema: table().schema,
        puts: vec![puts],
        deletes: vec![deletes],
        delete_shards: None,
    };
    let of_rows = DeltaShards { puts: vec![shards(keys)], deletes: vec![shards(gone)] };
    let mut bytes = vec![7; 11];
    let place = encode_delta(&mut bytes, &delta, of_rows).unwrap();
    let object = format!("state/{}-{}.seg", value.len(), keys.len());
    store.put(&Path::from(object.as_str()), PutPayload::from(bytes)).await.unwrap();
    SegmentRef {
        relation: RelationId(1),
        operator: OperatorId(Uuid::nil()),
        table: 0,
        shards: ShardRange::ALL,
        key_columns: 1,
        object,
        offset: place.offset,
        length: place.length,
        directory: place.directory,
        rows: place.rows,
        crc: Some(place.crc),
    }
}

/// Rows of some shards, and how many came at once at most.
async fn read(
    store: &Arc<FaultyStore>,
    segments: &[SegmentRef],
    shards: ShardRange,
) -> Result<(BTreeMap<i64, String>, usize)> {
    let env = Env::real(Arc::clone(store) as Arc<dyn ObjectStore>)?;
    let mut reader = ShardReader::open(env, segments.to_vec(), shards).await?;
    let mut newest = NewestRows::new(1, true);
    let (mut rows, mut most) = (BTreeMap::new(), 0);
    while let Some(group) = reader.next().await? {
        let before = rows.len();
        for batch in table_rows(&table(), &newest.of(group)?)? {
            let keys = batch.column(0).as_primitive::<Int64Type>().values();
            let values = batch.column(1).as_string::<i32>();
            for (key, value) in std::iter::zip(keys, values.iter()) {
                let value = value.unwrap().to_string();
                assert_eq!(rows.insert(*key, value), None, "key {key} comes twice");
            }
        }
        most = most.max(rows.len() - before);
    }
    Ok((rows, most))
}

/// Blocks of a shard each: whatever number of workers reads, the store gives each byte once.
#[tokio::test]
async fn workers_read_each_byte_once_and_a_few_shards_at_a_time() {
    let store = Arc::new(FaultyStore::default());
    let keys = keys();
    let older = "a value of the older segment, of some length";
    let segments = [
        segment(&store, &keys, older, &[]).await,
        segment(&store, &keys[..1000], "the newer segment's values, of another length", &[]).await,
    ];
    let expected: BTreeMap<i64, String> = keys
        .iter()
        .enumerate()
        .map(|(at, key)| (*key, if at < 1000 { "the newer" } else { "a value" }.to_string()))
        .collect();
    for workers in [1, 2, 4] {
        store.take_reads();
        let mut rows = BTreeMap::new();
        for worker in 0..workers {
            let own = shards_of(worker, workers);
            let (read, most) = read(&store, &segments[..1], own).await.unwrap();
            assert_eq!(read.len(), keys.len() / workers, "{worker} of {workers}");
            assert!(most <= 4 * ROWS_OF_A_SHARD, "{most} rows at once");
            rows.extend(read);
        }
        assert_eq!(rows.len(), keys.len());
        let end = segments[0].offset + segments[0].length;
        let directory = end - segments[0].directory..end;
        let mut reads: Vec<Range<u64>> =
            store.take_reads().into_iter().map(|(_, range)| range).collect();
        reads.retain(|range| *range != directory);
        reads.sort_by_key(|range| range.start);
        let mut read_to = segments[0].offset;
        for range in reads {
            assert_eq!(range.start, read_to, "{workers} workers");
            read_to = range.end;
        }
        assert_eq!(read_to, directory.start, "{workers} workers");
        let mut rows = BTreeMap::new();
        for worker in 0..workers {
            rows.extend(read(&store, &segments, shards_of(worker, workers)).await.unwrap().0);
        }
        assert!(rows.iter().all(|(key, value)| value.starts_with(&expected[key])));
        assert_eq!(rows.len(), expected.len());
    }
}

#[tokio::test]
async fn small_segments_are_one_block_and_hide_older_rows() {
    let store = Arc::new(FaultyStore::default());
    let keys = keys();
    let segments = [
        segment(&store, &keys, "old", &[]).await,
        segment(&store, &keys[..3], "newer", &keys[3..5]).await,
        segment(&store, &keys[4..5], "newest", &keys[..1]).await,
    ];
    assert!(segments[0].directory > 0 && segments[1].directory == 0);
    for workers in [1, 3, 7] {
        let mut rows = BTreeMap::new();
        for worker in 0..workers {
            rows.extend(read(&store, &segments, shards_of(worker, workers)).await.unwrap().0);
        }
        assert_eq!(rows.len(), keys.len() - 2);
        let value = |at: usize| rows.get(&keys[at]).map(String::as_str);
        let values = [value(0), value(1), value(3), value(4), value(5)];
        assert_eq!(values, [None, Some("newer"), None, Some("newest"), Some("old")]);
    }
}

#[tokio::test]
async fn what_is_not_as_it_was_is_an_error() {
    let store = Arc::new(FaultyStore::default());
    let segment = segment(&store, &keys(), "value", &[]).await;
    let path = Path::from(segment.object.as_str());
    let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
    let kind = async |bytes: Bytes, segment: &SegmentRef| {
        store.put(&path, PutPayload::from(bytes)).await.unwrap();
        read(&store, std::slice::from_ref(segment), ShardRange::ALL).await.unwrap_err().kind
    };
    let other = SegmentRef { directory: segment.directory - 1, ..segment.clone() };
    assert_eq!(kind(whole.clone(), &other).await, ErrorKind::Corrupt);
    let other = SegmentRef { length: segment.length - 1, ..segment.clone() };
    assert_eq!(kind(whole.clone(), &other).await, ErrorKind::Corrupt);
    let other = SegmentRef { object: "state/gone.seg".to_string(), ..segment.clone() };
    assert_eq!(kind(whole.clone(), &other).await, ErrorKind::Corrupt);
    // Whatever is damaged, lengths that Arrow would allocate included.
    let end = (segment.offset + segment.length) as usize;
    for place in (segment.offset as usize..end).step_by(61) {
        let mut damaged = whole.to_vec();
        damaged[place] ^= 0x40;
        assert_eq!(kind(damaged.into(), &segment).await, ErrorKind::Corrupt, "byte {place}");
    }
}
