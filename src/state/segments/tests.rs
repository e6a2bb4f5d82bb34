//! Lookups by key find what a scan finds, whatever was inserted, replaced, deleted and merged.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::collection::vec;
use proptest::prelude::*;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::change::{ChangeBatch, batch_bytes, consolidate, with_weights};
use crate::state::{Arrangement, Identity, RowsSnapshot, ScanPlace};

fn arrangement() -> Arrangement {
    let fields = [("v", DataType::Utf8), ("k", DataType::Int64)];
    let fields = fields.map(|(name, data_type)| Field::new(name, data_type, false));
    Arrangement::try_new(Arc::new(Schema::new(fields.to_vec())), Identity::Key(vec![1])).unwrap()
}

fn rows(rows: &[(i64, String)]) -> RecordBatch {
    let values: ArrayRef =
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1.as_str())));
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
    RecordBatch::try_from_iter([("v", values), ("k", keys)]).unwrap()
}

fn found(snapshot: &RowsSnapshot, keys: &[i64]) -> BTreeMap<i64, String> {
    let wanted: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    let mut found = BTreeMap::new();
    for batch in snapshot.lookup(&[1], &[wanted], None).unwrap() {
        let (values, ids) = (batch.column(0).as_string::<i32>(), batch.column(1));
        let ids = ids.as_primitive::<Int64Type>();
        for row in (0..batch.num_rows()).filter(|row| keys.contains(&ids.value(*row))) {
            let former = found.insert(ids.value(row), values.value(row).to_string());
            assert_eq!(former, None, "key {} twice", ids.value(row));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Steps replace or delete keys; between some of them a snapshot is taken, which must not
    /// change afterwards.
    #[test]
    fn a_lookup_finds_the_row_of_each_key(
        steps in vec(vec((0..40_i64, any::<bool>()), 0..30), 1..40),
    ) {
        let mut table = arrangement();
        let mut model: BTreeMap<i64, String> = BTreeMap::new();
        let mut snapshots = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            let (mut changed, mut weights) = (Vec::new(), Vec::new());
            let touched: BTreeMap<i64, bool> = step.iter().copied().collect();
            for (key, stays) in touched {
                if let Some(old) = model.remove(&key) {
                    changed.push((key, old));
                    weights.push(-1);
                }
                if stays {
                    let value = format!("{key} of step {number}");
                    changed.push((key, value.clone()));
                    weights.push(1);
                    model.insert(key, value);
                }
            }
            let changes: ChangeBatch = with_weights(rows(&changed), weights).unwrap();
            table.apply(&changes).unwrap();
            table.maintain().unwrap();
            let snapshot = table.snapshot();
            let all: Vec<i64> = (-2..42).collect();
            prop_assert_eq!(&found(&snapshot, &all), &model);
            for key in &all {
                let expected = model.get(key).map(|value| (*key, value.clone()));
                prop_assert_eq!(found(&snapshot, &[*key, *key]), expected.into_iter().collect());
            }
            snapshots.push((snapshot, model.clone()));
        }
        for (snapshot, model) in &snapshots {
            prop_assert_eq!(&found(snapshot, &(0..40).collect::<Vec<_>>()), model);
        }
    }
}

#[test]
fn a_lookup_keeps_the_columns_of_the_projection() {
    let mut table = arrangement();
    table.apply(&ChangeBatch::inserts(rows(&[(1, "a".into()), (2, "b".into())]))).unwrap();
    let wanted: ArrayRef = Arc::new(Int64Array::from(vec![2]));
    for (projection, columns) in [(vec![], 0), (vec![0], 1), (vec![1, 0], 2)] {
        let batches =
            table.snapshot().lookup(&[1], &[Arc::clone(&wanted)], Some(&projection)).unwrap();
        assert_eq!(batches.len(), 1);
        assert_eq!((batches[0].num_rows(), batches[0].num_columns()), (1, columns));
    }
}

/// The rows of a snapshot, read in pieces of at most `bytes`.
fn in_pieces(snapshot: &RowsSnapshot, bytes: usize, projection: &[usize]) -> RecordBatch {
    let (mut pieces, mut next) = (Vec::new(), Some(ScanPlace::default()));
    while let Some(place) = next {
        let (rows, more) = snapshot.scan(place, bytes, Some(projection)).unwrap();
        let is_small = batch_bytes(&rows) <= bytes + 64 || rows.num_rows() == 1;
        assert!(is_small && (more.is_none() || rows.num_rows() > 0), "{rows:?}");
        pieces.push(rows);
        next = more;
    }
    arrow::compute::concat_batches(&pieces[0].schema(), &pieces).unwrap()
}

#[test]
fn a_scan_in_pieces_gives_what_a_whole_one_gives() {
    let schema = arrangement().schema().clone();
    let mut random = StdRng::seed_from_u64(5);
    for identity in [Identity::Key(vec![1]), Identity::WholeRow, Identity::Appended { writer: 1 }] {
        let mut table = Arrangement::try_new(schema.clone(), identity.clone()).unwrap();
        let key = |key: i64| (key, "text ".repeat(key as usize % 30));
        for round in 0..20 {
            let new: Vec<_> = (round * 40..(round + 1) * 40).map(key).collect();
            let mut weights = vec![1; 40];
            if matches!(identity, Identity::WholeRow) {
                weights.fill_with(|| random.random_range(1..4));
            }
            table.apply(&with_weights(rows(&new), weights.clone()).unwrap()).unwrap();
            if !matches!(identity, Identity::Appended { .. }) {
                let gone = weights.iter().map(|weight| -random.random_range(0..=*weight));
                let gone = with_weights(rows(&new), gone.collect()).unwrap();
                let gone = consolidate(schema.clone(), vec![gone]).unwrap();
                table.apply(&gone).unwrap();
            }
            table.maintain().unwrap();
        }
        for projection in [vec![0, 1], vec![1], vec![]] {
            let whole = table.snapshot().batches(Some(&projection)).unwrap();
            let whole = arrow::compute::concat_batches(&whole[0].schema(), &whole).unwrap();
            assert_eq!(table.snapshot().row_count(), whole.num_rows());
            for bytes in [1, 100, 3000, 1 << 20] {
                assert_eq!(in_pieces(&table.snapshot(), bytes, &projection), whole);
            }
        }
    }
    let (none, next) = RowsSnapshot::empty(schema).scan(ScanPlace::default(), 9, None).unwrap();
    assert_eq!((none.num_rows(), next), (0, None));
}
