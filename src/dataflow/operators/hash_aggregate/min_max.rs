//! [`Extremum`] and [`RetractableExtremum`]: MIN and MAX.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field};
use arrow::row::{RowConverter, SortField};

use super::accumulator::{Accumulator, Rows, SideDelta};
use crate::change::{runs_by_bytes, words};
use crate::error::{Error, Result};

/// Which end of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
}

/// Values of a column as ordered keys.
pub(super) trait Encoding: fmt::Debug {
    /// The key; `default` is not above any.
    type Value: Ord + Clone + Default + fmt::Debug;

    /// Keys of a column; those of NULLs mean nothing.
    fn encode(&self, column: &ArrayRef) -> Result<Vec<Self::Value>>;

    /// Column of keys.
    fn decode(&self, values: &[Option<&Self::Value>]) -> Result<ArrayRef>;

    /// Memory of a key beyond its size.
    fn heap_bytes(value: &Self::Value) -> usize;

    /// False if a key may have memory beyond its size.
    const IS_FIXED: bool;
}

/// Columns of up to 64 bits.
#[derive(Debug)]
pub(super) struct WordEncoding(pub(super) DataType);

impl Encoding for WordEncoding {
    type Value = u64;

    const IS_FIXED: bool = true;

    fn encode(&self, column: &ArrayRef) -> Result<Vec<u64>> {
        words::encode(column).ok_or_else(|| Error::internal("the column's type is not a word"))
    }

    fn decode(&self, values: &[Option<&u64>]) -> Result<ArrayRef> {
        let nulls = values
            .iter()
            .any(Option::is_none)
            .then(|| values.iter().map(Option::is_some).collect::<NullBuffer>());
        // The word of NULL is any that its type decodes.
        words::decode(values.iter().map(|value| value.copied().unwrap_or(0)), nulls, &self.0)
    }

    fn heap_bytes(_value: &u64) -> usize {
        0
    }
}

/// Columns of all other types, as Arrow rows.
#[derive(Debug)]
pub(super) struct RowEncoding {
    converter: RowConverter,
    null: Box<[u8]>,
}

impl RowEncoding {
    /// An encoding of a type.
    ///
    /// # Errors
    /// `Internal` for a type that Arrow's row format does not hold.
    pub(super) fn try_new(data_type: &DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        let null = converter.convert_columns(&[new_null_array(data_type, 1)])?;
        let null = null.row(0).data().into();
        Ok(Self { converter, null })
    }
}

impl Encoding for RowEncoding {
    type Value = Box<[u8]>;

    const IS_FIXED: bool = false;

    fn encode(&self, column: &ArrayRef) -> Result<Vec<Box<[u8]>>> {
        let rows = self.converter.convert_columns(std::slice::from_ref(column))?;
        Ok(rows.iter().map(|row| row.data().into()).collect())
    }

    fn decode(&self, values: &[Option<&Box<[u8]>>]) -> Result<ArrayRef> {
        let parser = self.converter.parser();
        let rows = values.iter().map(|value| parser.parse(value.unwrap_or(&self.null)));
        let mut columns = self.converter.convert_rows(rows)?;
        columns.pop().ok_or_else(|| Error::internal("a row has no column"))
    }

    fn heap_bytes(value: &Box<[u8]>) -> usize {
        value.len()
    }
}

/// MIN or MAX of an append-only input: one value a group.
#[derive(Debug)]
pub(super) struct Extremum<E: Encoding> {
    encoding: E,
    data_type: DataType,
    end: End,
    values: Vec<E::Value>,
    has_value: Vec<bool>,
}

impl<E: Encoding> Extremum<E> {
    /// An extremum of values of a type.
    pub(super) fn new(encoding: E, data_type: DataType, end: End) -> Self {
        Self { encoding, data_type, end, values: Vec::new(), has_value: Vec::new() }
    }

    fn offer(&mut self, slot: usize, value: &E::Value) {
        let old = &self.values[slot];
        let is_better = match self.end {
            End::Min => value < old,
            End::Max => value > old,
        };
        if is_better || !self.has_value[slot] {
            self.values[slot] = value.clone();
            self.has_value[slot] = true;
        }
    }
}

impl<E: Encoding> Accumulator for Extremum<E> {
    fn resize(&mut self, slot_count: usize) {
        self.values.resize(slot_count, E::Value::default());
        self.has_value.resize(slot_count, false);
    }

    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        let arg = rows.arg.ok_or_else(|| Error::internal("min or max has no argument"))?;
        let values = self.encoding.encode(arg)?;
        rows.for_each(|slot, row, _| self.offer(slot, &values[row]));
        Ok(())
    }

    fn value_bytes(&self, slot: u32) -> usize {
        8 + E::heap_bytes(&self.values[slot as usize])
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        let values: Vec<_> = slots
            .iter()
            .map(|slot| *slot as usize)
            .map(|slot| self.has_value[slot].then(|| &self.values[slot]))
            .collect();
        self.encoding.decode(&values)
    }

    fn clear(&mut self, slot: u32) {
        self.values[slot as usize] = E::Value::default();
        self.has_value[slot as usize] = false;
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("value", self.data_type.clone(), true)]
    }

    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.output(slots)?])
    }

    fn restore(&mut self, slots: &[u32], columns: &[ArrayRef]) {
        let values = self.encoding.encode(&columns[0]).expect("the column is of the state's type");
        for (row, slot) in slots.iter().enumerate() {
            if columns[0].is_valid(row) {
                self.values[*slot as usize] = values[row].clone();
                self.has_value[*slot as usize] = true;
            }
        }
    }

    fn state_bytes(&self) -> usize {
        let heap: usize = self.values.iter().map(E::heap_bytes).sum();
        self.values.capacity() * size_of::<E::Value>() + self.has_value.capacity() + heap
    }
}

/// MIN or MAX of a retracting input: an ordered multiset of the values of all groups.
///
/// Within an epoch a count may be negative for a while; only positive ones are values.
#[derive(Debug)]
pub(super) struct RetractableExtremum<E: Encoding> {
    encoding: E,
    data_type: DataType,
    end: End,
    counts: BTreeMap<(u32, E::Value), i64>,
    dirty: BTreeSet<(u32, E::Value)>,
    heap_bytes: usize,
}

impl<E: Encoding> RetractableExtremum<E> {
    /// An extremum of values of a type.
    pub(super) fn new(encoding: E, data_type: DataType, end: End) -> Self {
        Self {
            encoding,
            data_type,
            end,
            counts: BTreeMap::new(),
            dirty: BTreeSet::new(),
            heap_bytes: 0,
        }
    }

    fn add(&mut self, key: (u32, E::Value), weight: i64) {
        use std::collections::btree_map::Entry;
        let bytes = E::heap_bytes(&key.1);
        match self.counts.entry(key) {
            Entry::Vacant(entry) => {
                self.heap_bytes += bytes;
                entry.insert(weight);
            }
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += weight;
                if *entry.get() == 0 {
                    self.heap_bytes -= bytes;
                    entry.remove();
                }
            }
        }
    }

    fn extremum(&self, slot: u32) -> Option<&E::Value> {
        let all = self.counts.range((slot, E::Value::default())..(slot + 1, E::Value::default()));
        let mut present = all.filter(|(_, count)| **count > 0).map(|((_, value), _)| value);
        match self.end {
            End::Min => present.next(),
            End::Max => present.next_back(),
        }
    }
}

impl<E: Encoding> Accumulator for RetractableExtremum<E> {
    fn resize(&mut self, _slot_count: usize) {}

    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        let arg = rows.arg.ok_or_else(|| Error::internal("min or max has no argument"))?;
        let mut values = self.encoding.encode(arg)?;
        rows.for_each(|slot, row, weight| {
            let key = (slot as u32, std::mem::take(&mut values[row]));
            self.dirty.insert(key.clone());
            self.add(key, weight);
        });
        Ok(())
    }

    fn value_bytes(&self, slot: u32) -> usize {
        if E::IS_FIXED {
            return 8;
        }
        8 + self.extremum(slot).map_or(0, E::heap_bytes)
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        let values: Vec<_> = slots.iter().map(|slot| self.extremum(*slot)).collect();
        self.encoding.decode(&values)
    }

    fn clear(&mut self, _slot: u32) {}

    fn state_fields(&self) -> Vec<Field> {
        Vec::new()
    }

    fn state(&self, _slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _slots: &[u32], _columns: &[ArrayRef]) {}

    fn side_value(&self) -> Option<DataType> {
        Some(self.data_type.clone())
    }

    fn changed_side_rows(&self) -> usize {
        self.dirty.len()
    }

    fn side_deltas(&mut self) -> Result<Vec<SideDelta>> {
        let (mut puts, mut gone) = (Vec::new(), Vec::new());
        let (mut put_slots, mut gone_slots) = (Vec::new(), Vec::new());
        let mut counts = Vec::new();
        for key in &self.dirty {
            if let Some(count) = self.counts.get(key) {
                put_slots.push(key.0);
                puts.push(Some(&key.1));
                counts.push(*count);
            } else {
                gone_slots.push(key.0);
                gone.push(Some(&key.1));
            }
        }
        let bytes = |value: &Option<&E::Value>| 8 + value.map_or(0, E::heap_bytes);
        let mut deltas = Vec::new();
        for run in runs_by_bytes(puts.len(), |index| bytes(&puts[index])) {
            let values = self.encoding.decode(&puts[run.clone()])?;
            let counts: ArrayRef = Arc::new(Int64Array::from(counts[run.clone()].to_vec()));
            deltas.push(SideDelta::Puts(put_slots[run].to_vec(), vec![values, counts]));
        }
        for run in runs_by_bytes(gone.len(), |index| bytes(&gone[index])) {
            let values = self.encoding.decode(&gone[run.clone()])?;
            deltas.push(SideDelta::Gone(gone_slots[run].to_vec(), values));
        }
        self.dirty.clear();
        Ok(deltas)
    }

    fn restore_side(
        &mut self,
        slots: &[u32],
        values: &ArrayRef,
        counts: &Int64Array,
    ) -> Result<()> {
        let values = self.encoding.encode(values)?;
        for (row, (slot, value)) in slots.iter().zip(values).enumerate() {
            self.add((*slot, value), counts.value(row));
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        // A B-tree's nodes are about two thirds full.
        let entry = size_of::<(u32, E::Value)>() + size_of::<i64>();
        self.counts.len() * entry * 3 / 2 + self.heap_bytes
    }
}
