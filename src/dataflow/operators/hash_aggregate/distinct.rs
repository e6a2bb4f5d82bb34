//! [`Distinct`]: feeds an aggregate with each value of a group once.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, UInt32Type};

use super::accumulator::{Accumulator, Rows, SideDelta, gather};
use crate::error::{Error, Result};
use crate::state::KeyTable;

/// `f(DISTINCT x)`: counts the rows of each value by group and tells `f` of values that come
/// (count above 0) and go.
#[derive(Debug)]
pub(super) struct Distinct {
    inner: Box<dyn Accumulator>,
    data_type: DataType,
    /// Keys: group's slot, value.
    values: KeyTable,
    counts: Vec<i64>,
    dirty: Vec<u32>,
    is_dirty: Vec<bool>,
}

impl Distinct {
    /// The distinct form of an aggregate over values of a type.
    ///
    /// # Errors
    /// `Internal` for a type that Arrow's row format does not hold.
    pub(super) fn try_new(inner: Box<dyn Accumulator>, data_type: &DataType) -> Result<Self> {
        Ok(Self {
            inner,
            data_type: data_type.clone(),
            values: KeyTable::try_new(&[DataType::UInt32, data_type.clone()])?,
            counts: Vec::new(),
            dirty: Vec::new(),
            is_dirty: Vec::new(),
        })
    }

    fn intern(&mut self, slots: Vec<u32>, values: &ArrayRef) -> Result<Vec<u32>> {
        let row_count = slots.len();
        let slots: ArrayRef = Arc::new(UInt32Array::from(slots));
        let mut entries = Vec::new();
        self.values.intern(&[slots, Arc::clone(values)], row_count, &mut entries)?;
        self.counts.resize(self.values.slot_count(), 0);
        self.is_dirty.resize(self.values.slot_count(), false);
        Ok(entries)
    }

    /// Group slots and values of entries.
    fn keys(&self, entries: &[u32]) -> Result<(Vec<u32>, ArrayRef)> {
        let keys = self.values.keys(entries)?;
        Ok((keys[0].as_primitive::<UInt32Type>().values().to_vec(), Arc::clone(&keys[1])))
    }
}

impl Accumulator for Distinct {
    fn resize(&mut self, slot_count: usize) {
        self.inner.resize(slot_count);
    }

    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        let arg = rows.arg.ok_or_else(|| Error::internal("distinct has no argument"))?;
        let (mut slots, mut indices, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        rows.for_each(|slot, row, weight| {
            slots.push(slot as u32);
            indices.push(row as u32);
            weights.push(weight);
        });
        let values = take(arg, &UInt32Array::from(indices), None)?;
        let entries = self.intern(slots.clone(), &values)?;
        let (mut turns, mut turn_slots, mut turn_weights) = (Vec::new(), Vec::new(), Vec::new());
        for (row, (entry, weight)) in entries.iter().zip(weights).enumerate() {
            let count = &mut self.counts[*entry as usize];
            let was_there = *count > 0;
            *count += weight;
            let is_there = *count > 0;
            if !std::mem::replace(&mut self.is_dirty[*entry as usize], true) {
                self.dirty.push(*entry);
            }
            if was_there != is_there {
                turns.push(row as u32);
                turn_slots.push(slots[row]);
                turn_weights.push(if is_there { 1 } else { -1 });
            }
        }
        let turned = take(&values, &UInt32Array::from(turns), None)?;
        self.inner.update(&Rows {
            slots: &turn_slots,
            weights: Some(&turn_weights),
            arg: Some(&turned),
            mask: None,
        })
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        self.inner.output(slots)
    }

    fn clear(&mut self, slot: u32) {
        self.inner.clear(slot);
    }

    fn state_fields(&self) -> Vec<Field> {
        self.inner.state_fields()
    }

    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.inner.state(slots)
    }

    fn restore(&mut self, slots: &[u32], columns: &[ArrayRef]) {
        self.inner.restore(slots, columns);
    }

    fn side_value(&self) -> Option<DataType> {
        Some(self.data_type.clone())
    }

    fn value_bytes(&self, slot: u32) -> usize {
        self.inner.value_bytes(slot)
    }

    fn changed_side_rows(&self) -> usize {
        self.dirty.len()
    }

    fn side_deltas(&mut self) -> Result<Vec<SideDelta>> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().for_each(|entry| self.is_dirty[*entry as usize] = false);
        let (put, gone): (Vec<u32>, Vec<u32>) =
            dirty.into_iter().partition(|entry| self.counts[*entry as usize] != 0);
        let mut deltas = Vec::new();
        for put in self.values.key_runs(&put) {
            let (slots, values) = self.keys(put)?;
            deltas.push(SideDelta::Puts(slots, vec![values, gather(&self.counts, put)]));
        }
        for gone in self.values.key_runs(&gone) {
            let (slots, values) = self.keys(gone)?;
            deltas.push(SideDelta::Gone(slots, values));
        }
        gone.into_iter().for_each(|entry| self.values.remove(entry));
        Ok(deltas)
    }

    fn restore_side(
        &mut self,
        slots: &[u32],
        values: &ArrayRef,
        counts: &Int64Array,
    ) -> Result<()> {
        let entries = self.intern(slots.to_vec(), values)?;
        for (row, entry) in entries.into_iter().enumerate() {
            self.counts[entry as usize] = counts.value(row);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.inner.state_bytes()
            + self.values.state_bytes()
            + self.counts.capacity() * 8
            + self.is_dirty.capacity()
            + self.dirty.capacity() * 4
    }
}
