//! Random valid changes, and the run of an operator over them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use proptest::prelude::*;

use crate::change::{ChangeBatch, concat, partition_by_key};
use crate::dataflow::operators::testing::{Store, changes, move_some, zset};
use crate::dataflow::operators::{EpochInfo, Operator, Output};
use crate::state::StateDelta;

/// One random step: a choice of row, of sign, of input, and of what follows it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) input: usize,
    pub(super) row: Vec<Option<i64>>,
    pub(super) retracts: bool,
    /// 0: the epoch ends. 1: the epoch ends and the operator restarts. 2: the batch ends. 3: the
    /// epoch ends and the operator is stored.
    pub(super) then: u8,
}

/// Steps over rows of `width` small numbers or NULLs, on `inputs` inputs.
pub(super) fn steps(inputs: usize, width: usize) -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![1 => Just(None), 8 => (-3_i64..4).prop_map(Some)];
    let step = (0..inputs, prop::collection::vec(value, width), any::<bool>(), 0..12_u8)
        .prop_map(|(input, row, retracts, then)| Step { input, row, retracts, then });
    prop::collection::vec(step, 0..80)
}

/// Contents of the inputs, as naive multisets.
pub(super) type Rows = Vec<Vec<Vec<Option<i64>>>>;

/// Runs instances of an operator over steps and compares with `expected` after every epoch.
///
/// A retraction takes away a row that is there (or is skipped), so that the input is a Z-set.
/// Within an epoch the batches come in reverse order, so that retractions also come before the
/// rows they take away. `keys` are by input the columns that changes are partitioned by.
pub(super) fn check<O: Operator>(
    steps: &[Step],
    schemas: &[SchemaRef],
    output: &SchemaRef,
    keys: &[Vec<usize>],
    instances: usize,
    make: impl Fn(usize) -> O,
    expected: impl Fn(&Rows) -> Vec<Vec<Option<i64>>>,
) {
    let mut run = Run {
        operators: (0..instances).map(&make).collect(),
        stores: vec![Store::default(); instances],
        emitted: Vec::new(),
    };
    let mut rows: Rows = vec![Vec::new(); schemas.len()];
    let mut epoch: Vec<(usize, ChangeBatch)> = Vec::new();
    for step in
        steps.iter().cloned().chain([Step { input: 0, row: Vec::new(), retracts: false, then: 0 }])
    {
        if !step.row.is_empty() {
            let mut row = step.row.clone();
            let sign = if step.retracts {
                if rows[step.input].is_empty() {
                    continue;
                }
                let seed = row[0].unwrap_or(0).unsigned_abs() as usize;
                let index = seed % rows[step.input].len();
                row = rows[step.input].swap_remove(index);
                "-"
            } else {
                rows[step.input].push(row.clone());
                "+"
            };
            let change = changes(&schemas[step.input], &format!("{sign} {}", line(&row)));
            push(&mut epoch, step.input, change, step.then == 2);
        }
        if matches!(step.then, 0 | 1 | 3) {
            run.epoch(std::mem::take(&mut epoch), keys);
            let lines = expected(&rows);
            let mut sums: HashMap<String, i64> = HashMap::new();
            lines.iter().for_each(|row| *sums.entry(line(row)).or_default() += 1);
            assert_eq!(zset(output, run.emitted.clone()), sums);
        }
        if matches!(step.then, 1 | 3) {
            run.checkpoint();
        }
        if step.then == 1 {
            run.restart(&make);
        }
    }
}

/// Adds a change to the last batch of its input, or begins a new one.
fn push(epoch: &mut Vec<(usize, ChangeBatch)>, input: usize, change: ChangeBatch, cut: bool) {
    match epoch.last_mut() {
        Some((last, batch)) if *last == input && !cut => {
            *batch = concat(batch.schema(), vec![change, batch.clone()]).unwrap();
        }
        _ => epoch.push((input, change)),
    }
}

fn line(row: &[Option<i64>]) -> String {
    let cells: Vec<String> = row
        .iter()
        .map(|cell| cell.map_or_else(|| "NULL".to_owned(), |value| value.to_string()))
        .collect();
    cells.join(" ")
}

struct Run<O> {
    operators: Vec<O>,
    stores: Vec<Store>,
    emitted: Vec<ChangeBatch>,
}

impl<O: Operator> Run<O> {
    fn epoch(&mut self, batches: Vec<(usize, ChangeBatch)>, keys: &[Vec<usize>]) {
        let mut out = Output::default();
        for (input, batch) in batches.into_iter().rev() {
            let parts = partition_by_key(&batch, &keys[input], self.operators.len()).unwrap();
            for (operator, part) in self.operators.iter_mut().zip(parts) {
                operator.on_changes(input, part, &mut out).unwrap();
                move_some(operator);
            }
        }
        for operator in &mut self.operators {
            operator.on_epoch_end(&EpochInfo::default(), &mut out).unwrap();
            move_some(operator);
        }
        self.emitted.extend(out.take());
    }

    fn checkpoint(&mut self) {
        for (operator, store) in self.operators.iter_mut().zip(&mut self.stores) {
            let changed = operator.changed_rows();
            let deltas = operator.checkpoint().unwrap();
            assert!(deltas.iter().map(StateDelta::row_count).sum::<usize>() <= changed);
            assert_eq!(operator.changed_rows(), 0);
            store.apply(operator, deltas);
        }
    }

    fn restart(&mut self, make: impl Fn(usize) -> O) {
        for (index, operator) in self.operators.iter_mut().enumerate() {
            *operator = make(index);
            self.stores[index].restore(operator);
        }
    }
}

/// A schema of `Int64` columns.
pub(super) fn ints(names: &[&str]) -> SchemaRef {
    let columns: Vec<_> =
        names.iter().map(|name| (*name, arrow::datatypes::DataType::Int64)).collect();
    Arc::clone(&crate::dataflow::operators::testing::schema(&columns))
}

/// The rows as an append-only stream has them: no step retracts.
pub(super) fn append_only(steps: &[Step]) -> Vec<Step> {
    let inserts = steps.iter().cloned().map(|step| Step { retracts: false, ..step });
    inserts.collect()
}
