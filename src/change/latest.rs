//! [`latest_by_key`]: what changes in their order leave of each key.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use hashbrown::HashTable;

use super::consolidate::row_converter;
use super::hash::{hash_bytes, mix};
use super::{ChangeBatch, with_weights, words};
use crate::error::Result;

/// The last change of each key: +1 with its row if the row stays, -1 with a former row of the key
/// if none does.
///
/// Law: a map `key -> row` that takes the result is equal to one that takes the batches one after
/// the other, of each batch first the retractions and then the insertions.
///
/// Shape: the batches' columns; each key once. `key` are indexes of columns; NULL is a value like
/// others. An update costs one row here, where [`consolidate`](super::consolidate) keeps two, and
/// only key columns are hashed and compared.
///
/// # Errors
/// `Internal` for a key type that Arrow's row format does not hold.
pub fn latest_by_key(
    schema: &SchemaRef,
    batches: &[ChangeBatch],
    key: &[usize],
) -> Result<ChangeBatch> {
    let mut latest = Latest::default();
    latest.reserve(batches.iter().map(ChangeBatch::num_rows).sum());
    let keys = Keys::of(batches, key)?;
    for (at, batch) in batches.iter().enumerate() {
        let weights = batch.weights().map(|weights| weights.values().as_ref());
        latest.take(at, batch.num_rows(), weights, &keys);
    }
    let Latest { places, is_there, .. } = latest;
    if let [only] = batches
        && places.len() == only.num_rows()
        && is_there.iter().all(|is_there| *is_there)
    {
        return Ok(ChangeBatch::inserts(only.rows().clone()));
    }
    let rows = gather(schema, batches, &places)?;
    with_weights(rows, is_there.into_iter().map(|it| if it { 1 } else { -1 }).collect())
}

/// Rows at (batch, row).
fn gather(
    schema: &SchemaRef,
    batches: &[ChangeBatch],
    places: &[(usize, usize)],
) -> Result<RecordBatch> {
    if places.is_empty() {
        return Ok(RecordBatch::new_empty(SchemaRef::clone(schema)));
    }
    let column = |at: usize| -> Result<ArrayRef> {
        let sources: Vec<&dyn Array> =
            batches.iter().map(|batch| batch.rows().column(at).as_ref()).collect();
        Ok(interleave(&sources, places)?)
    };
    let columns = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(SchemaRef::clone(schema), columns)?)
}

/// Encoded keys of batches.
enum Keys {
    /// One column of words without NULL.
    Words(Vec<Vec<u64>>),
    Rows(Vec<arrow::row::Rows>),
}

impl Keys {
    fn of(batches: &[ChangeBatch], key: &[usize]) -> Result<Self> {
        if let [column] = key {
            let words = batches.iter().map(|batch| {
                let column = batch.rows().column(*column);
                (column.null_count() == 0).then(|| words::encode(column)).flatten()
            });
            if let Some(words) = words.collect() {
                return Ok(Self::Words(words));
            }
        }
        let Some(first) = batches.first() else { return Ok(Self::Words(Vec::new())) };
        let columns = |batch: &ChangeBatch| -> Vec<ArrayRef> {
            key.iter().map(|column| ArrayRef::clone(batch.rows().column(*column))).collect()
        };
        let converter = row_converter(&columns(first))?;
        let rows = batches.iter().map(|batch| converter.convert_columns(&columns(batch)));
        Ok(Self::Rows(rows.collect::<std::result::Result<_, _>>()?))
    }

    fn hash(&self, (batch, row): (usize, usize)) -> u64 {
        match self {
            Self::Words(words) => mix(words[batch][row], 0),
            Self::Rows(rows) => hash_bytes(0, rows[batch].row(row).data()),
        }
    }

    fn equal(&self, left: (usize, usize), right: (usize, usize)) -> bool {
        match self {
            Self::Words(words) => words[left.0][left.1] == words[right.0][right.1],
            Self::Rows(rows) => rows[left.0].row(left.1) == rows[right.0].row(right.1),
        }
    }
}

/// The last change of each key so far.
#[derive(Default)]
struct Latest {
    /// Hash of a key, and its number in the order of first appearance.
    numbers: HashTable<(u64, u32)>,
    /// By number: batch and row of the last change, and whether it is an insertion.
    places: Vec<(usize, usize)>,
    is_there: Vec<bool>,
}

impl Latest {
    fn reserve(&mut self, rows: usize) {
        self.numbers.reserve(rows, |(hash, _)| *hash);
        self.places.reserve(rows);
        self.is_there.reserve(rows);
    }

    fn take(&mut self, batch: usize, rows: usize, weights: Option<&[i64]>, keys: &Keys) {
        let Some(weights) = weights else {
            return (0..rows).for_each(|row| self.set((batch, row), true, keys));
        };
        for is_there in [false, true] {
            let wanted = (0..rows).filter(|row| (weights[*row] > 0) == is_there);
            wanted.for_each(|row| self.set((batch, row), is_there, keys));
        }
    }

    fn set(&mut self, place: (usize, usize), is_there: bool, keys: &Keys) {
        let hash = keys.hash(place);
        let places = &self.places;
        let same = |(other, number): &(u64, u32)| {
            *other == hash && keys.equal(places[*number as usize], place)
        };
        match self.numbers.find(hash, same) {
            Some((_, number)) => {
                self.places[*number as usize] = place;
                self.is_there[*number as usize] = is_there;
            }
            None => {
                let number = self.places.len() as u32;
                self.numbers.insert_unique(hash, (hash, number), |(hash, _)| *hash);
                self.places.push(place);
                self.is_there.push(is_there);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use super::*;

    type Step = (i64, i64, i64);

    /// Key, value and weight; the key twice, as a number and as text that may be NULL.
    fn batch(steps: &[Step]) -> ChangeBatch {
        let numbers = |of: fn(&Step) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(steps.iter().map(of)))
        };
        let text = steps.iter().map(|step| (step.0 != 0).then(|| format!("k{}", step.0)));
        let text: ArrayRef = Arc::new(text.collect::<StringArray>());
        let (keys, values) = (numbers(|it| it.0), numbers(|it| it.1));
        let columns = [("k", keys, false), ("t", text, true), ("v", values, false)];
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let weights = steps.iter().map(|step| step.2).collect();
        with_weights(rows, weights).unwrap()
    }

    fn apply(map: &mut BTreeMap<i64, i64>, batch: &ChangeBatch) {
        let column = |at: usize| batch.rows().column(at).as_primitive::<Int64Type>().clone();
        let (keys, values) = (column(0), column(2));
        for row in (0..batch.num_rows()).filter(|row| batch.weight(*row) < 0) {
            map.remove(&keys.value(row));
        }
        for row in (0..batch.num_rows()).filter(|row| batch.weight(*row) > 0) {
            map.insert(keys.value(row), values.value(row));
        }
    }

    proptest! {
        #[test]
        fn a_map_that_takes_the_last_changes_equals_one_that_takes_all(
            before in prop::collection::vec((0..6_i64, 0..100_i64), 0..6),
            steps in prop::collection::vec(
                prop::collection::vec((0..6_i64, 0..100_i64, prop_oneof![Just(-1), Just(1)]), 0..6),
                0..6,
            ),
            key in prop_oneof![Just(vec![0]), Just(vec![1]), Just(vec![1, 0])],
        ) {
            let mut one: BTreeMap<i64, i64> = before.into_iter().collect();
            let mut other = one.clone();
            let batches: Vec<_> = steps.iter().map(|steps| batch(steps)).collect();
            batches.iter().for_each(|batch| apply(&mut one, batch));
            let schema = batch(&[]).schema();
            let latest = latest_by_key(&schema, &batches, &key).unwrap();
            apply(&mut other, &latest);
            prop_assert_eq!(one, other);
            let keys = latest.rows().column(0).as_primitive::<Int64Type>();
            let keys: std::collections::BTreeSet<_> = keys.values().iter().collect();
            prop_assert_eq!(keys.len(), latest.num_rows());
        }
    }
}
