//! Laws of [`Materialize`], [`UpsertTable`] and [`TopN`].

use std::collections::BTreeMap;

use arrow::array::UInt32Array;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_expr::PhysicalSortExpr;
use proptest::prelude::*;

use super::stream::{Rows, Step, append_only, check, ints, steps};
use crate::change::{ChangeBatch, UpsertBatch, UpsertOp, latest_by_key, take_rows};
use crate::dataflow::operators::testing::{Store, changes, column, schema, zset};
use crate::dataflow::operators::{
    EpochInfo, FormerRows, Materialize, Operator, Output, TopN, TopNSpec, UpsertTable,
};

proptest! {
    #[test]
    fn materializes_as_batch(steps in steps(1, 2), instances in 1..4_usize, is_append_only: bool) {
        let steps = if is_append_only { append_only(&steps) } else { steps };
        let writers = std::cell::Cell::new(0);
        let rows = ints(&["a", "b"]);
        let make = |_| {
            let writer = writers.replace(writers.get() + 1);
            Materialize::try_new(rows.clone(), is_append_only, None, writer).unwrap()
        };
        let keys = vec![vec![0, 1]];
        let schemas = std::slice::from_ref(&rows);
        check(&steps, schemas, &rows, &keys, instances, make, |rows| rows[0].clone());
    }

    #[test]
    fn takes_first_rows_as_batch(
        steps in steps(1, 2),
        offset in 0..3_usize,
        limit in 0..5_usize,
        is_append_only: bool,
    ) {
        let steps = if is_append_only { append_only(&steps) } else { steps };
        let rows = ints(&["a", "b"]);
        let options = SortOptions { descending: true, nulls_first: false };
        let make = |_| {
            let order = vec![PhysicalSortExpr::new(column(&rows, 1), options)];
            let schema = rows.clone();
            TopN::try_new(TopNSpec { schema, is_append_only, order, offset, limit }).unwrap()
        };
        let expected = |rows: &Rows| {
            let mut sorted = rows[0].clone();
            // Descending, NULLs last; then the whole row, NULLs first.
            sorted.sort_by_key(|row| (std::cmp::Reverse(row[1]), row.clone()));
            sorted.into_iter().skip(offset).take(limit).collect()
        };
        let schemas = std::slice::from_ref(&rows);
        check(&steps, schemas, &rows, &[vec![]], 1, make, expected);
    }

    #[test]
    fn upserts_as_a_map(steps in steps(1, 3), needs_former_rows: bool) {
        check_upserts(&steps, needs_former_rows);
    }
}

/// Steps as operations on a table `k, a, b`: the last of a key wins. Without former rows, those who
/// keep the last row of each key have the table.
fn check_upserts(steps: &[Step], needs_former_rows: bool) {
    let columns = [("k", DataType::Int64), ("a", DataType::Int64), ("b", DataType::Int64)];
    let schema = schema(&columns);
    let make = || {
        let former_rows = FormerRows::default();
        former_rows.set_needed(needs_former_rows);
        UpsertTable::try_new(schema.clone(), vec![0]).unwrap().with_former_rows(former_rows)
    };
    let (mut table, mut store) = (make(), Store::default());
    let mut expected: BTreeMap<i64, [Option<i64>; 2]> = BTreeMap::new();
    let (mut out, mut emitted) = (Output::default(), Vec::new());
    let mut batch: Vec<(String, UpsertOp, bool)> = Vec::new();
    for step in steps {
        let key = step.row[0].unwrap_or(0);
        // A NULL in column a stands for a value that the source did not send.
        let (mut values, is_unchanged) = ([step.row[1], step.row[2]], step.row[1].is_none());
        let op = match (step.retracts, step.then) {
            (true, 11) => UpsertOp::Truncate,
            (true, _) => UpsertOp::Delete,
            (false, _) => UpsertOp::Upsert,
        };
        let cell = |value: Option<i64>| value.map_or("NULL".into(), |value| value.to_string());
        let line = format!("+ {key} {} {}", cell(values[0]), cell(values[1]));
        batch.push((line, op, is_unchanged && op == UpsertOp::Upsert));
        match op {
            UpsertOp::Upsert => {
                if is_unchanged {
                    values[0] = expected.get(&key).and_then(|old| old[0]);
                }
                expected.insert(key, values);
            }
            UpsertOp::Delete => _ = expected.remove(&key),
            UpsertOp::Truncate => expected.clear(),
        }
        if step.then <= 4 {
            table.on_upserts(upserts(&schema, std::mem::take(&mut batch)), &mut out).unwrap();
        }
        if step.then <= 1 {
            table.on_epoch_end(&EpochInfo::default(), &mut out).unwrap();
            emitted.extend(out.take());
            if !needs_former_rows {
                emitted = vec![last_rows(&schema, &emitted)];
            }
            let lines = expected
                .iter()
                .map(|(key, [a, b])| (format!("{key} {} {}", cell(*a), cell(*b)), 1_i64));
            assert_eq!(zset(&schema, emitted.clone()), lines.collect());
            let stored = table.snapshot().batches(None).unwrap();
            let stored = stored.into_iter().map(ChangeBatch::inserts).collect();
            assert_eq!(zset(&schema, stored), zset(&schema, emitted.clone()));
        }
        if step.then == 1 {
            let changed = table.changed_rows();
            let deltas = table.checkpoint().unwrap();
            assert_eq!(deltas.iter().map(|delta| delta.row_count()).sum::<usize>(), changed);
            store.apply(&table, deltas);
            table = make();
            store.restore(&mut table);
        }
    }
}

/// The rows that changes leave to those who keep the last row of each key.
fn last_rows(schema: &SchemaRef, changes: &[ChangeBatch]) -> ChangeBatch {
    let latest = latest_by_key(schema, changes, &[0]).unwrap();
    let there = (0..latest.num_rows() as u32).filter(|row| latest.weight(*row as usize) > 0);
    let there = UInt32Array::from_iter_values(there);
    ChangeBatch::inserts(take_rows(latest.rows(), &there).unwrap())
}

fn upserts(schema: &SchemaRef, batch: Vec<(String, UpsertOp, bool)>) -> UpsertBatch {
    let lines: Vec<&str> = batch.iter().map(|(line, _, _)| line.as_str()).collect();
    let rows = changes(schema, &lines.join("\n")).into_parts().0;
    let ops = batch.iter().map(|(_, op, _)| *op).collect();
    let marks = batch.iter().map(|(_, _, is_unchanged)| *is_unchanged).collect();
    UpsertBatch::try_new(rows, ops, vec![None, Some(marks), None]).unwrap()
}
