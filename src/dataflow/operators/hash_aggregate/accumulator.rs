//! [`Accumulator`]: the columnar state of one aggregate over all groups; [`Count`].

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Int64Type};

use crate::error::Result;

/// Changes of an epoch for one aggregate.
pub(super) struct Rows<'a> {
    /// Group of each row.
    pub(super) slots: &'a [u32],
    /// Weights; `None` means all +1.
    pub(super) weights: Option<&'a [i64]>,
    /// The argument; `None` for `count(*)`.
    pub(super) arg: Option<&'a ArrayRef>,
    /// Rows that count: the argument is not NULL and the filter is true. `None` means all.
    pub(super) mask: Option<BooleanBuffer>,
}

impl Rows<'_> {
    /// Calls `visit(slot, row, weight)` for the rows that count.
    #[inline]
    pub(super) fn for_each(&self, mut visit: impl FnMut(usize, usize, i64)) {
        match (self.weights, &self.mask) {
            (None, None) => {
                for (row, slot) in self.slots.iter().enumerate() {
                    visit(*slot as usize, row, 1);
                }
            }
            (Some(weights), None) => {
                for (row, (slot, weight)) in self.slots.iter().zip(weights).enumerate() {
                    visit(*slot as usize, row, *weight);
                }
            }
            (weights, Some(mask)) => {
                for row in mask.set_indices() {
                    let weight = weights.map_or(1, |weights| weights[row]);
                    visit(self.slots[row] as usize, row, weight);
                }
            }
        }
    }
}

/// What changed in the side table of an accumulator: values by group.
pub(super) enum SideDelta {
    /// Groups of new or changed values; the values, and `__count`.
    Puts(Vec<u32>, Vec<ArrayRef>),
    /// Groups of values that went, and these.
    Gone(Vec<u32>, ArrayRef),
}

/// One aggregate over all groups: columns of state indexed by the group's slot.
///
/// Law: `output(s)` is the aggregate of the Z-set of all rows that `update` gave to `s`, whatever
/// their order, if that is a Z-set without negative weights.
pub(super) trait Accumulator: fmt::Debug {
    /// Makes room for slots below `slot_count`.
    fn resize(&mut self, slot_count: usize);

    /// Takes changes.
    ///
    /// # Errors
    /// `OutOfRange` if the state overflows.
    fn update(&mut self, rows: &Rows<'_>) -> Result<()>;

    /// About the bytes of a group's result, and of its state.
    fn value_bytes(&self, _slot: u32) -> usize {
        16
    }

    /// Results of groups, which the caller cuts into runs of bounded size.
    ///
    /// # Errors
    /// `OutOfRange` if a result is beyond its type.
    fn output(&self, slots: &[u32]) -> Result<ArrayRef>;

    /// Forgets what a group without rows has left.
    fn clear(&mut self, slot: u32);

    /// Columns of durable state beside the group's key.
    fn state_fields(&self) -> Vec<Field>;

    /// Durable state of groups.
    ///
    /// # Errors
    /// Arrow kernels' only.
    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>>;

    /// Takes durable state of groups.
    fn restore(&mut self, slots: &[u32], columns: &[ArrayRef]);

    /// Type of the values in the side table, if there is one: `[group key.., value] -> __count`.
    fn side_value(&self) -> Option<DataType> {
        None
    }

    /// About the number of rows of the next [`Accumulator::side_deltas`].
    fn changed_side_rows(&self) -> usize {
        0
    }

    /// What changed in the side table since the last call, in pieces of bounded size.
    ///
    /// # Errors
    /// Arrow kernels' only.
    fn side_deltas(&mut self) -> Result<Vec<SideDelta>> {
        Ok(Vec::new())
    }

    /// Takes stored values of the side table.
    ///
    /// # Errors
    /// Arrow kernels' only.
    fn restore_side(
        &mut self,
        _slots: &[u32],
        _values: &ArrayRef,
        _counts: &Int64Array,
    ) -> Result<()> {
        Ok(())
    }

    /// Memory in bytes.
    fn state_bytes(&self) -> usize;
}

/// `count(x)`, and `count(*)` with a filter.
#[derive(Debug, Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Accumulator for Count {
    fn resize(&mut self, slot_count: usize) {
        self.counts.resize(slot_count, 0);
    }

    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        let counts = &mut self.counts;
        rows.for_each(|slot, _, weight| counts[slot] += weight);
        Ok(())
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(gather(&self.counts, slots))
    }

    fn clear(&mut self, slot: u32) {
        self.counts[slot as usize] = 0;
    }

    fn state_fields(&self) -> Vec<Field> {
        vec![Field::new("count", DataType::Int64, false)]
    }

    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![gather(&self.counts, slots)])
    }

    fn restore(&mut self, slots: &[u32], columns: &[ArrayRef]) {
        scatter(&mut self.counts, slots, &columns[0]);
    }

    fn state_bytes(&self) -> usize {
        self.counts.capacity() * 8
    }
}

/// Counts of slots as a column.
pub(super) fn gather(counts: &[i64], slots: &[u32]) -> ArrayRef {
    let values = slots.iter().map(|slot| counts[*slot as usize]);
    Arc::new(Int64Array::from_iter_values(values))
}

/// Sets counts of slots from a column.
pub(super) fn scatter(counts: &mut [i64], slots: &[u32], column: &ArrayRef) {
    let values = column.as_primitive::<Int64Type>().values();
    for (slot, value) in slots.iter().zip(values) {
        counts[*slot as usize] = *value;
    }
}

/// The bits of rows whose argument is not NULL and whose filter is true; `None` means all.
pub(super) fn mask_of(
    arg: Option<&ArrayRef>,
    filter: Option<&BooleanBuffer>,
) -> Option<BooleanBuffer> {
    let valid = arg
        .and_then(|arg| arg.logical_nulls())
        .filter(|nulls| nulls.null_count() > 0)
        .map(|nulls| nulls.inner().clone());
    match (valid, filter) {
        (Some(valid), Some(filter)) => Some(&valid & filter),
        (Some(valid), None) => Some(valid),
        (None, filter) => filter.cloned(),
    }
}
