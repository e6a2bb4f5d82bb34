//! [`Call`]: one aggregate of a [`HashAggregate`](super::HashAggregate) with its state.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;
use datafusion::physical_plan::PhysicalExpr;

use super::accumulator::{Accumulator, Rows, mask_of};
use crate::dataflow::operators::evaluate::{evaluate, evaluate_condition};
use crate::error::Result;

/// One aggregate with its state.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) arg: Option<Arc<dyn PhysicalExpr>>,
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    /// `None`: `count(*)`, which is the group's row count.
    pub(super) accumulator: Option<Box<dyn Accumulator>>,
}

impl Call {
    pub(super) fn update(
        &mut self,
        rows: &RecordBatch,
        slots: &[u32],
        weights: Option<&[i64]>,
    ) -> Result<()> {
        let Some(accumulator) = &mut self.accumulator else {
            return Ok(());
        };
        let filter: Option<BooleanBuffer> = match &self.filter {
            Some(filter) => Some(evaluate_condition(filter, rows)?.values().clone()),
            None => None,
        };
        let arg = self.arg.as_ref().map(|arg| evaluate(arg, rows)).transpose()?;
        let mask = mask_of(arg.as_ref(), filter.as_ref());
        accumulator.update(&Rows { slots, weights, arg: arg.as_ref(), mask })
    }
}
